"""What predictions of several papers' scripts are told with."""

from collections.abc import Callable, Sequence

from experiments.pooling import Cell
from experiments.publish import Prediction


def prediction(text: str, held: Sequence[bool | None], told: Sequence[str]) -> Prediction:
    """Fails where a part of it does, else is not to be told where a part is not.

    Args:
        text: what was predicted.
        held: of each part that was measured, whether it held; None where that is not to be told.
        told: the numbers.
    """
    came_out = False if False in held else None if None in held or not held else True
    return Prediction(text, came_out, "; ".join(told) + "." if told else "")


def at_most(cell: Cell, limit: float) -> bool | None:
    """Whether no more is left than that; None where more is, but the interval reaches it."""
    return True if cell.value <= limit else None if cell.low <= limit else False


def agreed(parts: Sequence[bool]) -> bool | None:
    """What all seeds say; None where they disagree, or there are none."""
    return parts[0] if len(set(parts)) == 1 else None


def compare(holds: Callable[[float, float], bool], one: Cell, other: Cell) -> bool | None:
    """Whether something holds between two means and of every seed that both have.

    None where seeds disagree with each other or with the means.
    """
    seeds = [seed for seed in one.by_seed if seed in other.by_seed]
    pairs = [(one.by_seed[seed], other.by_seed[seed]) for seed in seeds]
    return agreed([holds(*pair) for pair in ((one.value, other.value), *pairs)])


def by_seed(one: Cell, other: Cell) -> str:
    """Two accuracies in a sentence, of every seed that both have."""
    both = ((v, other.by_seed[seed]) for seed, v in one.by_seed.items() if seed in other.by_seed)
    return ", ".join(f"{100 * first:.1f} and {100 * second:.1f}" for first, second in both)


def percent(*cells: Cell) -> str:
    """Accuracies in a sentence."""
    return " and ".join(f"{100 * cell.value:.1f}" for cell in cells) + " %"
