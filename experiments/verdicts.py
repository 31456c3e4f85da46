"""What becomes of a printed accuracy once ours is beside it."""

from collections.abc import Mapping

from experiments.paper_numbers import Number
from experiments.pooling import Cell, is_accuracy

# A clean accuracy, or one without a defence, so close to the printed one counts as the same.
CLOSE = 0.05
# What costs our undefended classifier so much more or less than the paper's is another thing to it.
ELSEWHERE = 0.1
# From this l-inf radius every image can be made the same grey.
GREY = 0.5
LARGEST = {"TrafficSign": 0.0613, "Fingers": 1 / 6, "MNIST": 0.1135}
"""Share of the largest class of our test images, right for an answer that is always the same; of
other data sets a tenth."""
UNDEFENDED = ("none", "joint lambda=0", "alternating gamma=0")
"""What the papers call the networks that their defences are compared with."""
TUNED = ("finetuned", "run")
"""How phases begin in which the network itself is trained on attacked images: a defence, too."""
OUT_OF_REACH = "clean already below"
"""What a verdict adds where even our clean images are less often right than is printed."""
QUOTED = "quoted"
"""The verdict on numbers that a paper has from others, which it did not measure."""
MATCHED = "a control keeps as much"
"""What a verdict adds where the paper's attacker leaves no less of the best control."""


def judge(
    number: Number,
    cells: Mapping[str, Cell],
    bare: Mapping[str, Cell] | None,
    clean: Mapping[str, Cell] | None = None,
    undefended: Number | None = None,
) -> str:
    """What becomes of a printed accuracy.

    Without an attack or a defence: ``as printed`` where ours is within 5 points, else by how many
    it differs; so too where the paper prints less with the defence than without, which is no claim
    to be broken. With both, against the strongest attacker (of noise: the noise itself):
    ``holds`` where the interval reaches the printed number and is above that of the undefended
    classifier under its strongest attacker, and so is every seed; ``weakened`` where it is above
    that, and above the share of the largest class (which an answer that is always the same gets),
    but does not reach the number; ``no gain`` where it is not above that although it reaches the
    number, or more than 5 % and that share is left, else ``broken``, as is all that does not reach
    it from `GREY` upwards.
    Where nothing is left, ``holds`` is not said: ``too few images`` to tell the printed number from
    it. To ``holds`` and ``weakened`` is added how much where the paper's attacker leaves 10 points
    more of our undefended classifier than of theirs. Where noise leaves ours more than 10 points
    less than theirs, that is told in place of ``weakened`` or ``broken``, and whether there is a
    gain. `MATCHED` is added to all but ``no gain`` and ``broken`` where the paper's attacker leaves
    as much of a control;
    `OUT_OF_REACH` where our network and defence are less often right on clean images than is
    printed of attacked ones. Numbers from other papers are `QUOTED`.

    Args:
        number: the printed one.
        cells: our measurements of it, by column.
        bare: the same of the undefended classifier, where there are any.
        clean: the same of the defence without an attack, where there are any.
        undefended: what is printed without a defence.
    """
    if not is_accuracy(number.metric) or "as attacked" not in cells:
        return ""
    if number.note.startswith("literature"):
        return QUOTED
    claimed = undefended is None or number.fraction >= undefended.fraction
    if number.attack == "none" or is_undefended(number) or not claimed:
        gap = cells["as attacked"].value - number.fraction
        return "as printed" if abs(gap) <= CLOSE else f"{100 * gap:+.0f} points"
    last = cells.get("strongest", cells["as attacked"])
    before = (bare or {}).get("strongest", (bare or {}).get("as attacked"))
    if last.high >= number.fraction:
        if last.value == 0:
            return "too few images"
        gained = before is None or _above(last, before)
        return "holds" + _matched(cells) + _ahead(bare, undefended) if gained else "no gain"
    # From `GREY` upwards what is left are images of the largest class.
    noise = number.attack == "gaussian"
    near = noise or number.radius < GREY
    gained = before is not None and _above(last, before)
    gap = before.value - undefended.fraction if noise and before and undefended else 0.0
    unharmed = (clean or {}).get("corrected", (clean or {}).get("as attacked"))
    short = f"; {OUT_OF_REACH}" * (unharmed is not None and unharmed.high < number.fraction)
    if gap < -ELSEWHERE:
        worth = _matched(cells) if gained else "; no gain"
        return f"undefended already {100 * gap:+.0f} points{worth}{short}"
    verdict = "broken"
    # An answer that is always the same is right as often, whatever the attacker does.
    constant = LARGEST.get(number.dataset, 0.1)
    gained = gained and last.low > constant
    if near and before is not None and (gained or last.low > max(CLOSE, constant)):
        more = _matched(cells) + _ahead(bare, undefended)
        verdict = "weakened" + more if gained else "no gain"
    return verdict + short


def _above(one: Cell, other: Cell) -> bool:
    """Whether intervals and seeds are apart: images of one seed stand or fall together."""
    return one.low > other.high and one.least > other.most


def _ahead(bare: Mapping[str, Cell] | None, undefended: Number | None) -> str:
    """What is added where our undefended classifier keeps much more than the paper's."""
    if not bare or not undefended or "as attacked" not in bare:
        return ""
    gap = bare["as attacked"].value - undefended.fraction
    return f"; undefended already {100 * gap:+.0f} points" * (gap > ELSEWHERE)


def _matched(cells: Mapping[str, Cell]) -> str:
    """What is added where a control keeps as much of the same examples."""
    own, control = cells.get("corrected", cells["as attacked"]), cells.get("control")
    return f"; {MATCHED}" * (control is not None and control.value >= own.value)


def is_undefended(number: Number) -> bool:
    """Whether it is of a network that defences are compared with."""
    return number.defence in UNDEFENDED and not number.phase.startswith(TUNED)
