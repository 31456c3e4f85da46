"""Objectives that take turns within one training."""

from collections.abc import Sequence

import flax.struct

from jaxdefense.errors import InputError
from jaxdefense.training.objectives import Objective


@flax.struct.dataclass
class Turns:
    """Objectives that take turns; made by `in_turn`, taken by `fit`.

    Attributes:
        objectives: in their order within a step.
        states: which of the optimizer's states each of them has: 0, 1, ...
    """

    objectives: tuple[Objective, ...]
    states: tuple[int, ...] = flax.struct.field(pytree_node=False)


def in_turn(*objectives: Objective, states: Sequence[int] | None = None) -> Turns:
    """One step of training is one update for each objective, in order, on the same batch.

    Each place has its own copy of the optimizer's state, unless ``states`` says otherwise. So a
    parameter that one objective does not depend on gets no share in that objective's moments and is
    not moved by its updates (except by weight decay, which moves every parameter in every turn:
    choose an optimizer without), and schedules count steps as in any other training. Repeat an
    objective to give it more updates.

    Args:
        *objectives: at least one. Where two report a metric of the same name, the later one's is
            noted.
        states: for each objective, which copy it has: ``(0, 0, 1)`` gives the first two one in
            common, as a network that is updated twice for each update of another one's needs.

    Returns:
        What `fit` takes for an objective: a training by `in_turn(objective)` is one by `objective`.

    Raises:
        InputError: no objective; states that are not one number for each, from 0 without a gap.

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
    chosen = tuple(range(len(objectives)) if states is None else states)
    if len(chosen) != len(objectives) or set(chosen) != set(range(max(chosen, default=-1) + 1)):
        raise InputError(
            f"states is {chosen} for {len(objectives)} objectives, but each needs one number, and "
            "the numbers go from 0 upwards without a gap, such as (0, 0, 1)"
        )
    return Turns(objectives, chosen)
