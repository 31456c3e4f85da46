"""How cells are named and grouped, once for tables, figures and the report."""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any

from .records import Record

NORMS = {"linf": "l-inf", "l2": "l2", "l1": "l1", "sigma": "sigma"}
KNOWLEDGE = {
    "oblivious": "gradients of the classifier alone",
    "white-box": "gradients through the deployed function, defence included",
}
_ACRONYMS = {"fgsm", "bim", "mifgsm", "pgd", "apgd", "fab", "ddn", "fmn", "spsa", "eot", "bpda"}
_CONTEXT = ("experiment", "dataset", "model", "metric", "seed")


def distinct(records: Iterable[Record], field: str) -> list[Any]:
    """The values of one field, each once, in order of appearance."""
    return list(dict.fromkeys(getattr(record, field) for record in records))


def varying(records: Sequence[Record]) -> list[str]:
    """Which of experiment, dataset, model, metric and seed differ among the records."""
    return [field for field in _CONTEXT if len(distinct(records, field)) > 1]


def undefended_in_both(records: Sequence[Record]) -> list[Record]:
    """The records, with the undefended model's cells under both kinds of knowledge.

    Without a defence the classifier alone is the deployed function, so the oblivious and the
    white-box attacker are one, and a comparison of the two needs its cell on both sides.
    """
    both = list(records)
    compared = {(r.attack, r.norm, r.knowledge) for r in records}
    measured = {_cell(r) for r in records}
    for r in records:
        other = {"oblivious": "white-box", "white-box": "oblivious"}.get(r.knowledge)
        if r.defence == "none" and other and (r.attack, r.norm, other) in compared:
            twin = dataclasses.replace(r, knowledge=other)
            if _cell(twin) not in measured:
                both.append(twin)
    return both


def attack_name(attack: str) -> str:
    """An attack's name as the field writes it: ``"pgd-40"`` becomes ``"PGD-40"``."""
    if attack == "none":
        return "clean"
    name = "-".join(part.upper() if part in _ACRONYMS else part for part in attack.split("-"))
    return name.replace("gaussian", "Gaussian")


def radius_name(eps: float) -> str:
    """A radius as short as it is exact: ``"0.3"``, ``"8/255"``."""
    short = f"{eps:.3g}"
    if math.isclose(float(short), eps, rel_tol=1e-6):
        return short
    in_255 = round(255 * eps)
    return f"{in_255}/255" if math.isclose(in_255 / 255, eps, rel_tol=1e-6) else f"{eps:.6g}"


def unit_name(norm: str) -> str:
    """The name and unit of a radius: ``"eps (l-inf, pixels in [0, 1])"``."""
    if norm == "sigma":
        return "sigma (pixels in [0, 1])"
    return f"eps ({NORMS.get(norm, norm)}, pixels in [0, 1])"


def _cell(record: Record) -> tuple:
    context = tuple(getattr(record, field) for field in _CONTEXT)
    cell = (record.defence, record.attack, record.knowledge, record.norm, radius_name(record.eps))
    return (*context, *cell)
