"""An audit on disk: JSON for programs, Markdown for a repository, one HTML file for people."""

import base64
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from matplotlib import image as plain

from jaxdefense.auditing import Audit
from jaxdefense.auditing.result import summary

from .charts import Line, chart
from .images import difference, verdict
from .records import ensure_folder, jsonable, versions, write_atomically
from .surfaces import surface_panels

# Curves that stand for themselves, in the order of their colours after the worst case.
_SHOWN = ("undefended", "oblivious", "white-box")


def write_audit(
    folder: str | Path, audit: Audit, meta: Mapping[str, Any] | None = None
) -> tuple[Path, Path, Path]:
    """Writes audit.json, audit.md and audit.html.

    The page holds all it shows and loads nothing; it reads on a phone and in print. Its curves tell
    their numbers where one points at them, its tables sort.

    Args:
        folder: made if it is not there.
        audit: from `jaxdefense.audit`.
        meta: more to say of how it was measured.

    Returns:
        Paths of the three.

    Raises:
        InputError: a folder that cannot be written.
    """
    folder = ensure_folder(folder)
    told = audit.to_json()
    told["meta"] = {**told["meta"], "versions": versions(), **(meta or {})}
    told = jsonable(told, "audit")
    text = json.dumps(told, indent=1, ensure_ascii=False)
    paths = tuple(folder / f"audit.{kind}" for kind in ("json", "md", "html"))
    write_atomically(paths[0], text + "\n")
    write_atomically(paths[1], audit.to_markdown())
    write_atomically(paths[2], _page(audit, told, text))
    return paths  # type: ignore[return-value]


def environment() -> jinja2.Environment:
    """Templates, with all text escaped."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("jaxdefense.reporting"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _page(audit: Audit, told: dict[str, Any], text: str) -> str:
    worst = told["worst"]
    lines = [Line("worst case", worst["robust_accuracy"], worst["interval"], bold=True)]
    for outcome in told["outcomes"]:
        if outcome["name"] in _SHOWN:
            name = {"undefended": "undefended, white-box"}.get(outcome["name"], outcome["name"])
            lines.append(Line(name, outcome["robust_accuracy"], outcome["interval"]))
    proven = told["certificate"]
    if proven:
        lines.append(Line("certified", proven["accuracy"], proven["interval"], bold=True))
    claims = [(v["eps"], v["accuracy"], v["outcome"]) for v in told["verdicts"]]
    return environment().get_template("audit.html.j2").render(
        audit=told,
        summary=summary(audit),
        doubts=audit.doubts,
        warned=audit.warnings,
        chart=chart(audit.norm, told["radii"], lines, claims),
        radii=[f"{radius:.4g}" for radius in told["radii"]],
        examples=_examples(audit),
        surface=_surface(audit),
        meta=[(name.replace("_", " "), _text(value)) for name, value in told["meta"].items()],
        json=_inline("application/json", text.encode()),
    )  # fmt: skip


def _examples(audit: Audit) -> dict[str, Any] | None:
    shown = audit.examples
    if not shown:
        return None
    title, changed = difference(shown["x"], shown["x_adv"])
    columns = {"clean": shown["x"], "attacked": shown["x_adv"], title: changed}
    if "purified" in shown:
        columns |= {
            "clean, purified": shown["purified"], "attacked, purified": shown["purified_adv"]
        }  # fmt: skip
    labels = [int(label) for label in shown["y"]]
    answers = {"clean": shown["clean_answer"], "attacked": shown["answer"]}
    rows = [
        [
            {
                "source": _image(images[i]),
                "alt": f"{name}, label {label}",
                "caption": verdict(label, int(answers[name][i])) if name in answers else "",
            }
            for name, images in columns.items()
        ]
        for i, label in enumerate(labels)
    ]
    return {"titles": list(columns), "rows": rows, "by": str(shown["by"])}


def _image(image: np.ndarray) -> str:
    pixels = np.clip(image, 0, 1)
    # Of what is neither grey nor in colours the first channel.
    pixels = np.repeat(pixels[..., :1], 3, -1) if pixels.shape[-1] < 3 else pixels[..., :3]
    file = io.BytesIO()
    plain.imsave(file, np.round(255 * pixels).astype(np.uint8), format="png")
    return _inline("image/png", file.getvalue())


def _surface(audit: Audit) -> str | None:
    if audit.surface is None:
        return None
    offsets, loss = audit.surface
    file = io.BytesIO()
    surface_panels({"": (offsets.tolist(), loss)}).savefig(file, format="png", dpi=150)
    return _inline("image/png", file.getvalue())


def _inline(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(item)}" for name, item in value.items()) or "none"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
