"""The sweep: robust accuracy of a deployed function over a grid of radii."""

import dataclasses
import functools
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from jaxdefense import checks
from jaxdefense.attacks.attack import Attack, check_attack
from jaxdefense.classifiers import is_random
from jaxdefense.errors import InputError, UnknownNameError
from jaxdefense.evaluation import threads
from jaxdefense.evaluation.blocks import in_blocks
from jaxdefense.evaluation.clean import (
    clean_correct,
    clean_logits,
    count_classes,
    explained,
    leaves_jax,
)
from jaxdefense.evaluation.devices import with_memory
from jaxdefense.evaluation.grid import Measured, measure
from jaxdefense.evaluation.identity import identity
from jaxdefense.evaluation.nested import nested
from jaxdefense.evaluation.processes import watch
from jaxdefense.evaluation.reliability import single_draws, undefined_losses
from jaxdefense.evaluation.robustness import (
    Evaluations,
    Robustness,
    fallen_at,
    interval,
    known_radii,
    summarize,
    suspicions,
    worst,
)
from jaxdefense.geometry import limit64
from jaxdefense.losses import Targeted, margin
from jaxdefense.precision import float32_products
from jaxdefense.programs import compilations, make_room
from jaxdefense.surrogates import evaluations, knows
from jaxdefense.typing import Classifier, Images, Labels, one_key

METHODS = ("nested", "grid")


_Given = ParamSpec("_Given")


def _timed(run: Callable[_Given, Robustness]) -> Callable[_Given, Robustness]:
    @functools.wraps(run)
    def timed(*args: _Given.args, **kwargs: _Given.kwargs) -> Robustness:
        began = time.monotonic()
        with compilations() as compiled:
            result = run(*args, **kwargs)
        spent = result.evaluations
        seconds = spent.seconds + time.monotonic() - began
        compiling = spent.compiling + compiled.seconds
        spent = dataclasses.replace(spent, seconds=seconds, compiling=compiling)
        return dataclasses.replace(result, evaluations=spent)

    return timed


