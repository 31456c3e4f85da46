"""Can a result be trusted? AutoAttack's checks of the function under attack, as data."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdefense import checks, losses
from jaxdefense.attacks.attack import Attack
from jaxdefense.attacks.probe import Goal, make_probe
from jaxdefense.classifiers import Static, apply, fold, is_random, join, split
from jaxdefense.evaluation.devices import batched, everywhere, with_memory
from jaxdefense.evaluation.robustness import Robustness
from jaxdefense.geometry import Ball, linf
from jaxdefense.jaxprs import equations
from jaxdefense.precision import float32_products
from jaxdefense.typing import Classifier, Images, Keys, Labels, Radii, example_keys

# Operations through which no gradient flows, or another than that of the forward pass.
_BLOCKS = {"round", "floor", "ceil", "sign", "argmax", "argmin", "stop_gradient"}
_HOST = {"pure_callback", "io_callback", "custom_vjp_call", "custom_vjp_call_jaxpr"}
_LOOPS = {"while", "scan"}


class Check(NamedTuple):
    """One finding.

    Attributes:
        name: what was checked.
        outcome: "pass", "fail" (the robust accuracy may be too high) or "note" (worth knowing).
        value: the number measured, or None.
        limit: what it may be at most, or None.
        says: in words, with what to do.
    """

    name: str
    outcome: str
    value: float | None
    limit: float | None
    says: str


def reliability(
    deployed: Classifier,
    x: Images | np.ndarray,
    y: Labels | np.ndarray,
    key: jax.Array,
    *,
    eps: float,
    ball: Ball = linf,
    curve: Robustness | None = None,
    averaged: bool = True,
    batch_size: int | None = None,
) -> tuple[Check, ...]:
    """Whether the gradients of a function can be relied on (Croce and Hein 2020, arXiv 2003.01690).

    Args:
        deployed: any callable ``x -> logits``.
        x: images ``[n, h, w, c]`` in [0, 1]; a few hundred are enough.
        y: labels ``[n]``.
        key: for starts and random defences.
        eps: radius of the random start at which gradients are looked at.
        ball: of that radius.
        curve: a sweep of `attacks.standard`; then also whether Square found what the gradients
            did not.
        averaged: whether a random function was, or is to be, attacked through the gradients of
            many draws; if not, its check of randomness fails.
        batch_size: images per program call; all by default, and fewer where memory is short.

    Returns:
        `Check` records: randomness, probabilities, zero gradients, Square against gradients, what
        in the forward pass gradients may not come through, number of classes.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> rounded = lambda x: jnp.stack([v := jnp.round(x).mean((1, 2, 3)), 2 - v], -1)
        >>> x, y = jnp.full((2, 4, 4, 1), 0.3), jnp.array([1, 1])
        >>> found = reliability(rounded, x, y, jax.random.key(0), eps=0.1)
        >>> [check.name for check in found if check.outcome == "fail"]
        ['zero gradients']
    """
    checks.check_images(np.asarray(x))
    checks.check_labels(np.asarray(y), len(x))
    x, y = jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.int32)
    keys = example_keys(key, len(x))
    arrays, static = split(deployed)
    arrays = everywhere(None, arrays)
    # What was averaged of votes is a single one's.
    followed = getattr(deployed, "vote", deployed) if averaged else deployed
    moved, path = split(followed)
    moved = everywhere(None, moved)
    # A CPU has no end of memory that could be caught.
    most = 32 if jax.default_backend() == "cpu" else len(x)
    rows = min(batch_size or most, len(x))

    def logits(index: np.ndarray) -> np.ndarray:
        given = static, arrays, keys[index], x[index]
        return np.stack([_logits(*given[:2], fold(given[2], i), given[3]) for i in range(5)], 1)

    def flat(index: np.ndarray) -> jax.Array:
        at = keys[index], x[index], y[index], jnp.full(len(index), eps)
        return _zero(path, ball, moved, *at)

    with float32_products():
        passes = with_memory(lambda rows: batched(logits, len(x), rows), rows).swapaxes(0, 1)
        zero = _zero_gradients(lambda: with_memory(lambda rows: batched(flat, len(x), rows), rows))
    found = [
        _randomness(list(passes), np.asarray(y), declared=is_random(deployed), averaged=averaged),
        _probabilities(passes[0]),
        _gradients(zero),
        _forward(static, arrays, keys[:rows], x[:rows]),
        _classes(passes[0].shape[-1]),
    ]
    if curve is not None:
        found.append(_square(curve))
    return tuple(found)


@functools.partial(jax.jit, static_argnums=0)
def _logits(static: Static, arrays: list[jax.Array], keys: Keys, x: Images) -> jax.Array:
    return apply(join(arrays, static), keys, x)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _zero(static: Static, ball: Ball, arrays, keys: Keys, x: Images, y: Labels, eps: Radii):
    """Where cross-entropy or DLR has no gradient at all at a random point of the ball."""
    start = ball.project(x, x + ball.sample(keys, x, eps), eps)
    zero = jnp.zeros(len(x), bool)
    for loss in (losses.cross_entropy, losses.dlr):
        probe = make_probe(loss, join(arrays, static))
        zero |= ~probe.differentiate(keys, start, Goal(y, y))[1].any((1, 2, 3))
    return zero


def single_draws(attack: Attack, deployed: Classifier, attacked: Classifier) -> tuple[str, ...]:
    """What to say of an attack that follows a random function's single draws; mostly nothing."""
    if attacked is not deployed or not is_random(deployed) or not attack.cost.gradients:
        return ()
    return (
        "the function is random and the attack followed the gradients of single draws, which is "
        "weak: give it means over draws, surrogate=jaxdefense.eot(deployed, 20)",
    )


