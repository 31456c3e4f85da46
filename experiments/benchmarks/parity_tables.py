"""The tables of `attack_parity`: strength and cost, ours beside the peers'."""

from typing import Any

from experiments.benchmarks.ours import BATCH, Entry
from jaxdefense.reporting import Table

COLUMNS = ("ours", "foolbox", "torchattacks", "ART")
NORMS = {"linf": "l-inf", "l2": "l2", "l1": "l1"}


def text(rows: list[dict], meta: dict[str, Any], fmt: str) -> str:
    """Both tables of every network and norm.

    Args:
        rows: of `attack_parity`: network, attack, norm, radii, entries by library, verdict.
        meta: what was run, on what.
        fmt: as `Table.text` takes it.
    """
    parts = [_preface(meta)]
    pairs = list(dict.fromkeys((row["network"], row["norm"]) for row in rows))
    for which in pairs:
        some = [row for row in rows if (row["network"], row["norm"]) == which]
        parts += [_strength(some, meta).text(fmt), _cost(some).text(fmt)]
    return "\n".join(parts)


def line(row: dict) -> str:
    """One row as one line."""
    cells = [f"{name} {_cell(row['entries'][name])}" for name in COLUMNS if name in row["entries"]]
    verdict = "no peer" if row["verdict"] is None else str(row["verdict"])
    where = f"{row['network']} {NORMS[row['norm']]} " + "/".join(f"{r:g}" for r in row["radii"])
    return f"{where} {row['attack']}: {', '.join(cells)}: {verdict}"


def _preface(meta: dict) -> str:
    where = ", ".join([meta["device"], *map(" ".join, meta["versions"].items())])
    threads = "" if meta["threads"] is None else f" Peers on {meta['threads']} thread(s)."
    return (
        "Robust accuracy % at each radius; for minimum-norm attacks before it the median norm (0 "
        "where wrong without attack, inf where the attack fails). What is wrong without attack "
        "counts as broken. Each radius on its own, without what was found at another. v: images "
        "outside the ball or the box, which count as failures. Verdict: ours minus the strongest "
        "peer at the worst radius, and median of ours above the best peer's.\n\n"
        "Cost per example over all radii together: gradients + forward passes, then wall seconds "
        "for all examples; in brackets what ours takes before that to compile and to run "
        f"{BATCH} rows (none: the program of a network of the same shape was there).{threads}\n\n"
        f"{meta['command']}\n\n{where}\n"
    )


def _strength(rows: list[dict], meta: dict) -> Table:
    network, norm = rows[0]["network"], rows[0]["norm"]
    about, repeats = meta["networks"][network], meta["config"]["repeats"]
    radii = " / ".join(f"{r:g}" for r in rows[0]["radii"])
    trained = f", adversarially trained at l-inf {about['eps']:g}" if about["eps"] else ""
    caption = (
        f"### {network} ({about['model']}{trained}), {NORMS[norm]}: robust accuracy % at {radii}; "
        f"n = {about['n']}, clean {100 * about['clean_accuracy']:.1f}"
        + (f", mean of {repeats} runs" if repeats > 1 else "")
    )
    body = tuple(
        (
            row["attack"],
            *(_cell(row["entries"].get(name)) for name in COLUMNS),
            "no peer" if row["verdict"] is None else str(row["verdict"]),
        )
        for row in rows
    )
    return Table(caption, ("attack", *COLUMNS, "verdict"), body, 1)


def _cost(rows: list[dict]) -> Table:
    caption = f"Cost, {rows[0]['network']}, {NORMS[rows[0]['norm']]}"
    names = [c for name in COLUMNS for c in (f"{name}: gradients + forwards", "seconds")]
    body = tuple(
        (row["attack"], *(c for name in COLUMNS for c in _spent(row["entries"].get(name))))
        for row in rows
    )
    return Table(caption, ("attack", *names), body, 1)


def _cell(entry: Entry | None) -> str:
    if entry is None:
        return "-"
    median = "" if entry.median is None else f"{entry.median:.4g}: "
    wrong = f" ({entry.violations} v)" if entry.violations else ""
    return median + " / ".join(f"{100 * a:.1f}" for a in entry.accuracy) + wrong


def _spent(entry: Entry | None) -> tuple[str, str]:
    if entry is None:
        return "-", "-"
    first = "" if entry.first is None else f" ({entry.first:.1f})"
    return f"{entry.gradients:.0f} + {entry.forwards:.0f}", f"{entry.seconds:.1f}{first}"