@_timed
def sweep(
    attack: Attack,
    deployed: Classifier,
    x: Images | np.ndarray,
    y: Labels | np.ndarray,
    radii: Sequence[float] | np.ndarray,
    key: jax.Array,
    surrogate: Classifier | None = None,
    *,
    method: str = "nested",
    batch_size: int | None = None,
    progress: bool | None = False,
    resume: str | os.PathLike[str] | None = None,
    after: Robustness | None = None,
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
        method: ``"nested"``: each example is searched for its smallest broken radius, so that many
            radii cost little more than one. It takes an attack to be no worse at larger radii: one
            in sixteen of the examples that withstand all is tried at a smaller one, and a warning
            says where that breaks them. Where success on the attacked function is not what is
            scored (a surrogate, a random defence) it goes upwards through the radii instead and
            lets examples go once they are broken. ``"grid"``: every (example, radius) pair from
            scratch, the radii folded into the batch of one compiled program; gives the raw curve.
        batch_size: images per program call. Changes the speed only. By default chosen for the
            backend, and halved where the device has not the memory.
        progress: show a progress bar with the time left; None: where there is a terminal.
        resume: a folder for finished blocks of examples. A run that was killed takes up what it
            finds there; several processes (`jax.distributed`) share the work through it, and from
            then on one that dies ends the others. Plain functions must not call the host then, as
            for `recall`.
        after: what an earlier sweep found of the same function, images and radii. Only what it
            left standing is attacked, and the result is the worst of both.

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
    check_attack(attack)
    if any(isinstance(s.loss, Targeted) and s.target is None for s in attack.stages):
        raise InputError(
            f"{attack.name} is targeted: it takes its targets from y, but a sweep needs the true "
            "labels there. Let the stage choose its target (Stage.target), or call the attack "
            "itself with targets"
        )
    key = one_key(key)
    if batch_size is not None and batch_size < 1:
        raise InputError(f"batch_size is {batch_size}, but at least one image makes a batch")
    if resume is None and jax.process_count() > 1:
        raise InputError(
            "several processes share a sweep through a folder that all can write: name it with "
            "resume= (--resume)"
        )
    if resume is not None and jax.process_count() > 1:
        watch(resume)
    if method not in METHODS:
        raise UnknownNameError("method", method, METHODS)
    make_room()
    images, labels = _host(x), np.asarray(y)
    grid = _numbers(radii)
    checks.check_images(images)
    checks.check_labels(labels, len(images))
    checks.check_radii(grid, attack.ball, images[0].size)
    if attack.on_grid:
        checks.check_grid(images)
    images = images.astype(np.float32)
    labels = labels.astype(np.int32)
    known = known_radii(after, attack.ball, len(images), grid)

    on_cpu = jax.default_backend() == "cpu"
    rows = batch_size or (128 if on_cpu else 2048)
    slots = min(batch_size or (32 if on_cpu else 2048), len(images))
    # A batch that the user has chosen is not made smaller behind their back.
    fit = with_memory if batch_size is None else lambda run, rows: run(rows)
    logits = fit(lambda rows: clean_logits(deployed, images, labels, key, rows), rows)
    correct = logits.argmax(-1) == labels
    behind = -np.asarray(margin(jnp.asarray(logits), jnp.asarray(labels)))

    white_box = surrogate is None or surrogate is deployed
    # A surrogate's first images tell whether it returns what an attack can use.
    if surrogate is not None and not white_box:
        few = max(1, rows // evaluations(surrogate))
        first = (images[:few], labels[:few], key)
        fit(lambda rows: clean_correct(surrogate, *first, rows, "surrogate"), few)
    attacked = deployed if surrogate is None else surrogate
    # Success on the attacked function ends the work on a row only if it is what is scored.
    early_exit = white_box and not is_random(deployed) and not attack.minimal
    # A minimum-norm attack runs once, without a radius; its norms are the whole curve.
    columns = np.array([np.inf], np.float32) if attack.minimal else grid
    # An infinite radius is a question, too; an image of which nothing is known has known = inf.
    below = lambda radii: (radii < known[:, None]) | np.isinf(known[:, None])
    worth = correct & ((grid > 0) & below(grid)).any(1)
    by_search = method == "nested" and early_exit and attack.ball is not None
    # How often each example is looked at.
    passes = len(attack.stages) * int(worth.sum())
    pairs = worth[:, None] & (below(columns) | attack.minimal)
    if not by_search:
        passes = int(pairs[:, columns > 0].sum()) * (1 if attack.minimal else len(attack.groups))
    bar = tqdm(
        total=passes,
        desc=attack.name,
        unit="row",
        disable=None if progress is None else not progress,
        leave=False,
        dynamic_ncols=True,
    )

    size = len(images)
    if resume is not None:
        # Some eight blocks, of which a kill loses one; the same ones in every process and on
        # every machine, whatever its cores and memory.
        size = min(size, int(np.clip(-(-size // 8), 32, 128 if on_cpu else 8192)))
        slots = min(slots, size)
    parts = 1 if leaves_jax(deployed) or leaves_jax(attacked) else threads.count(size)
    ascending = method == "nested" and attack.ball is not None

    def part(some: np.ndarray, report: Callable[[int], Any]) -> Measured:
        if by_search:
            given = (attack, deployed, images, labels, behind, some, key, grid)
            rest = (report, None if after is None else known)
            # Slots that are refilled four times: their last rows wait for each other. Few rows at
            # one radius go at once: most make all steps, and half as many take no half the time.
            lone = len(columns) == 1 and size <= 2 * threads.LEAST * parts
            most = threads.each(slots, size if lone else size // 4, parts)
            return fit(lambda slots: nested(*given, slots, *rest), most)
        measured = functools.partial(
            measure, attack, attacked, deployed, images, labels, some[:, None] & pairs, key,
            columns, early_exit=early_exit, ascending=ascending, report=report,
        )  # fmt: skip
        # A batch of a surrogate that averages draws holds them all at once.
        most = max(1, rows // evaluations(attacked))
        count = size if ascending else size * len(columns)
        return fit(measured, threads.each(most, count, parts))

    def run(some: np.ndarray) -> Measured:
        return threads.share(part, some, bar.update, parts, behind)

    with bar, float32_products(), explained(attack, attacked, images, key):
        if resume is None:
            found = run(worth)
        else:
            found = in_blocks(
                lambda block: run(worth & block), len(images), size, resume,
                identity(attack, deployed, images, labels, grid, key, surrogate, method, after),
                jax.process_index(), jax.process_count(),
            )  # fmt: skip
    broken, norms, by = found.broken, found.norms, found.by
    limits = None if attack.ball is None else limit64(attack.ball, grid, images[0].size)
    if attack.minimal:
        everywhere = np.where(correct, np.where(broken, norms, np.inf)[:, 0], 0.0)
        broken = broken & (norms <= (np.inf if limits is None else limits))
        norms, by = (np.repeat(a, len(grid), axis=1) for a in (norms, by))

    robust, raw, smallest, distance = summarize(broken, norms, correct, grid, limits)
    if attack.minimal:
        distance = everywhere
    if method == "nested" and attack.ball is not None:
        raw = robust  # no radius was measured by itself
    told = (raw, robust)
    if after is not None:  # what it broke was not attacked again, and says nothing of this attack
        both = np.minimum(smallest, known), np.minimum(distance, after.distance)
        told = (1 - fallen_at(*both, grid).mean(0),) * 2
    norm = "sigma" if attack.ball is None else attack.ball.name
    counts = (found.violations, found.attempts, found.doubted, found.fell)
    knowledge = "white-box" if white_box or knows(attacked, deployed) else "surrogate"
    result = Robustness(
        radii=grid,
        robust_accuracy=robust,
        interval=interval(np.rint(robust * len(images)).astype(int), len(images)),
        smallest_radius=smallest,
        distance=distance,
        raw_accuracy=raw,
        clean_accuracy=float(correct.mean()),
        evaluations=Evaluations(found.gradients, len(images) + found.forwards),
        broken_by=np.where(
            correct[:, None] & (fallen_at(smallest, distance, grid) if attack.ball else broken),
            _names(attack, broken, by, np.minimum(norms, grid)),
            "",
        ),
        n=len(images),
        attack=attack.name,
        norm=norm,
        knowledge=knowledge if attack.cost.gradients else "none",
        seed=tuple(int(word) for word in np.asarray(jax.random.key_data(key)).ravel()),
        violations=found.violations,
        warnings=(
            *suspicions(*told, grid, labels, norm, *counts),
            *single_draws(attack, deployed, attacked),
            *undefined_losses(attack, lambda: count_classes(attacked, images, key)),
        ),
    )
    return result if after is None else worst(after, result)


def _host(x: Any) -> np.ndarray:
    try:
        return np.asarray(x)
    except (TypeError, ValueError) as error:
        raise InputError(f"x cannot be read as an array of images [n, h, w, c]: {error}") from None


def _numbers(radii: Any) -> np.ndarray:
    try:
        return np.asarray(radii, np.float32)
    except (TypeError, ValueError):
        raise InputError(f"radii is {radii!r}, but must be a list of numbers") from None


def _names(attack: Attack, broken: np.ndarray, by: np.ndarray, reach: np.ndarray) -> np.ndarray:
    """Which attack broke each example at each radius; where balls are nested, the nearest find."""
    nearest = np.take_along_axis(by, np.where(broken, reach, np.inf).argmin(1)[:, None], axis=1)
    stage = np.where(broken, by, nearest)
    return np.array([*attack.labels, attack.name, ""])[stage]
