"""Our side of the comparison: the same rows as the peers', with the same budgets."""

import contextlib
import dataclasses
import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

import jaxdefense
from jaxdefense import Frozen, l1, l2, linf, losses, sweep
from jaxdefense.attacks import Attack, fgsm, pgd
from jaxdefense.attacks.apgd import apgd
from jaxdefense.attacks.carlini_wagner import carlini_wagner
from jaxdefense.attacks.ddn import ddn
from jaxdefense.attacks.deepfool import deepfool
from jaxdefense.attacks.fab import fab
from jaxdefense.attacks.fmn import fmn
from jaxdefense.attacks.square import square
from jaxdefense.attacks.targets import multi_targeted
from jaxdefense.reporting import write_atomically

# Attacks that minimise the norm: one run serves all radii.
MINIMAL = ("DeepFool", "CW", "DDN", "FMN", "FAB")
BATCH = 64  # rows per program call


@dataclasses.dataclass(frozen=True)
class Budget:
    """What every attack may spend, ours and the peers' alike."""

    pgd_steps: int = 40
    pgd_step_size: float = 0.0625
    """as a fraction of eps"""
    apgd_steps: int = 100
    dlr: bool = False
    """APGD with the DLR loss, too"""
    queries: int = 300
    """of Square"""
    fab_steps: int = 20
    """towards each target"""
    fab_targets: int = 4
    deepfool_steps: int = 20
    cw_searches: int = 4
    cw_steps: int = 50
    """in each search"""
    cw_step_size: float = 0.1
    cw_c: float = 1.0
    """the peers' first weight of the penalty; ours finds its own"""
    art_cw: bool = False
    """ART's CW, which spends 18 gradients an iteration: more than everything else together"""
    ddn_steps: int = 50
    fmn_steps: int = 50


@dataclasses.dataclass(frozen=True)
class Entry:
    """What one library's attack reached on one network, in all its radii.

    Attributes:
        accuracy: robust accuracy at each radius on its own.
        median: of the minimum norms, 0 where wrong without attack, inf where it fails; None for
            attacks within a radius.
        violations: images outside ball or box, which count as failures.
        gradients, forwards: per example, over all radii together.
        seconds: wall time over all radii together.
        first: the time of compiling and one batch before that; None where the program was there.
    """

    accuracy: tuple[float, ...]
    median: float | None
    violations: int
    gradients: float
    forwards: float
    seconds: float
    first: float | None = None


def average(entries: Sequence[Entry]) -> Entry:
    """The mean over runs with other random numbers; violations add up."""
    mean = lambda name: float(np.mean([getattr(entry, name) for entry in entries]))
    return Entry(
        accuracy=tuple(map(float, np.mean([entry.accuracy for entry in entries], axis=0))),
        median=None if entries[0].median is None else mean("median"),
        violations=sum(entry.violations for entry in entries),
        gradients=mean("gradients"),
        forwards=mean("forwards"),
        seconds=mean("seconds"),
        first=entries[0].first,
    )


def line_up(b: Budget) -> dict[tuple[str, str], Attack]:
    """Our attacks by row and norm."""
    made = {}
    for ball in (linf, l2, l1):
        made["FGSM", ball.name] = fgsm(ball)
        made["PGD", ball.name] = pgd(ball, b.pgd_steps, b.pgd_step_size)
        made["APGD-CE", ball.name] = apgd(ball, b.apgd_steps)
        if b.dlr:
            made["APGD-DLR", ball.name] = apgd(ball, b.apgd_steps, loss=losses.dlr)
        made["FAB", ball.name] = multi_targeted(fab(ball, b.fab_steps), b.fab_targets)
        made["FMN", ball.name] = fmn(ball, b.fmn_steps)
        if ball is not l1:
            made["Square", ball.name] = square(ball, b.queries, rescale_schedule=True)
            made["DeepFool", ball.name] = deepfool(ball, b.deepfool_steps)
        if ball is l2:
            made["CW", "l2"] = carlini_wagner(l2, b.cw_searches, b.cw_steps, b.cw_step_size)
            made["DDN", "l2"] = ddn(l2, b.ddn_steps)
    return made


def measure(
    attack: Attack,
    net: Frozen,
    x: np.ndarray,
    y: np.ndarray,
    radii: Sequence[float],
    seed: int,
) -> Entry:
    """Sweeps the radii with a compiled program; where it is not, the time of that is told apart."""
    key = jax.random.key(seed)
    run = lambda n, grid: sweep(
        attack, net, x[:n], y[:n], grid, key, method="grid", batch_size=BATCH
    )
    program, first = (repr(net.module), attack.settings, attack.ball, len(x)), None
    if program not in _compiled:
        _compiled.add(program)
        # As many as fill one batch, so that the program is the one for all.
        head = min(len(x), -(-BATCH // (1 if attack.minimal else len(radii))))
        for n in (head, len(x)):
            run(n, [0.0])  # the pass without attack, which is not the attack's to pay
        start = time.perf_counter()
        run(head, radii)
        first = time.perf_counter() - start
    start = time.perf_counter()
    curve = run(len(x), radii)
    return Entry(
        accuracy=tuple(map(float, curve.raw_accuracy)),
        median=float(np.median(curve.distance)) if attack.minimal else None,
        violations=curve.violations,
        gradients=curve.evaluations.gradients / len(y),
        forwards=curve.evaluations.forwards / len(y),
        seconds=time.perf_counter() - start,
        first=first,
    )


_compiled: set[tuple] = set()


def recall(
    folder: Path, attack: Attack, net: Frozen, x: np.ndarray, y: np.ndarray,
    radii: Sequence[float], seed: int,
) -> Entry:  # fmt: skip
    """`measure`, or its result from an earlier run with the same inputs and the same source."""
    device = jax.devices()[0].device_kind
    settings = f"{attack.settings} {attack.ball} {tuple(radii)} {seed} {jax.__version__} {device}"
    digest = hashlib.sha256(f"{settings} {net.module} {BATCH} {sources()}".encode())
    for array in (x, y, *jax.tree.leaves(net.variables)):
        digest.update(np.ascontiguousarray(array).tobytes())
    path = folder / f"ours-{attack.name}-{attack.ball}-{digest.hexdigest()[:16]}.json"
    with contextlib.suppress(OSError, ValueError, TypeError):
        kept = json.loads(path.read_text())
        return Entry(**kept | {"accuracy": tuple(kept["accuracy"])})
    entry = measure(attack, net, x, y, radii, seed)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(dataclasses.asdict(entry)))
    return entry


def sources() -> str:
    """A digest of the package's source, so that a changed attack is measured anew."""
    root = Path(jaxdefense.__file__).parent
    files = [
        f for part in ("attacks", "evaluation", ".") for f in sorted((root / part).glob("*.py"))
    ]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
