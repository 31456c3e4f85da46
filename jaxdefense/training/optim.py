"""Optimizers, learning-rate schedules and compute dtypes by name, thin over optax and jax."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxdefense.errors import InputError, UnknownNameError

_SCHEDULES = ("constant", "cosine", "piecewise")
_OPTIMIZERS = ("adam", "adamw", "sgd")
_PRECISIONS = ("auto", "bfloat16", "float32")


def schedule(name: str, lr: float, total_steps: int, warmup: int = 0) -> optax.Schedule:
    """Learning rate as a function of the step.

    Args:
        name: ``"constant"``; ``"cosine"``, down to zero (arXiv 1608.03983); ``"piecewise"``,
            divided by ten at 50 % and at 75 % of the steps (He et al., arXiv 1512.03385).
        lr: the peak learning rate.
        total_steps: steps of the whole training, warm-up included.
        warmup: steps of a linear rise from zero.

    Raises:
        UnknownNameError: no schedule has this name.
        InputError: a learning rate that is not positive, or no step left after the warm-up.

    Example:
        >>> round(float(schedule("piecewise", 0.1, total_steps=100)(60)), 6)
        0.01
    """
    if name not in _SCHEDULES:
        raise UnknownNameError("schedule", name, _SCHEDULES)
    if not 0 < lr < float("inf"):
        raise InputError(f"the learning rate is {lr}, but it must be positive and finite")
    if not 0 <= warmup < total_steps:
        raise InputError(
            f"{warmup} warm-up steps do not fit into {total_steps} steps: "
            "warm up for fewer steps, or train longer"
        )
    rest = total_steps - warmup
    if name == "constant":
        main = optax.constant_schedule(lr)
    elif name == "cosine":
        main = optax.cosine_decay_schedule(lr, rest)
    else:
        drops = {total_steps // 2 - warmup: 0.1, total_steps * 3 // 4 - warmup: 0.1}
        main = optax.piecewise_constant_schedule(lr, drops)
    if warmup == 0:
        return main
    return optax.join_schedules([optax.linear_schedule(0.0, lr, warmup), main], [warmup])


def optimizer(
    name: str,
    learning_rate: float | optax.Schedule,
    *,
    weight_decay: float = 0.0,
    momentum: float = 0.9,
) -> optax.GradientTransformation:
    """An optax optimizer by name.

    Args:
        name: ``"adam"``, ``"adamw"`` or ``"sgd"`` (with momentum).
        learning_rate: a number or a `schedule`.
        weight_decay: decoupled from the gradient for ``"adamw"``; added to it for ``"sgd"``, as is
            usual for residual networks; ``"adam"`` has none.
        momentum: of ``"sgd"``; 0 for none.

    Raises:
        UnknownNameError: no optimizer has this name.
        InputError: weight decay with ``"adam"``, or a negative setting.

    Example:
        >>> import jax
        >>> state = optimizer("sgd", 0.1, weight_decay=5e-4).init({"w": jax.numpy.zeros(2)})
    """
    if name not in _OPTIMIZERS:
        raise UnknownNameError("optimizer", name, _OPTIMIZERS)
    if weight_decay < 0 or not 0 <= momentum < 1:
        raise InputError(
            f"weight_decay is {weight_decay} and momentum {momentum}, but weight decay must not be "
            "negative and momentum must be in [0, 1)"
        )
    if name == "adam":
        if weight_decay > 0:
            raise InputError("adam has no weight decay: use adamw, which decouples it")
        return optax.adam(learning_rate)
    if name == "adamw":
        return optax.adamw(learning_rate, weight_decay=weight_decay)
    return optax.chain(
        optax.add_decayed_weights(weight_decay),
        optax.sgd(learning_rate, momentum=momentum or None),
    )


def compute_dtype(precision: str = "auto") -> Any:
    """The ``dtype`` to build a model with.

    Args:
        precision: ``"float32"``, ``"bfloat16"``, or ``"auto"``: bfloat16 on a GPU or TPU, float32
            on a CPU, where bfloat16 convolutions are no faster. Parameters stay float32 either way.

    Raises:
        UnknownNameError: another name.

    Example:
        >>> compute_dtype("float32").__name__
        'float32'
    """
    if precision not in _PRECISIONS:
        raise UnknownNameError("precision", precision, _PRECISIONS)
    if precision == "auto":
        precision = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return jnp.bfloat16 if precision == "bfloat16" else jnp.float32
