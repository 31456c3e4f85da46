"""A self-contained HTML report: one file that opens anywhere, without network or scripts."""

import base64
import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from jaxdefense.errors import DataError

from .cells import KNOWLEDGE, attack_name, distinct, radius_name, unit_name
from .records import Record, csv_text, jsonable, write_atomically
from .tables import Table

_TYPES = {".png": "image/png", ".svg": "image/svg+xml"}
_LABELS = {"wall_seconds": "wall time"}


def write_report(
    path: str | Path,
    title: str,
    summary: str,
    records: Sequence[Record],
    meta: Mapping[str, Any],
    figures: Sequence[tuple[str, str | Path]] = (),
    tables: Sequence[Table | str] = (),
) -> Path:
    """Write one HTML file with the answer, the tables, the figures and how it was measured.

    All text is escaped. Figures, style and the records themselves (as a CSV link) are inside the
    file; nothing is loaded from elsewhere.

    Args:
        path: the file to write.
        title: the heading.
        summary: what was asked and what came out, in about two sentences.
        records: the measured cells; they tell n, seeds, attackers, costs and data.
        meta: command, device, versions, wall_seconds, config and anything else worth stating.
        figures: caption and path of each figure, PNG or SVG.
        tables: from `comparison` and `accuracies`; text is shown as it is.

    Returns:
        The path of the report.

    Raises:
        DataError: a figure cannot be read or is neither PNG nor SVG.
        InputError: the report cannot be written, or `meta` holds something JSON cannot.

    Example:
        >>> write_report(  # doctest: +SKIP
        ...     "report.html", "Quickstart", "Does U-AE help? Only against an oblivious attacker.",
        ...     records, meta, [("Robustness curves", "curves.png")], [comparison(records, 0.3)],
        ... )
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("jaxdefense.reporting"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    html = environment.get_template("report.html.j2").render(
        title=title,
        summary=summary,
        tables=tables,
        figures=[_figure(caption, Path(figure)) for caption, figure in figures],
        stand_ins=distinct((r for r in records if r.synthetic), "dataset"),
        examples=_range(r.n for r in records),
        seeds=", ".join(map(str, distinct(records, "seed"))),
        data="; ".join(dict.fromkeys(f"{r.dataset}: {r.provenance}" for r in records)),
        attacks=_attacks(records),
        notes=_notes(records),
        meta=[(_LABELS.get(k, k.replace("_", " ")), _text(k, v)) for k, v in meta.items()],
        csv=_inline("text/csv", csv_text(records).encode()),
    )
    write_atomically(path, html)
    return Path(path)


def _figure(caption: str, path: Path) -> dict[str, Any]:
    kind = _TYPES.get(path.suffix.lower())
    if kind is None:
        raise DataError(f"figure {path} is neither .png nor .svg: save it as one of them")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read the figure {path}: {error.strerror}") from error
    if kind == "image/png" and content[12:16] != b"IHDR":
        raise DataError(f"{path} is no PNG, whatever its name says: save the figure again")
    return {"caption": caption, "source": _inline(kind, content), "width": _width(kind, content)}


def _width(kind: str, content: bytes) -> int:
    """Width in CSS pixels at which the figure's text has the size it was drawn for."""
    if kind == "image/png":
        width = struct.unpack(">I", content[16:20])[0]
        at = content.find(b"pHYs")
        per_metre = struct.unpack(">I", content[at + 4 : at + 8])[0] if at > 0 else 96 / 0.0254
        return round(width / per_metre / 0.0254 * 96)
    head = content[: content.find(b">", content.find(b"<svg"))].decode(errors="replace")
    points = head.partition('width="')[2].partition("pt")[0]
    return round(float(points) * 96 / 72) if points.replace(".", "", 1).isdigit() else 640


def _inline(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _attacks(records: Sequence[Record]) -> Table:
    """Who attacked, with what knowledge, how far and at what cost."""
    groups: dict[tuple[str, str, str], list[Record]] = {}
    for record in records:
        if record.attack != "none":
            key = (record.attack, record.knowledge, record.norm)
            groups.setdefault(key, []).append(record)
    rows = []
    for (attack, knowledge, norm), cells in groups.items():
        radii = sorted(distinct(cells, "eps"))
        ends = " to ".join(dict.fromkeys(map(radius_name, (radii[0], radii[-1]))))
        grid = ends if len(radii) == 1 else f"{len(radii)} from {ends}"
        spent = (f"{sum(getattr(r, name) for r in cells):,}" for name in ("gradients", "forwards"))
        rows.append((attack_name(attack), knowledge, unit_name(norm), grid, *spent))
    known = [f"{k}: {KNOWLEDGE[k]}" for k in KNOWLEDGE if any(k == key[1] for key in groups)]
    caption = "; ".join([*known, "evaluations are totals over all examples and defences"])
    header = ("attack", "knowledge", "radius", "values", "gradients", "forwards")
    return Table(caption[0].upper() + caption[1:] + ".", header, tuple(rows), 4)


def _notes(records: Sequence[Record]) -> list[str]:
    cells: dict[str, dict[str, None]] = {}
    for r in records:
        if r.note:
            name = f"{r.defence}, {attack_name(r.attack)} {r.knowledge}"
            cells.setdefault(r.note, {})[name] = None
    return [f"{note} ({'; '.join(names)})" for note, names in cells.items()]


def _range(numbers) -> str:
    found = sorted(set(numbers))
    return f"{found[0]:,}" + (f" to {found[-1]:,}" if len(found) > 1 else "") if found else "none"


def _text(name: str, value: Any) -> str:
    """One line for a plain value, one line per key for a dictionary."""
    value = jsonable(value, name)
    if name == "wall_seconds" and isinstance(value, int | float):
        minutes, seconds = divmod(round(value), 60)
        return f"{minutes} min {seconds} s" if minutes else f"{value:.1f} s"
    if not isinstance(value, dict):
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    texts = {
        key: item if isinstance(item, str) else json.dumps(item, ensure_ascii=False)
        for key, item in value.items()
    }
    if name == "versions":
        return ", ".join(f"{key} {text}" for key, text in texts.items())
    return "\n".join(f"{key}: {text}" for key, text in texts.items())
