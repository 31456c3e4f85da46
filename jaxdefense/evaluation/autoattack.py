"""`autoattack`: the strict reviewer's first question in one call."""

import dataclasses
import os
from collections.abc import Sequence

import jax
import numpy as np
from tabulate import tabulate

from jaxdefense.attacks.suites import SUITES
from jaxdefense.classifiers import is_random
from jaxdefense.errors import UnknownNameError
from jaxdefense.evaluation.reliability import Check, reliability
from jaxdefense.evaluation.robustness import Robustness
from jaxdefense.evaluation.sweep import sweep
from jaxdefense.geometry import Ball, linf
from jaxdefense.surrogates import eot
from jaxdefense.typing import Classifier, Images, Labels


@dataclasses.dataclass(frozen=True)
class AutoAttack:
    """What `autoattack` returns.

    Attributes:
        curve: robust accuracy over the radii, as from `jaxdefense.sweep`.
        after: attack -> robust accuracy ``[e]`` after it and those before it.
        checks: whether the numbers can be relied on.
    """

    curve: Robustness
    after: dict[str, np.ndarray]
    checks: tuple[Check, ...]

    @property
    def reliable(self) -> bool:
        """No check failed."""
        return all(check.outcome != "fail" for check in self.checks)

    def __str__(self) -> str:
        shown = [[name, *(f"{100 * a:.1f}" for a in value)] for name, value in self.after.items()]
        radii = [f"eps {eps:g}" for eps in self.curve.radii]
        steps = tabulate(shown, headers=["robust accuracy % after", *radii], disable_numparse=True)
        found = [[c.name, c.outcome, c.says] for c in self.checks]
        return "\n\n".join(
            [
                str(self.curve),
                *([steps] if shown else []),
                tabulate(found, headers=["check", "outcome", ""], disable_numparse=True),
            ]
        )


def autoattack(
    deployed: Classifier,
    x: Images | np.ndarray,
    y: Labels | np.ndarray,
    radii: Sequence[float] | float,
    key: jax.Array,
    *,
    ball: Ball = linf,
    version: str = "standard",
    draws: int = 20,
    batch_size: int | None = None,
    resume: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
) -> AutoAttack:
    """AutoAttack (Croce and Hein 2020, arXiv 2003.01690) with its reliability checks.

    Args:
        deployed: any callable ``x -> logits``.
        x: images ``[n, h, w, c]`` in [0, 1].
        y: labels ``[n]``.
        radii: one eps or several, in pixel units of [0, 1].
        key: ``jax.random.key(seed)``.
        ball: `linf`, `l2` or `l1`.
        version: a name of `attacks.SUITES`: ``"standard"``, ``"plus"``, ``"rand"`` (random
            defences; gradients averaged over draws) or ``"quick"``.
        draws: for ``"rand"``.
        batch_size, resume, progress: as in `jaxdefense.sweep`.

    Raises:
        UnknownNameError: no such version.
        InputError: as `jaxdefense.sweep`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> model = lambda x: jnp.stack([x.sum((1, 2, 3)), 8 - x.sum((1, 2, 3))], -1)
        >>> x, y = jnp.full((2, 4, 4, 1), 0.3), jnp.array([0, 0])
        >>> result = autoattack(model, x, y, [0.04, 0.1], jax.random.key(0), version="quick")
        >>> result.curve.robust_accuracy.tolist(), result.reliable
        ([1.0, 0.0], True)
    """
    if version not in SUITES:
        raise UnknownNameError("version of AutoAttack", version, SUITES)
    attack, grid = SUITES[version](ball), np.atleast_1d(np.asarray(radii, np.float32))
    curve = sweep(
        attack,
        deployed,
        x,
        y,
        grid,
        key,
        eot(deployed, draws) if version == "rand" else None,
        batch_size=batch_size,
        resume=resume,
        progress=progress,
    )
    # What Square finds against a random function may be chance, and says nothing of gradients.
    compared = curve if "square" in attack.labels and not is_random(deployed) else None
    few = slice(250)
    finite = grid[np.isfinite(grid)]
    eps = float(finite.max(initial=0.0))
    checks = reliability(
        deployed, np.asarray(x)[few], np.asarray(y)[few], key, eps=eps, ball=ball, curve=compared,
        averaged=version == "rand", batch_size=batch_size,
    )  # fmt: skip
    return AutoAttack(curve, curve.accuracy_after(attack.labels), checks)
