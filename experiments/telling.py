"""What predictions of several papers' scripts are told with."""

from experiments.pooling import Cell
from experiments.publish import Prediction


def prediction(text: str, held: list[bool], told: list[str]) -> Prediction:
    """Holds where every part of it does; was not measured where no part was."""
    return Prediction(text, all(held) if held else None, "; ".join(told) + "." if told else "")


def percent(*cells: Cell) -> str:
    """Accuracies in a sentence."""
    return " and ".join(f"{100 * cell.value:.1f}" for cell in cells) + " %"
