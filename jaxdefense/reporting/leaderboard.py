"""One page over many audits."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxdefense.auditing.claims import HOLDS
from jaxdefense.auditing.result import SCHEMA
from jaxdefense.errors import DataError

from .audits import environment
from .records import write_atomically


def write_leaderboard(path: str | Path, runs: Sequence[str | Path]) -> Path:
    """Writes one HTML page over many audits: sortable, with filters, loading nothing.

    Every audit has a row for each claim, or one for its largest radius where it has none.

    Args:
        path: of the page.
        runs: folders with an audit.json, or such files; each row links to the audit.html beside.

    Returns:
        The path.

    Raises:
        DataError: a file that is missing or no audit of this version.
    """
    path = Path(path)
    rows = [row for run in runs for row in _rows(_found(Path(run)), path.parent)]
    rows.sort(key=lambda row: (row["data"], row["norm"], row["eps"], -row["robust"]))
    filters = {
        name: sorted({row[name] for row in rows})
        for name in ("data", "norm", "outcome", "knowledge", "budget")
    }
    page = environment().get_template("leaderboard.html.j2").render(rows=rows, filters=filters)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, page)
    return path


def _found(run: Path) -> Path:
    return run / "audit.json" if run.is_dir() else run


def _rows(path: Path, base: Path) -> list[dict[str, Any]]:
    try:
        told = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} is no audit ({error}): name folders that `jaxdefense audit` wrote"
        ) from None
    if not isinstance(told, dict) or told.get("schema") != SCHEMA:
        raise DataError(f"{path} is not of the schema {SCHEMA}: make the audit again")
    claims = told["verdicts"] or [
        {
            "eps": told["radii"][-1], "accuracy": None, "outcome": "no claim",
            "robust_accuracy": told["worst"]["robust_accuracy"][-1],
            "interval": told["worst"]["interval"][-1], "decided_by": "",
        }
    ]  # fmt: skip
    page = path.with_name("audit.html")
    kinds = {o["name"]: o["kind"] for o in told["outcomes"]}
    return [
        {
            "name": told["name"],
            "link": _relative(page, base) if page.exists() else "",
            "data": told["meta"].get("about", "").partition(",")[0] or "not said",
            "norm": told["norm"],
            "eps": claim["eps"],
            "clean": told["clean_accuracy"],
            "claimed": claim["accuracy"],
            "robust": claim["robust_accuracy"],
            "interval": claim["interval"],
            "outcome": claim["outcome"],
            "decided_by": claim["decided_by"],
            "knowledge": _knowledge(claim, kinds),
            "budget": told["budget"],
            "n": told["n"],
        }
        for claim in claims
    ]


def _knowledge(claim: Mapping[str, Any], kinds: Mapping[str, str]) -> str:
    """What holds has withstood them all; what does not, the one that decided."""
    if claim["outcome"] == HOLDS:
        return "all"
    # A check may have the name of an attacker.
    by_attacker = claim.get("decided_kind", "attacker") == "attacker"
    return kinds.get(claim["decided_by"], "none") if by_attacker else "none"


def _relative(page: Path, base: Path) -> str:
    try:
        return page.resolve().relative_to(base.resolve()).as_posix()
    except ValueError:
        return page.resolve().as_uri()
