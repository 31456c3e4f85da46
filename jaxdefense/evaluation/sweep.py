"""The sweep: robust accuracy of a deployed function over a grid of radii."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from jaxdefense import checks
from jaxdefense.attacks.attack import Attack, launch
from jaxdefense.classifiers import Static, apply, fold, is_random, join, split
from jaxdefense.errors import InputError, UnknownNameError
from jaxdefense.evaluation.clean import clean_correct, keys_at
from jaxdefense.evaluation.robustness import (
    Evaluations,
    Robustness,
    interval,
    summarize,
    suspicions,
)
from jaxdefense.geometry import inside64, norm64
from jaxdefense.losses import Targeted
from jaxdefense.precision import float32_products
from jaxdefense.typing import Classifier, Flags, Images, Keys, Labels, Radii

# Keeps the randomness of a random defence's scoring apart from all an attack has seen.
_SCORE = 2**30

METHODS = ("grid",)


def sweep(
    attack: Attack,
    deployed: Classifier,
    x: Images | np.ndarray,
    y: Labels | np.ndarray,
    radii: Sequence[float] | np.ndarray,
    key: jax.Array,
    surrogate: Classifier | None = None,
    *,
    method: str = "grid",
    batch_size: int | None = None,
    progress: bool | None = False,
) -> Robustness:
    """Robust accuracy over a grid of radii, with each example's smallest broken radius.

    Nothing an attack returns is trusted: each image is checked (finite, in [0, 1] exactly, in the
    ball in float64 up to rounding) and scored again on the deployed function, a random one with
    fresh keys.

    Args:
        attack: any `Attack`.
        deployed: what is evaluated: any callable ``x -> logits``, for example ``Purified(ae,
            net)``, a flax nnx or equinox module in evaluation mode, ``Frozen(module, variables)``.
        x: images ``[n, h, w, c]``, float in [0, 1].
        y: labels ``[n]``, int.
        radii: the grid, in pixel units of [0, 1], in any order.
        key: ``jax.random.key(seed)``; example i uses ``fold_in(key, i)`` at every radius.
        surrogate: what the attacker differentiates; the deployed function by default (white-box).
            Passing the bare classifier of a purified one gives the oblivious attack.
        method: ``"grid"``: every (example, radius) pair from scratch, the radii folded into the
            batch of one compiled program.
        batch_size: images per program call; chosen for the backend by default. Changes the speed
            only.
        progress: show a progress bar with the time left; None: where there is a terminal.

    Returns:
        A `Robustness`; ``print`` shows its curve.

    Raises:
        InputError: images, labels, radii or logits that cannot be right; see the message.

    Example:
        >>> import jax, jax.numpy as jnp, jaxdefense as jd
        >>> classifier = lambda x: jnp.stack([x.sum((1, 2, 3)), 8 - x.sum((1, 2, 3))], -1)
        >>> x, y = jnp.full((2, 4, 4, 1), 0.3), jnp.array([0, 1])
        >>> curve = sweep(jd.attacks.fgsm(), classifier, x, y, [0.0, 0.04, 0.1], jax.random.key(0))
        >>> curve.robust_accuracy.tolist(), curve.smallest_radius.round(2).tolist()
        ([0.5, 0.5, 0.0], [0.10000000149011612, 0.0])
    """
    if any(isinstance(s.loss, Targeted) and s.target is None for s in attack.stages):
        raise InputError(
            f"{attack.name} is targeted: it takes its targets from y, but a sweep needs the true "
            "labels there. Let the stage choose its target (Stage.target), or call the attack "
            "itself with targets"
        )
    if method not in METHODS:
        raise UnknownNameError("method", method, METHODS)
    images, labels = _host(x), np.asarray(y)
    grid = np.asarray(radii, np.float32)
    checks.check_images(images)
    checks.check_labels(labels, len(images))
    checks.check_radii(grid, attack.ball, images[0].size)
    images = images.astype(np.float32)
    labels = labels.astype(np.int32)
    key = jnp.asarray(key) if not hasattr(key, "dtype") else key
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        key = jax.random.wrap_key_data(key)

    rows = batch_size or (128 if jax.default_backend() == "cpu" else 2048)
    correct = clean_correct(deployed, images, labels, key, rows)

    white_box = surrogate is None or surrogate is deployed
    if not white_box:  # its first images tell whether it returns what an attack can use
        clean_correct(surrogate, images[:rows], labels[:rows], key, rows, "surrogate")
    program = _Program(
        attack,
        deployed if white_box else surrogate,
        deployed,
        # Success on the attacked function ends the work on a row only if it is what is scored.
        early_exit=white_box and not is_random(deployed),
    )
    broken = np.zeros((len(images), len(grid)), bool)
    norms = np.zeros(broken.shape)
    gradients = violations = 0
    forwards = len(images)  # the clean pass
    attempts = int((grid > 0).sum() * correct.sum())
    bar = tqdm(
        total=attempts,
        desc=attack.name,
        unit="row",
        disable=None if progress is None else not progress,
        leave=False,
        dynamic_ncols=True,
    )
    with bar, float32_products():
        for chunk in _chunks(images, labels, correct, grid, key, rows):
            found = program(chunk)
            keep = chunk.real
            x_adv = found.x_adv[keep]
            example, column = chunk.example[keep], chunk.column[keep]
            clean, eps = images[example], grid[column]
            if attack.ball is None:
                valid = ((x_adv >= 0) & (x_adv <= 1)).reshape(len(x_adv), -1).all(-1)
                norms[example, column] = eps
            else:
                valid = inside64(attack.ball, clean, x_adv, eps)
                # What fools a random function once need not do so at another radius.
                size = eps if is_random(deployed) else norm64(attack.ball, clean, x_adv)
                norms[example, column] = size
            violations += int((~valid).sum())
            broken[example, column] = found.fooled[keep] & valid
            gradients += int(found.gradients[keep].sum())
            forwards += int(found.forwards[keep].sum())
            bar.update(len(example))

    robust, raw, smallest, distance = summarize(
        broken, norms, correct, grid, nested=attack.ball is not None
    )
    norm = "sigma" if attack.ball is None else attack.ball.name
    knowledge = "white-box" if white_box else "surrogate"
    return Robustness(
        radii=grid,
        robust_accuracy=robust,
        interval=interval(np.rint(robust * len(images)).astype(int), len(images)),
        smallest_radius=smallest,
        distance=distance,
        raw_accuracy=raw,
        clean_accuracy=float(correct.mean()),
        evaluations=Evaluations(gradients, forwards),
        n=len(images),
        attack=attack.name,
        norm=norm,
        knowledge=knowledge if attack.cost.gradients else "none",
        seed=tuple(int(word) for word in np.asarray(jax.random.key_data(key)).ravel()),
        violations=violations,
        warnings=suspicions(raw, robust, grid, labels, norm, violations, attempts),
    )


def _host(x: Any) -> np.ndarray:
    try:
        return np.asarray(x)
    except (TypeError, ValueError) as error:
        raise InputError(f"x cannot be read as an array of images [n, h, w, c]: {error}") from None


# ------------------------------------------------------------------------------------- batches


class _Chunk(NamedTuple):
    """One program call: rows are (example, radius) pairs, padded to one static size."""

    keys: Keys
    x: Images
    y: Labels
    eps: Radii
    active: Flags
    example: np.ndarray
    column: np.ndarray
    real: np.ndarray


def _chunks(images, labels, correct, grid, key, rows) -> Iterator[_Chunk]:
    # What is misclassified clean, or may not move, needs no attack. By radius: rows at one radius
    # fall at about the same step, and the loop ends with them.
    column, example = np.nonzero((grid > 0)[:, None] & correct)
    total = len(example)
    # Of what is given, not of what is correct: other parameters must fit the same program.
    rows = min(rows, len(images) * len(grid))
    for start in range(0, total, rows):
        index = np.arange(start, start + rows)
        real = index < total
        index = np.minimum(index, total - 1)
        chosen, radius = example[index], column[index]
        yield _Chunk(
            keys=keys_at(key, jnp.asarray(chosen)),
            x=jnp.asarray(images[chosen]),
            y=jnp.asarray(labels[chosen]),
            eps=jnp.asarray(grid[radius]),
            active=jnp.asarray(real),
            example=chosen,
            column=radius,
            real=real,
        )


# ------------------------------------------------------------------------------------ programs


class _Found(NamedTuple):
    x_adv: np.ndarray
    fooled: np.ndarray
    gradients: np.ndarray
    forwards: np.ndarray


class _Program:
    """One compiled program: attack the surrogate, score on the deployed function."""

    def __init__(self, attack, surrogate, deployed, *, early_exit: bool):
        self.attack, self.early_exit = attack, early_exit
        self.surrogate, self.deployed = split(surrogate), split(deployed)

    def __call__(self, chunk: _Chunk) -> _Found:
        (attacked, attacked_static), (scored, scored_static) = self.surrogate, self.deployed
        found = _attack_and_score(
            self.attack, attacked_static, scored_static, self.early_exit,
            attacked, scored, *chunk[:5],
        )  # fmt: skip
        return _Found(*map(np.asarray, found))


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _attack_and_score(
    attack: Attack,
    attacked_static: Static,
    scored_static: Static,
    early_exit: bool,
    attacked: list[jax.Array],
    scored: list[jax.Array],
    keys: Keys,
    x: Images,
    y: Labels,
    eps: Radii,
    active: Flags,
):
    surrogate, deployed = join(attacked, attacked_static), join(scored, scored_static)
    state, spent = launch(attack, keys, surrogate, x, y, eps, active if early_exit else None)
    logits = apply(deployed, fold(keys, _SCORE), state.best)
    fooled = (logits.argmax(-1) != y) | jnp.isnan(logits).any(-1)
    return state.best, fooled & active, spent.gradients, spent.forwards + 1
