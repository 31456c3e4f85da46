"""What training carries from step to step, and the pure step that carries it."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdefense.classifiers import Static, join, split
from jaxdefense.convolutions import canonicalize
from jaxdefense.errors import InputError
from jaxdefense.training.objectives import Metrics, Objective
from jaxdefense.training.turns import Turns
from jaxdefense.typing import PyTree


@flax.struct.dataclass
class TrainState:
    """Everything that a step changes.

    Attributes:
        params: what the optimizer changes.
        model_state: other variables, such as batch statistics.
        opt_state: state of the optimizer; with `Turns`, a tuple of as many as they have.
        step: int32, steps taken.
        bad_step: int32, the first step whose loss or result was not finite; -1 while there is none.
            It is kept on the device so that the host need not wait for every step.
        totals: sums of the metrics over the steps of this epoch.
    """

    params: PyTree
    model_state: PyTree
    opt_state: optax.OptState
    step: jax.Array
    bad_step: jax.Array
    totals: Metrics

    @property
    def variables(self) -> PyTree:
        """The variables of the model as ``model.apply`` takes them."""
        return {"params": self.params, **self.model_state}


Step = Callable[[TrainState, jax.Array, jax.Array, jax.Array, jax.Array], TrainState]


def init_state(
    objective: Objective | Turns,
    optimizer: optax.GradientTransformation,
    variables: PyTree,
    x: jax.ShapeDtypeStruct,
    y: jax.ShapeDtypeStruct,
) -> TrainState:
    """The state before the first step.

    Args:
        objective: gives the names of the metrics, by tracing it on shapes only.
        optimizer: an optax optimizer.
        variables: ``{"params": ..., ...}``; copied, since a step overwrites its state in place.
        x: shape and dtype of one batch of images as the objective sees it.
        y: shape and dtype of its labels.
    """
    variables = jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), dict(variables))
    params = variables.pop("params")
    key = jax.eval_shape(lambda: jax.random.key(0))
    metrics: Metrics = {}
    for each in _turns(objective):
        metrics |= jax.eval_shape(each, params, variables, key, x, y)[1][1]
    count = max(objective.states) + 1 if isinstance(objective, Turns) else 1
    states = tuple(optimizer.init(params) for _ in range(count))
    return TrainState(
        params=params,
        model_state=variables,
        opt_state=states if isinstance(objective, Turns) else states[0],
        step=jnp.zeros((), jnp.int32),
        bad_step=jnp.full((), -1, jnp.int32),
        totals={name: jnp.zeros((), jnp.float32) for name in metrics},
    )


def make_step(
    objective: Objective | Turns, optimizer: optax.GradientTransformation, batch_size: int
) -> Step:
    """The compiled training step ``(state, key, order, x, y) -> state``.

    Data are arguments, not constants: uint8 images ``[n, h, w, c]`` and labels ``[n]`` stay on the
    device, ``order`` is this epoch's permutation, and the step number picks the batch. Randomness
    is ``fold_in(key, step)``, so a step is a function of the state and nothing before it.

    Turns are updates one after another within a step: in a branch that picks one of them the
    gradients of convolutions would be left as they are, many times slower on a CPU.

    Objectives that differ by the arrays they hold only (another seed's purifier) share a program.
    """
    arrays, static = split(objective)
    # A restored checkpoint is bound to its device, what was just trained is not: one program still.
    free = [jnp.asarray(np.asarray(array)) for array in arrays]
    return functools.partial(_compiled(static, optimizer, batch_size), free)


def make_steps(
    objectives: Sequence[Objective | Turns],
    optimizer: optax.GradientTransformation,
    batch_size: int,
) -> Step:
    """As `make_step`, for several trainings in one program.

    Every argument has a leading axis of trainings.

    Raises:
        InputError: objectives that differ by more than the arrays they hold.
    """
    parts = [split(objective) for objective in objectives]
    if any(static != parts[0][1] for _, static in parts):
        raise InputError(
            "objectives of trainings in one program may differ by the arrays they hold only, but "
            "these are different functions: make them by the same calls (a lambda is a new "
            "function each time)"
        )
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(arrays for arrays, _ in parts))
    return functools.partial(_compiled(parts[0][1], optimizer, batch_size, many=True), stacked)


@functools.lru_cache(maxsize=32)
def _compiled(
    static: Static, optimizer: optax.GradientTransformation, batch_size: int, many: bool = False
) -> Any:
    def step(
        arrays: list[jax.Array], state: TrainState, key: jax.Array, order: jax.Array,
        images: jax.Array, labels: jax.Array,
    ) -> TrainState:  # fmt: skip
        objective = join(arrays, static)
        position = state.step % (order.shape[0] // batch_size)
        rows = jax.lax.dynamic_slice_in_dim(order, position * batch_size, batch_size)
        x, y = images[rows].astype(jnp.float32) / 255, labels[rows]
        key = jax.random.fold_in(key, state.step)
        params, model_state = state.params, state.model_state
        several = isinstance(objective, Turns)
        opt_states = list(state.opt_state) if several else [state.opt_state]
        places = objective.states if isinstance(objective, Turns) else (0,)
        metrics: Metrics = {}
        losses = []
        for turn, (each, place) in enumerate(zip(_turns(objective), places, strict=True)):
            slope = jax.value_and_grad(each, has_aux=True)
            # 1.1 to 1.8 times as fast on a CPU; a debugger without jit sees the values as ever.
            plain = jax.config.jax_disable_jit  # type: ignore[attr-defined]
            if jax.default_backend() == "cpu" and not plain:
                slope = canonicalize(slope, often=False)
            (loss, (model_state, found)), gradients = slope(
                params, model_state, jax.random.fold_in(key, turn) if turn else key, x, y
            )
            updates, opt_states[place] = optimizer.update(gradients, opt_states[place], params)
            params = optax.apply_updates(params, updates)
            losses.append(loss)
            metrics |= found
        bad = (state.bad_step < 0) & ~_all_finite((losses, params, model_state))
        return TrainState(
            params=params,
            model_state=model_state,
            opt_state=tuple(opt_states) if several else opt_states[0],
            step=state.step + 1,
            bad_step=jnp.where(bad, state.step + 1, state.bad_step),
            totals={
                name: jnp.where(position == 0, 0.0, total) + metrics[name]
                for name, total in state.totals.items()
            },
        )

    return jax.jit(jax.vmap(step) if many else step, donate_argnums=1)


def _turns(objective: Objective | Turns) -> tuple[Objective, ...]:
    return objective.objectives if isinstance(objective, Turns) else (objective,)


def _all_finite(tree: PyTree) -> jax.Array:
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves]).all()
