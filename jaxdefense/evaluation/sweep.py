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
from jaxdefense.evaluation.clean import clean_correct, count_classes, keys_at
from jaxdefense.evaluation.reliability import undefined_losses
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
from jaxdefense.surrogates import averages, evaluations
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
    if attack.on_grid:
        checks.check_grid(images)
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
    attacked = deployed if surrogate is None else surrogate
    # A batch of a surrogate that averages draws holds them all at once.
    rows = max(1, rows // evaluations(attacked))
    # Success on the attacked function ends the work on a row only if it is what is scored.
    early_exit = white_box and not is_random(deployed) and not attack.minimal
    program = _Program(attack, attacked, deployed, early_exit=early_exit)
    # A minimum-norm attack runs once, without a radius; its norms are the whole curve.
    columns = np.array([np.inf], np.float32) if attack.minimal else grid
    pairs = np.stack(
        np.nonzero((columns > 0)[:, None] & correct), -1
    )  # by radius: (column, example)
    if attack.minimal and not (grid > 0).any():
        pairs = pairs[:0]
    broken = np.zeros((len(images), len(columns)), bool)
    norms = np.zeros(broken.shape)
    by = np.full(broken.shape, -1)
    gradients = violations = 0
    forwards = len(images)  # the clean pass
    attempts = len(pairs)
    groups = [(group,) for group in attack.groups] if early_exit else [tuple(attack.groups)]
    bar = tqdm(
        total=attempts * len(groups),
        desc=attack.name,
        unit="row",
        disable=None if progress is None else not progress,
        leave=False,
        dynamic_ncols=True,
    )
    with bar, float32_products():
        for index, group in enumerate(groups):  # each on what the earlier ones left standing
            # Of what is given, not of what is left: other parameters must fit the same program.
            size = min(rows, len(images) * len(columns))
            for chunk in _chunks(images, labels, pairs, columns, key, size):
                found = program(chunk, group)
                keep = chunk.real
                x_adv = found.x_adv[keep]
                column, example = pairs[chunk.rows].T
                clean, eps = images[example], columns[column]
                if attack.ball is None:
                    valid = ((x_adv >= 0) & (x_adv <= 1)).reshape(len(x_adv), -1).all(-1)
                    length = eps
                else:
                    valid = inside64(attack.ball, clean, x_adv, eps)
                    length = norm64(attack.ball, clean, x_adv)
                    if is_random(deployed) and not attack.minimal:
                        # What fools a random function once need not do so at another radius.
                        length = eps
                violations += int((~valid).sum())
                success = found.fooled[keep] & valid
                norms[example, column] = length
                broken[example, column] = success
                # Stages that ran together answer together.
                stage = group[0][0] if early_exit else len(attack.labels)
                by[example, column] = np.where(success, stage, -1)
                gradients += int(found.gradients[keep].sum())
                forwards += int(found.forwards[keep].sum())
                bar.update(len(example) + int(success.sum()) * (len(groups) - index - 1))
            pairs = pairs[~broken[pairs[:, 1], pairs[:, 0]]]
    if attack.minimal:
        everywhere = np.where(correct, np.where(broken, norms, np.inf)[:, 0], 0.0)
        within = [_within(attack.ball, norms, r, images[0].size) for r in grid]
        broken = broken & np.concatenate(within, axis=1)
        norms, by = (np.repeat(a, len(grid), axis=1) for a in (norms, by))

    robust, raw, smallest, distance = summarize(
        broken, norms, correct, grid, nested=attack.ball is not None
    )
    if attack.minimal:
        distance = everywhere
    norm = "sigma" if attack.ball is None else attack.ball.name
    knowledge = "white-box" if white_box or averages(attacked, deployed) else "surrogate"
    return Robustness(
        radii=grid,
        robust_accuracy=robust,
        interval=interval(np.rint(robust * len(images)).astype(int), len(images)),
        smallest_radius=smallest,
        distance=distance,
        raw_accuracy=raw,
        clean_accuracy=float(correct.mean()),
        evaluations=Evaluations(gradients, forwards),
        broken_by=np.where(
            correct[:, None] & (smallest[:, None] <= grid if attack.ball else broken),
            _names(attack, broken, by, np.minimum(norms, grid)),
            "",
        ),
        n=len(images),
        attack=attack.name,
        norm=norm,
        knowledge=knowledge if attack.cost.gradients else "none",
        seed=tuple(int(word) for word in np.asarray(jax.random.key_data(key)).ravel()),
        violations=violations,
        warnings=(
            *suspicions(raw, robust, grid, labels, norm, violations, attempts),
            *undefined_losses(attack, lambda: count_classes(attacked, images, key)),
        ),
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
    real: np.ndarray
    rows: slice


def _chunks(images, labels, pairs, columns, key, size) -> Iterator[_Chunk]:
    # By radius: rows at one radius fall at about the same step, and the loop ends with them.
    total = len(pairs)
    for start in range(0, total, size):
        index = np.arange(start, start + size)
        real = index < total
        radius, chosen = pairs[np.minimum(index, total - 1)].T
        yield _Chunk(
            keys=keys_at(key, jnp.asarray(chosen)),
            x=jnp.asarray(images[chosen]),
            y=jnp.asarray(labels[chosen]),
            eps=jnp.asarray(columns[radius]),
            active=jnp.asarray(real),
            real=real,
            rows=slice(start, min(start + size, total)),
        )


def _names(attack: Attack, broken: np.ndarray, by: np.ndarray, reach: np.ndarray) -> np.ndarray:
    """Which attack broke each example at each radius; where balls are nested, the nearest find."""
    nearest = np.take_along_axis(by, np.where(broken, reach, np.inf).argmin(1)[:, None], axis=1)
    stage = np.where(broken, by, nearest)
    return np.array([*attack.labels, attack.name, ""])[stage]


def _within(ball, norms: np.ndarray, radius: float, pixels: int) -> np.ndarray:
    """Whether perturbations of these norms lie in the ball, up to rounding; as `inside64`."""
    return norms <= radius * (1 + 4 * np.finfo(np.float32).eps) + ball.slack(pixels) * (radius > 0)


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

    def __call__(self, chunk: _Chunk, groups: tuple[tuple[int, int], ...]) -> _Found:
        (attacked, attacked_static), (scored, scored_static) = self.surrogate, self.deployed
        found = _attack_and_score(
            self.attack, groups, attacked_static, scored_static, self.early_exit,
            attacked, scored, *chunk[:5],
        )  # fmt: skip
        return _Found(*map(np.asarray, found))


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _attack_and_score(
    attack: Attack,
    groups: tuple[tuple[int, int], ...],
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
    standing = active if early_exit else None
    state, spent = launch(attack, keys, surrogate, x, y, eps, standing, groups)
    logits = apply(deployed, fold(keys, _SCORE), state.best)
    fooled = (logits.argmax(-1) != y) | jnp.isnan(logits).any(-1)
    times = evaluations(surrogate)
    return state.best, fooled & active, spent.gradients * times, spent.forwards * times + 1
