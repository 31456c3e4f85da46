"""`Attack`: a record of stages that can be called; data to the sweep, a function to the rest."""

import dataclasses
import functools
import inspect
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdefense import checks
from jaxdefense.attacks.search import Cost, Stage, State, begin, run, stronger, where
from jaxdefense.classifiers import Static, apply, fold, join, split
from jaxdefense.errors import InputError
from jaxdefense.geometry import Ball
from jaxdefense.losses import Targeted
from jaxdefense.precision import float32_products
from jaxdefense.typing import Classifier, Flags, Images, Keys, Labels, Radii, as_keys

# Keeps the keys of stages apart from the keys of steps, which are folded in from 0 upwards.
_STAGE = 2**20


@dataclasses.dataclass(frozen=True)
class Attack:
    """Stages tried one after another, each on what the earlier ones left standing.

    Called, it is one pure function, jit- and vmap-able:
    ``attack(keys, classifier, x, y, eps) -> x_adv``.

    Args:
        name: as it stands in tables, for example ``"pgd-40"``.
        stages: see `Stage`.
        ball: the ball that eps is the radius of; None where eps is not the radius of a ball
            (`gaussian` without sigma), so that success at one eps says nothing about another.
        minimal: whether it returns the closest fooling point, so that one run with ``eps=inf``
            serves every radius.
        labels: names of the stages' attacks, for saying which one broke an example.
        on_grid: whether it returns 8-bit images and needs clean ones; see `controls.eight_bit`.
    """

    name: str
    stages: tuple[Stage, ...]
    ball: Ball | None
    minimal: bool = False
    labels: tuple[str, ...] = ()
    on_grid: bool = False

    def __post_init__(self) -> None:
        if not self.labels:
            object.__setattr__(self, "labels", (self.name,) * len(self.stages))

    def __call__(
        self,
        keys: Keys,
        classifier: Classifier,
        x: Images | np.ndarray,
        y: Labels | np.ndarray,
        eps: Radii | float,
    ) -> Images:
        """The strongest adversarial images found, within eps of x and in [0, 1].

        Args:
            keys: one key, or one for each example ``[b]``.
            classifier: any callable ``x -> logits``.
            x: images ``[b, h, w, c]`` in [0, 1]; of half precision they are made float32 first.
            y: labels ``[b]`` (int); for a targeted loss the targets.
            eps: radii ``[b]`` or one number, in pixel units. Rows with eps 0 come back unchanged.

        Returns:
            x_adv ``[b, h, w, c]``. Check it before you trust it: `jaxdefense.sweep` does.

        Raises:
            InputError: shapes that do not fit together; pixels that are not floats in [0, 1]; an
                eps that is negative or in 0-255 units; labels that are not classes; a seed in
                place of a key. Values are not looked at inside jit.

        Example:
            >>> import jax, jax.numpy as jnp, jaxdefense as jd
            >>> classifier = lambda x: jnp.stack([x.sum((1, 2, 3)), 8 - x.sum((1, 2, 3))], -1)
            >>> attack = jd.attacks.fgsm(jd.linf)
            >>> x = jnp.full((1, 4, 4, 1), 0.3)  # sum 4.8 > 3.2: class 0
            >>> x_adv = attack(jax.random.key(0), classifier, x, jnp.array([0]), 0.1)
            >>> round(float(x_adv.mean()), 4)
            0.2
        """
        x, y = jnp.asarray(x), jnp.asarray(y)
        if x.ndim != 4 or not len(x):
            raise InputError(f"x has shape {x.shape}, but images are [b, h, w, c], at least one")
        if y.shape[:1] != x.shape[:1]:
            raise InputError(f"{len(x)} images but labels of shape {y.shape}: give one per image")
        checks.check_dtype(x.dtype)
        if not isinstance(x, jax.core.Tracer):
            with jax.ensure_compile_time_eval():  # also where jit closes over the images
                low, high = float(jnp.nanmin(x)), float(jnp.nanmax(x))
            checks.check_range(low, high)
        # Half precision cannot tell 1/255 from its neighbours near 1.
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        if not isinstance(eps, jax.core.Tracer):
            checks.check_radii(np.atleast_1d(np.asarray(eps)), self.ball, x[0].size)
        eps = jnp.asarray(eps, x.dtype).ravel()
        if eps.size not in (1, len(x)):
            raise InputError(f"{len(x)} images but {eps.size} radii: give one, or one each")
        eps = jnp.broadcast_to(eps, x.shape[:1])
        keys = as_keys(keys, len(x))
        arrays, static = split(classifier)
        if not isinstance(y, jax.core.Tracer) and y.ndim == 1:
            _check_labels(y, static, arrays, keys, x)
        with float32_products():
            return _call(self, static, arrays, keys, x, y, eps)

    @property
    def cost(self) -> Cost:
        """Evaluations per example of a full run, without early exit."""
        return sum((stage.cost for stage in self.stages), Cost())

    @property
    def groups(self) -> list[tuple[int, int]]:
        """Runs of equal stages as (first, one past the last): restarts, or targets in turn."""
        ends = [i + 1 for i, (a, b) in enumerate(itertools.pairwise(self.stages)) if a != b] + [
            len(self.stages)
        ]
        return list(zip([0, *ends], ends, strict=False))

    @property
    def settings(self) -> str:
        """All that decides what the attack does, as one line."""
        of = lambda s: f"{s.search.settings} steps={s.steps} {named(s.loss)} {named(s.target)}"
        return "; ".join([self.name, *map(of, self.stages)])

    def __repr__(self) -> str:
        return f"Attack({self.name})" if self.ball is None else f"Attack({self.name}, {self.ball})"


