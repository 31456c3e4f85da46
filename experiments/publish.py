"""What a paper's script leaves behind: records, answers, figures and one page that shows them.

``<output>/results/`` holds it all, small enough to commit; checkpoints and sweeps lie beside it.
"""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from experiments import studies
from experiments.answers import Answer
from experiments.legend import FORETOLD, LEGEND, attacks_named
from experiments.measuring import WARNING
from experiments.paper_numbers import PAPERS
from experiments.pooling import over_seeds
from experiments.side_by_side import side_by_side, undefended
from jaxdefense.errors import DataError
from jaxdefense.reporting import (
    Record,
    Table,
    accuracies,
    ensure_folder,
    read_json,
    save,
    versions,
    write_atomically,
    write_json,
)

ANSWERS, RECORDS, PAGE = "answers.json", "results.json", "README.md"


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What should break or hold before anything was measured, and what did.

    Attributes:
        text: the prediction.
        held: None where it was not measured, or where what was measured does not tell.
        evidence: the deciding numbers; empty where it was not measured.
    """

    text: str
    held: bool | None
    evidence: str


@dataclasses.dataclass(frozen=True)
class Outcome:
    """All that a paper's script found.

    Attributes:
        paper: a key of `PAPERS`.
        title: authors, year and name of the paper.
        question: what the paper claims, or how it attacks, in a sentence or two.
        findings: what came out, a sentence each.
        setting: what was trained and attacked, and where that is not what the paper has.
        records: every measured cell.
        answers: to the printed numbers.
        headlines: which of them the paper rests on; they stand in the table over all papers.
        predictions: see `Prediction`.
        tables: further ones; text is shown as it is.
        figures: file name without suffix, caption, figure.
    """

    paper: str
    title: str
    question: str
    findings: Sequence[str]
    setting: str
    records: Sequence[Record]
    answers: Sequence[Answer]
    headlines: Sequence[Answer]
    predictions: Sequence[Prediction] = ()
    tables: Sequence[Table | str] = ()
    figures: Sequence[tuple[str, str, Any]] = ()


def publish(outcome: Outcome, config: Any, folder: Path) -> Path:
    """Writes everything below ``folder / "results"`` and says on the console what was found.

    Args:
        outcome: what was found.
        config: the dataclass that decided it.
        folder: of the run.

    Returns:
        The page, ``README.md``.
    """
    results = ensure_folder(folder / "results")
    spent, cells = studies.spent(folder), set(map(_cell, outcome.records))
    meta = _meta(PAPERS[outcome.paper], config, results / RECORDS, spent, cells)
    write_json(results / RECORDS, list(outcome.records), meta)
    told = {
        "meta": meta,
        "title": outcome.title,
        "question": outcome.question,
        "findings": list(outcome.findings),
        "setting": outcome.setting,
        "answers": [_plain(a, a in outcome.headlines) for a in outcome.answers],
        "predictions": [dataclasses.asdict(p) for p in outcome.predictions],
    }
    write_atomically(results / ANSWERS, json.dumps(told, indent=1) + "\n")
    for name, _, figure in outcome.figures:
        save(figure, results / name, dpi=120)[1].unlink()
    page = results / PAGE
    write_atomically(page, _page(outcome, meta))
    print(f"\n{side_by_side(outcome.answers).text('simple')}\n\n{_summary(outcome)}\n")
    print(f"page    {page}\nanswers {results / ANSWERS}\nrecords {results / RECORDS}")
    return page


def _meta(script: str, config: Any, path: Path, seconds: float, cells: set) -> dict[str, Any]:
    device, commit = jax.devices()[0], _commit()
    settings = dataclasses.asdict(config)
    for name in ("data_dir", "output"):  # say where, not what
        settings.pop(name, None)
    settings = json.loads(json.dumps(settings))
    with contextlib.suppress(DataError, OSError):
        found, before = read_json(path)
        if before.get("config") == settings:
            old = before.get("commit", "")
            if set(map(_cell, found)) == cells:  # what draws again measures nothing
                seconds, commit = before["wall_seconds"], old
            elif old:  # the rest was measured before
                commit = ", ".join(dict.fromkeys([*old.split(", "), commit]))
    return {
        "command": f"python -m experiments.{script} {_arguments()}".strip(),
        "device": f"{jax.device_count()} x {device.device_kind} ({device.platform})"
        + f", {os.cpu_count()} cores" * (device.platform == "cpu"),
        "wall_seconds": round(seconds, 1),
        "commit": commit,
        "versions": versions(),
        "config": settings,
    }


def _cell(record: Record) -> tuple[Any, ...]:
    """Which cell a record is of, whatever was measured there."""
    about = (record.dataset, record.model, record.defence, record.attack, record.knowledge)
    return (*about, record.norm, record.eps, record.metric, record.seed)


def _commit() -> str:
    """Of the working tree that runs, with a plus where it has changed; empty where unknown."""
    ask = lambda *words: subprocess.run(
        ("git", *words), cwd=Path(__file__).parent, capture_output=True, text=True, check=True
    ).stdout.strip()
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        changed = ask("status", "--porcelain", "--untracked-files=no")
        return ask("rev-parse", "--short", "HEAD") + "+" * bool(changed)
    return ""


def _arguments() -> str:
    """The command line without names of folders."""
    shown, hide = [], False
    for argument in sys.argv[1:]:
        if hide:
            shown.append("DIR")
        elif argument.startswith(("--data-dir=", "--output=")):
            shown.append(argument.partition("=")[0] + "=DIR")
        else:
            shown.append(argument)
        hide = argument in ("--data-dir", "--output")
    return " ".join(shown)


def _plain(answer: Answer, headline: bool) -> dict[str, Any]:
    return {
        "number": dataclasses.asdict(answer.number),
        "cells": {
            column: {
                name: None if value != value else value
                for name, value in dataclasses.asdict(cell).items()
                if name != "by_seed"  # `RECORDS` has it
            }
            for column, cell in answer.cells.items()
        },
        "verdict": answer.verdict,
        "reason": answer.reason,
        "headline": headline,
    }


def _page(outcome: Outcome, meta: dict[str, Any]) -> str:
    provenance = dict.fromkeys(record.provenance for record in outcome.records)
    minutes = meta["wall_seconds"] / 60
    bare = undefended(outcome.answers)
    lines = [
        f"# {outcome.title}",
        _summary(outcome),
        f"`{meta['command']}`, {minutes:.0f} minutes on {meta['device']}"
        + (f", commit {meta['commit']}" if meta.get("commit") else "")
        + "; "
        + ", ".join(f"{name} {version}" for name, version in meta["versions"].items())
        + ".",
        *([f"## Undefended\n\n{bare.text('pipe')}"] if bare else []),
        "## Paper and ours, side by side",
        side_by_side(outcome.answers).text("pipe"),
        LEGEND,
        attacks_named(outcome.records),
    ]
    if outcome.predictions:
        lines += ["## Predictions", FORETOLD]
        told = (f"- **{_came_out(p)}**: {p.text} {p.evidence}" for p in outcome.predictions)
        lines.append("\n".join(told))
    if outcome.figures:
        lines.append("## Figures")
        lines += [f"![{caption}]({name}.png)\n\n{caption}" for name, caption, _ in outcome.figures]
    if outcome.tables:
        lines.append("## Further tables")
        lines += [t if isinstance(t, str) else t.text("pipe") for t in outcome.tables]
    measured = [r for r in over_seeds(outcome.records) if r.metric == "accuracy"]
    lines += ["## Every measured cell, over all seeds", accuracies(measured).text("pipe")]
    lines += _warnings(outcome.records)
    lines += ["## Data", "\n".join(f"- {line}" for line in provenance)]
    settings = ", ".join(f"{name} {value}" for name, value in meta["config"].items())
    lines += ["## Settings", settings]
    return "\n\n".join(line.strip() for line in lines) + "\n"


def _summary(outcome: Outcome) -> str:
    found = "\n".join(f"- {finding}" for finding in outcome.findings)
    return "\n\n".join(filter(None, (outcome.question, found, outcome.setting)))


def _came_out(prediction: Prediction) -> str:
    if prediction.held is None:
        return "not to be told" if prediction.evidence else "not measured"
    return "held" if prediction.held else "did not hold"


def _warnings(records: Sequence[Record]) -> list[str]:
    """What the sweeps warned of, and in which cells."""
    found: dict[str, dict[str, None]] = {}
    for record in records:
        for text in filter(None, record.note.split(WARNING)[1:]):
            cell = f"{record.attack} on {record.defence} ({record.dataset}, {record.knowledge})"
            found.setdefault(text.strip(), {})[cell] = None
    lines = [f"- {text}: {', '.join(cells)}" for text, cells in found.items()]
    return ["## Warnings", "\n".join(lines)] if lines else []
