"""The grid sweep: every (example, radius) pair from scratch, many pairs in one program call."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxdefense.attacks.attack import Attack, launch, stage_keys
from jaxdefense.classifiers import Static, apply, fold, is_random, join, split
from jaxdefense.evaluation.clean import keys_at
from jaxdefense.evaluation.devices import by_row, everywhere, local_mesh, whole_rows
from jaxdefense.geometry import inside64, norm64
from jaxdefense.surrogates import evaluations
from jaxdefense.typing import Classifier, Flags, Images, Keys, Labels, Radii

# Keeps the randomness of a random defence's scoring apart from all an attack has seen.
_SCORE = 2**30


class Measured(NamedTuple):
    """What was found of each example at each radius.

    Attributes:
        broken: ``[n, e]``: a valid fooling image was found at that radius.
        norms: ``[n, e]``: norm of its perturbation.
        by: ``[n, e]``: the stage that found it, of equal ones the first; -1 where none, the number
            of stages where they ran together.
        gradients, forwards: evaluations spent.
        attempts, violations: images that attacks returned, and how many broke the rules.
        doubted, fell: how many that withstood the largest radius were tried at a smaller one, and
            how many fell there.
    """

    broken: np.ndarray
    norms: np.ndarray
    by: np.ndarray
    gradients: int
    forwards: int
    attempts: int
    violations: int
    doubted: int = 0
    fell: int = 0


def measure(
    attack: Attack,
    attacked: Classifier,
    deployed: Classifier,
    images: np.ndarray,
    labels: np.ndarray,
    worth: np.ndarray,
    key: jax.Array,
    columns: np.ndarray,
    rows: int,
    *,
    early_exit: bool,
    ascending: bool = False,
    report: Callable[[int], Any] = lambda done: None,
) -> Measured:
    """Attacks every correctly classified example at every radius.

    Args:
        attack, deployed, images, labels, key: as in `sweep`.
        attacked: what is differentiated.
        worth: ``[n, e]``: which examples are worth attacking at which radius.
        columns: the radii.
        rows: pairs per program call.
        early_exit: success on the attacked function ends the work on a row. Without it every attack
            of a line-up is scored by itself; of a deterministic function, every repeat, too.
        ascending: by growing radius, each on what the smaller ones left standing.
        report: told how many pairs are done.
    """
    program = _Program(attack, attacked, deployed, early_exit=early_exit)
    found = Measured(
        broken=np.zeros((len(images), len(columns)), bool),
        norms=np.zeros((len(images), len(columns))),
        by=np.full((len(images), len(columns)), -1),
        gradients=0, forwards=0, attempts=0, violations=0,
    )  # fmt: skip
    # Of what is given, not of what is left: other parameters must fit the same program.
    together = 1 if ascending else len(columns)
    size = whole_rows(min(rows, len(images) * together), program.mesh)
    attempted = (columns > 0)[:, None] & worth.T
    order = np.argsort(columns, kind="stable")
    for some in order[:, None] if ascending else [order]:
        standing = attempted.copy() if not ascending else attempted & ~found.broken.any(1)
        standing[np.setdiff1d(order, some)] = False
        pairs = np.stack(np.nonzero(standing), -1)  # by radius: (column, example)
        found = found._replace(attempts=found.attempts + len(pairs))
        found = _run(program, found, images, labels, pairs, columns, key, size, report)
    return found


def _run(program, found, images, labels, pairs, columns, key, size, report) -> Measured:
    attack, deployed, gradients, forwards, violations = program.attack, program.defence, 0, 0, 0
    groups = [(group,) for group in attack.groups]
    if attack.minimal:  # a later attack may come closer
        groups = [tuple(attack.groups)]
    for index, group in enumerate(groups):  # each on what the earlier ones left standing
        for chunk in _chunks(images, labels, pairs, columns, key, size):
            result = program(chunk, group)
            keep = chunk.real
            x_adv = result.x_adv[keep]
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
                    length = np.minimum(eps, norm64(attack.ball, 0 * clean, 1 + 0 * clean))
            success = result.fooled[keep] & valid
            found.norms[example, column] = length
            found.broken[example, column] = success
            # Stages that ran together answer together.
            stage = group[0][0] if len(group) == 1 else len(attack.labels)
            found.by[example, column] = np.where(success, stage, -1)
            violations += int((~valid).sum())
            gradients += int(result.gradients[keep].sum())
            forwards += int(result.forwards[keep].sum())
            report(len(example) + int(success.sum()) * (len(groups) - index - 1))
        pairs = pairs[~found.broken[pairs[:, 1], pairs[:, 0]]]
    return found._replace(
        gradients=found.gradients + gradients,
        forwards=found.forwards + forwards,
        violations=found.violations + violations,
    )


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


# ------------------------------------------------------------------------------------ programs


class _Found(NamedTuple):
    x_adv: np.ndarray
    fooled: np.ndarray
    gradients: np.ndarray
    forwards: np.ndarray


class _Program:
    """One compiled program: attack the surrogate, score on the deployed function."""

    def __init__(self, attack, surrogate, deployed, *, early_exit: bool):
        self.attack, self.early_exit, self.mesh = attack, early_exit, local_mesh()
        self.defence = deployed
        # Asked about every repeat, a random function would in the end err by chance.
        self.judged = not early_exit and surrogate is not deployed and not is_random(deployed)
        arrays, statics = zip(split(surrogate), split(deployed), strict=True)
        self.arrays, self.statics = everywhere(self.mesh, arrays), statics

    def __call__(self, chunk: _Chunk, groups: tuple[tuple[int, int], ...]) -> _Found:
        found = _attack_and_score(
            self.attack, groups, self.statics, self.early_exit, self.judged, self.mesh,
            self.arrays, chunk[:5],
        )  # fmt: skip
        return _Found(*map(np.asarray, found))


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4, 5))
def _attack_and_score(
    attack: Attack,
    groups: tuple[tuple[int, int], ...],
    statics: tuple[Static, Static],
    early_exit: bool,
    judged: bool,
    mesh: Mesh | None,
    arrays: tuple[list[jax.Array], list[jax.Array]],
    rows: tuple[Keys, Images, Labels, Radii, Flags],
):
    def work(arrays, rows):
        (surrogate, deployed), (keys, x, y, eps, active) = map(join, arrays, statics), rows
        standing = active if early_exit else None
        # Each attack of a line-up meets a random function's fresh draws.
        fresh = stage_keys(fold(keys, _SCORE), groups[0][0])

        def score(x_adv: Images) -> Flags:
            logits = apply(deployed, fresh, x_adv)
            return (logits.argmax(-1) != y) | jnp.isnan(logits).any(-1)

        judge = score if judged else None
        state, spent = launch(attack, keys, surrogate, x, y, eps, standing, groups, judge)
        times = evaluations(surrogate)
        asked = 1 + judged * sum(stop - first for first, stop in groups)
        forwards = spent.forwards * times + asked
        return state.best, score(state.best) & active, spent.gradients * times, forwards

    return by_row(mesh, work, (arrays,), rows)