def named(function: Any) -> str:
    """A name on which results on disk may rest, or one with an address, on which they may not."""
    if isinstance(function, Targeted):
        return f"targeted {named(function.loss)}"
    if isinstance(getattr(function, "settings", None), str):
        return function.settings
    plain = inspect.isfunction(function) and function.__closure__ is None
    if plain and "<" not in function.__qualname__:
        return f"{function.__module__}.{function.__qualname__}"
    return "none" if function is None else f"{function!r} at 0x{id(function):x}"


def check_attack(attack: Any) -> None:
    """What is given as an attack must be one.

    Raises:
        InputError: anything else, such as what makes attacks.
    """
    if not isinstance(attack, Attack):
        raise InputError(
            f"attack is {attack!r}, but must be an Attack: call what makes one, for example "
            "jaxdefense.attacks.pgd()"
        )


def _check_labels(y: Labels, static: Static, arrays, keys: Keys, x: Images) -> None:
    if not jnp.issubdtype(y.dtype, jnp.integer):
        raise InputError(f"y has dtype {y.dtype}, but labels are integers: use y.astype(int)")
    logits = _answers.eval_shape(static, arrays, keys, x)  # traced once for each shape
    checks.check_output(logits)
    with jax.ensure_compile_time_eval():
        low, high = int(y.min()), int(y.max())
    if logits.ndim == 2 and not 0 <= low <= high < logits.shape[-1]:
        raise InputError(
            f"y has labels from {low} to {high}, but the classifier has {logits.shape[-1]} classes "
            f"(0 to {logits.shape[-1] - 1})"
        )


@functools.partial(jax.jit, static_argnums=0)
def _answers(static: Static, arrays: list[jax.Array], keys: Keys, x: Images) -> jax.Array:
    return apply(join(arrays, static), keys, x)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _call(
    attack: Attack,
    static: Static,
    arrays: list[jax.Array],
    keys: Keys,
    x: Images,
    y: Labels,
    eps: Radii,
) -> Images:
    return launch(attack, keys, join(arrays, static), x, y, eps)[0].best


def launch(
    attack: Attack,
    keys: Keys,
    classifier: Classifier,
    x: Images,
    y: Labels,
    eps: Radii,
    active: Flags | None = None,
    groups: tuple[tuple[int, int], ...] | None = None,
    score: Callable[[Images], Flags] | None = None,
) -> tuple[State, Cost]:
    """All stages, or some groups of them, as one traceable function.

    Args:
        attack: what to run.
        keys, classifier, x, y, eps: as in `Attack.__call__`.
        active: rows worth attacking, where success ends the work on a row; see `run`.
        groups: which of `Attack.groups` to run; all by default.
        score: whether images fool what counts, where that is not the classifier: every stage's
            image is asked about, so that no repeat or target goes unseen for another.

    Returns:
        The best over all stages, and the evaluations each row took ``[b]``.
    """
    standing = lambda state: None if active is None else active & ~state.fooled

    def attempt(first: int, index: int | jax.Array, state: State, spent: Cost):
        stage, keys_here = attack.stages[first], stage_keys(keys, index)
        found, cost = run(stage, keys_here, classifier, x, y, eps, standing(state), index - first)
        if score is not None:
            found = found._replace(fooled=score(found.best))
        if score is not None and attack.minimal and attack.ball is not None:
            # What fools here may be what the search took for a failure, by its margin.
            length = attack.ball.norm(found.best - x)
            found = found._replace(ahead=jnp.where(found.fooled, -length, found.ahead))
        better = stronger(found, state)
        if active is not None:
            better &= active & ~state.fooled
        choose = lambda new, old: where(better, new, old)
        return jax.tree.map(choose, found._replace(inner=()), state), spent + cost

    state, spent = begin(x), Cost(*jnp.zeros((2, len(x)), jnp.int32))
    for first, stop in attack.groups if groups is None else groups:
        if stop == first + 1:
            state, spent = attempt(first, first, state, spent)
        else:  # one compiled stage, however often it is repeated

            def again(index, carry, first=first):
                state, total = carry
                state, total = attempt(first, index, state, Cost(*total))
                return state, (total.gradients, total.forwards)

            carry = (state, (spent.gradients, spent.forwards))
            state, total = jax.lax.fori_loop(first, stop, again, carry)
            spent = Cost(*total)
    return state._replace(best=where(eps > 0, state.best, x)), spent


def stage_keys(keys: Keys, index: int | jax.Array) -> Keys:
    """The first stage gets the keys as they are, so that ``strongest(a) == a`` bit for bit."""
    data = jax.random.key_data
    first = jnp.asarray(index) == 0
    chosen = jnp.where(first, data(keys), data(fold(keys, _STAGE + index)))
    return jax.random.wrap_key_data(chosen, impl=jax.random.key_impl(keys))
