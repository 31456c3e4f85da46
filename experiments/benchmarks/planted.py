"""Does the audit say what it must of defences whose worth is known beforehand?

Each claims what its author would have measured: an adversarially trained network and a smoothed one
what they keep, the others what is left when gradients are taken as they come (or of the classifier
alone). The audit must say so: nothing against the first two, *broken* of the rest.

    python -m experiments.benchmarks.planted  # scikit-learn's digits, three seeds

Exits with status 1 where an audit says anything else. Killed, it goes on after the last audit that
was finished; delete the folder to measure anew.
"""

import dataclasses
import functools
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

import jaxdefense as jd
from experiments.benchmarks.planted_cases import CASES
from experiments.benchmarks.planted_ground import Case, Config, Ground, prepare
from jaxdefense.auditing import Audit, Budget
from jaxdefense.auditing.claims import HOLDS
from jaxdefense.cli import launch
from jaxdefense.reporting import ensure_folder, versions, write_atomically
from jaxdefense.reporting.audits import write_audit
from jaxdefense.reporting.records import jsonable


def examine(ground: Ground, name: str, budget: str | Budget) -> tuple[Case, Audit]:
    """One case with its audit."""
    case = CASES[name](ground)
    defence = dataclasses.replace(case.defence, name=name)
    eps = case.claim.eps
    found = jd.audit(
        defence, ground.x, ground.y, [eps / 2, eps], ground.key, ball=case.ball, budget=budget,
        claims=[case.claim], progress=None,
    )  # fmt: skip
    return case, found


def main(config: Config) -> None:
    """Audits every planted defence and counts false alarms and misses."""
    folder, rows = ensure_folder(config.output), []
    for seed in config.seeds:
        ground = functools.cache(functools.partial(prepare, config, seed))
        for name in config.cases or CASES:
            rows.append(_row(config, ground, name, seed, folder))
            told = "{case}, seed {seed}: {verdict} ({decided by}), {seconds:.0f} s"
            print(told.format_map(rows[-1]), flush=True)
    text = _text(rows)
    print(text)
    report = {"rows": rows, "config": dataclasses.asdict(config), "versions": versions()}
    text_of = json.dumps(jsonable(report, "planted"), indent=1)
    write_atomically(folder / "planted.json", text_of + "\n")
    write_atomically(folder / "planted.md", text + "\n")
    if _wrong(rows):
        sys.exit(1)


def _row(
    config: Config, ground: Callable[[], Ground], name: str, seed: int, folder: Path
) -> dict[str, Any]:
    """One audit, written beside its row; the row alone where the same audit was finished before."""
    folder = ensure_folder(folder / f"{name.replace(' ', '-').replace(',', '')}-{seed}")
    kept = folder / "row.json"
    settings = dataclasses.replace(config, seeds=(seed,), cases=None, output="")
    told = json.loads(json.dumps(dataclasses.asdict(settings)))
    if kept.exists() and (before := json.loads(kept.read_text()))["config"] == told:
        return before["row"]
    case, found = examine(ground(), name, config.budget)
    verdict = found.verdicts[0]
    write_audit(folder, found)
    row = jsonable(
        {
            "case": name, "seed": seed, "claim": str(case.claim), "must": case.must,
            "verdict": verdict.outcome, "left": verdict.robust_accuracy,
            "decided by": verdict.decided_by,
            "failed checks": [check.name for check in found.checks if check.outcome == "fail"],
            "must fail": case.fails, "seconds": found.meta["seconds"], "n": found.n,
        },
        "planted",
    )  # fmt: skip
    write_atomically(kept, json.dumps({"row": row, "config": told}, indent=1) + "\n")
    return row


def _wrong(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        row
        for row in rows
        if row["verdict"] != row["must"]
        or (row["must fail"] and row["must fail"] not in row["failed checks"])
        or (row["must"] == HOLDS and row["failed checks"])
    ]


def _text(rows: Sequence[dict[str, Any]]) -> str:
    shown = [
        [
            row["case"], row["seed"], row["claim"], f"{100 * row['left']:.1f}", row["must"],
            row["verdict"], row["decided by"], ", ".join(row["failed checks"]), row["seconds"],
        ]
        for row in rows
    ]  # fmt: skip
    head = ["case", "seed", "claim", "left %", "must be", "verdict", "decided by", "failed checks",
            "seconds"]  # fmt: skip
    false = sum(row["must"] == HOLDS for row in _wrong(rows))
    missed = len(_wrong(rows)) - false
    table = tabulate(shown, headers=head, tablefmt="pipe", disable_numparse=True)
    return f"{table}\n\n{len(rows)} audits: {false} false alarms, {missed} misses"


if __name__ == "__main__":
    launch(main, {"digits": Config()}, default="digits")
