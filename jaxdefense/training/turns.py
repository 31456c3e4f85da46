"""Objectives that take turns within one training."""

import flax.struct

from jaxdefense.errors import InputError
from jaxdefense.training.objectives import Objective


@flax.struct.dataclass
class Turns:
    """Objectives that take turns; made by `in_turn`, taken by `fit`.

    Attributes:
        objectives: in their order within a step.
    """

    objectives: tuple[Objective, ...]


def in_turn(*objectives: Objective) -> Turns:
    """One step of training is one update for each objective, in order, on the same batch.

    Each place has its own copy of the optimizer's state. So a parameter that one objective does not
    depend on gets no share in that objective's moments and is not moved by its updates (except by
    weight decay, which moves every parameter in every turn: choose an optimizer without), and
    schedules count steps as in any other training. Repeat an objective to give it more updates.

    Args:
        *objectives: at least one. Where two report a metric of the same name, the later one's is
            noted.

    Returns:
        What `fit` takes for an objective: a training by `in_turn(objective)` is one by `objective`.

    Raises:
        InputError: no objective.

    Example:
        >>> from jaxdefense import models
        >>> from jaxdefense.training import reconstruction, supervised
        >>> model = models.build("encoder_classifier")
        >>> restore = reconstruction(model, method="reconstruct")
        >>> len(in_turn(restore, restore, supervised(model)).objectives)
        3
    """
    if not objectives:
        raise InputError("in_turn() needs at least one objective")
    return Turns(objectives)