def undefined_losses(attack: Attack, classes: Callable[[], int]) -> tuple[str, ...]:
    """What to say of an attack whose losses are undefined for so few classes; mostly nothing."""
    used = {stage.loss for stage in attack.stages} & {losses.dlr, losses.dlr_towards}
    if not used or (count := classes()) >= 4 or (count == 3 and losses.dlr_towards not in used):
        return ()
    return (_classes(count).says,)


def _randomness(
    passes: list[np.ndarray], y: np.ndarray, *, declared: bool, averaged: bool
) -> Check:
    unit = [z / np.maximum(np.linalg.norm(z, axis=-1, keepdims=True), 1e-12) for z in passes]
    spread = max(float(np.linalg.norm(z - unit[0], axis=-1).max()) for z in unit)
    hits = {int((z.argmax(-1) == y).sum()) for z in passes}
    changes = spread > 1e-4 or len(hits) > 1
    if declared:
        weak = changes and not averaged
        says = "random, as it says: use version='rand' and gradients averaged by eot()"
        if weak:
            says = "random, but attacked along single draws, which is weak: use version='rand'"
        return Check("randomness", "fail" if weak else "note", spread, 1e-4, says)
    says = (
        f"answers differ between passes ({sorted(hits)} correct): wrap it in Randomized"
        if changes
        else "five passes agree"
    )
    return Check("randomness", "fail" if changes else "pass", spread, 1e-4, says)


def _probabilities(logits: np.ndarray) -> Check:
    inside = bool((logits >= 0).all() and (logits <= 1).all())
    off = float(np.abs(logits.sum(-1) - 1).max())
    bad = inside and off < 1e-5
    says = (
        "outputs are probabilities: attack the logits, softmax hides the gradient"
        if bad
        else "outputs are no probabilities"
    )
    return Check("probabilities", "fail" if bad else "pass", off, 1e-5, says)


def _zero_gradients(measure: Callable[[], np.ndarray]) -> np.ndarray | str:
    try:
        return measure()
    except jax.errors.JaxRuntimeError:  # too little memory, say: no matter of the function
        raise
    except Exception as error:  # of a user's function: callbacks, while loops
        return (str(error).strip() or type(error).__name__).splitlines()[0]


def _gradients(zero: np.ndarray | str) -> Check:
    if isinstance(zero, str):
        says = f"cannot be differentiated ({zero}): use bpda() or attacks without gradients"
        return Check("zero gradients", "fail", 1.0, 0.0, says)
    share = float(zero.mean())
    says = (
        f"the loss has no gradient on {zero.sum()} of {len(zero)} images: use bpda() or trust "
        "Square and decision-based attacks only"
        if share
        else "every image has a gradient"
    )
    return Check("zero gradients", "fail" if share else "pass", share, 0.0, says)


def _forward(static: Static, arrays: list[jax.Array], keys: Keys, x: Images) -> Check:
    traced = jax.make_jaxpr(lambda *a: apply(join(a[0], static), a[1], a[2]))(arrays, keys, x)
    odd = sorted({e.primitive.name for e in equations(traced.jaxpr)} & (_BLOCKS | _HOST | _LOOPS))
    says = (
        f"the forward pass holds {', '.join(odd)}: loops may optimise at test time, the others "
        "stop or replace gradients"
        if odd
        else "the forward pass has no loops and nothing that stops gradients"
    )
    return Check("forward pass", "note" if odd else "pass", len(odd), 0, says)


def _classes(count: int) -> Check:
    if count >= 4:
        return Check("classes", "pass", count, None, "DLR is defined as in the paper")
    instead = "the margin takes its place" if count < 3 else "targeted, the margin takes its place"
    says = f"DLR is undefined for {count} classes: {instead}"
    return Check("classes", "note", count, None, says)


def _square(curve: Robustness) -> Check:
    share = float((curve.broken_by == "square").mean(0).max())
    says = "what Square broke had withstood every gradient" + (
        ": gradients are masked" if share > 0.002 else ""
    )
    return Check("square", "fail" if share > 0.002 else "pass", share, 0.002, says)
