"""`audit`: is this defence real? Everything a strict reviewer would try, in one call."""

import dataclasses
import os
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from jaxdefense import checks
from jaxdefense.auditing.budgets import BUDGETS, Budget
from jaxdefense.auditing.claims import CERTIFICATE, NO_ATTACK, Claim, Verdict, judge
from jaxdefense.auditing.comparing import contradiction
from jaxdefense.auditing.controls import explanations, left_out
from jaxdefense.auditing.defence import Defence, as_defence
from jaxdefense.auditing.examine import at_radius, each_pixel, examine
from jaxdefense.auditing.kept import kept_in
from jaxdefense.auditing.masking import doubts, flatness
from jaxdefense.auditing.matrix import Matrix
from jaxdefense.auditing.plan import GREY, Cell, Skipped, plan
from jaxdefense.auditing.result import Audit
from jaxdefense.auditing.showing import examples, surface
from jaxdefense.auditing.substitutes import train
from jaxdefense.auditing.usable import logits_of_all, usable
from jaxdefense.defenses.smoothing import Smoothed
from jaxdefense.errors import InputError, JaxdefenseError, UnknownNameError
from jaxdefense.evaluation import Certificate, Check, certify
from jaxdefense.evaluation.robustness import interval
from jaxdefense.geometry import BALLS, Ball, linf
from jaxdefense.typing import Classifier, Images, Labels

RADII = {"linf": (0.0, 0.01, 0.03, 0.1, 0.3), "l2": (0.0, 0.25, 0.5, 1.0, 2.0),
         "l1": (0.0, 2.0, 6.0, 12.0)}  # fmt: skip
"""The grid where none is given: of the size that images of 28 to 32 pixels are attacked with."""


def audit(
    defence: Defence | Classifier,
    x: Images | np.ndarray,
    y: Labels | np.ndarray,
    radii: Sequence[float] | float | None = None,
    key: jax.Array | None = None,
    *,
    ball: Ball = linf,
    budget: str | Budget = "standard",
    claims: Sequence[Claim | str] | Claim | str = (),
    seconds: float | None = None,
    folder: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
    only: str | None = None,
    about: str = "",
    command: str = "",
) -> Audit:
    """What a strict reviewer would say of a defence, with the evidence.

    Attackers who know nothing of the defence, all of it, or only its answers try every image, those
    that cost more only what the others left standing; checks tell whether their gradients can be
    relied on; controls explain what is withstood by luck; certificates bound it from below. Each
    claim is judged by the worst case, image by image.

    Args:
        defence: a `Defence`, a `Purified`, what `defenses.smoothed` made, or any function
            ``x -> logits``. The more of its parts are known, the more is tested; what is not is
            listed in the result.
        x: images ``[n, h, w, c]`` in [0, 1]. None of them may have been trained on.
        y: labels ``[n]``.
        radii: the grid; 0 and the claims' radii are added. `RADII` of the norm by default.
        key: of everything random; ``jax.random.key(0)`` by default.
        ball: `linf`, `l2` or `l1`.
        budget: ``"quick"``, ``"standard"``, ``"thorough"``, or a `Budget`.
        claims: such as ``"0.92@linf:0.3"`` or ``Claim(0.92, "linf", 0.3)``, in the norm of `ball`.
        seconds: begin no further network or attacker after so much time; what is missing is
            listed. Checks, certificate and examples still follow.
        folder: where finished attackers are kept: a killed audit goes on from them. Functions that
            call the host are measured anew.
        progress: show a progress bar; None: where there is a terminal.
        only: name of one attacker to repeat, with those it goes on from.
        about: where data and defence come from, for the report.
        command: that made this audit, for the report.

    Returns:
        An `Audit`.

    Raises:
        InputError: images, labels, radii, claims or functions that cannot be right.
        UnknownNameError: no such budget.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxdefense as jd
        >>> model = lambda x: jnp.stack([x.sum((1, 2, 3)), 6 - x.sum((1, 2, 3))], -1)
        >>> rounds = lambda x: jnp.round(4 * x) / 4
        >>> x, y = jnp.full((64, 4, 4, 1), 0.3), jnp.zeros(64, jnp.int32)
        >>> found = audit(jd.Purified(rounds, model), x, y, budget="quick",
        ...               claims=["0.9@linf:0.2"])  # doctest: +SKIP
        >>> found.verdicts[0].outcome, found.verdicts[0].decided_by  # doctest: +SKIP
        ('broken', 'oblivious')
    """
    began = time.monotonic()
    given, spent = as_defence(defence), _budget(budget)
    checks.check_ball("audit", ball, tuple(BALLS))
    each = [claims] if isinstance(claims, str | Claim) else claims
    judged = [_in_norm(Claim.parse(c) if isinstance(c, str) else c.checked(), ball) for c in each]
    key = jax.random.key(0) if key is None else key
    images, labels = np.asarray(x), np.asarray(y)
    checks.check_images(images)
    checks.check_labels(labels, len(images))
    images, labels = images.astype(np.float32), labels.astype(np.int32)
    wanted = RADII[ball.name] if radii is None else radii
    grid = np.unique(np.hstack([0.0, wanted, [c.eps for c in judged]]).astype(np.float32))
    checks.check_radii(grid, ball, images[0].size)
    eps = max((c.eps for c in judged), default=float(grid[len(grid) // 2]))
    spans: dict[str, float] = {}

    def over(part: str) -> None:
        spans[part] = round(time.monotonic() - began - sum(spans.values()), 1)

    few = slice(spent.few)
    given, unusable = usable(given, images[few], labels[few], eps, ball, key)
    given, probabilities, own = logits_of_all(given, images, labels, key)
    over("preparing")
    late = lambda: seconds is not None and time.monotonic() - began > seconds
    trained = train(given, spent, images, labels, jax.random.fold_in(key, 1), late)
    over("substitutes")
    flat, blocked = flatness(given.attacked, images[few], labels[few], eps, ball, key)
    declared = not given.differentiable
    if flat > 0.5 and not declared:  # whatever its author says
        given = dataclasses.replace(given, differentiable=False)
    cells, skipped = plan(
        given, ball, spent, trained.substitutes, trained.imitation, on_grid=_on_grid(images),
        blocked=blocked, flat=flat, largest=float(grid[-1]),
    )  # fmt: skip
    without = left_out(given, images.shape[-1], trained.substitutes)
    skipped = [*unusable, *trained.skipped, *skipped, *without]
    if only is not None:
        kept = _just(only, cells)
        skipped += [Skipped(c.name, f"only {only!r} was wanted") for c in cells if c not in kept]
        cells = kept
    complete = only is None
    place = None if folder is None else kept_in(folder, own)
    matrix = Matrix(given, images, labels, grid, key, eps, place, command)
    bar = tqdm(
        cells, desc="audit", unit="attacker", leave=False, dynamic_ncols=True,
        disable=None if progress is None else not progress,
    )  # fmt: skip
    with bar:
        for cell in bar:
            bar.set_postfix_str(cell.name)
            if matrix.history and late():
                skipped.append(Skipped(cell.name, f"the {seconds:g} s of this audit were over"))
                complete = False
            else:
                matrix.measure(cell)
    over("attackers")

    found = examine(
        given, matrix, spent, eps, ball, probabilities=probabilities, blocked=blocked,
        declared=declared,
    )  # fmt: skip
    at_claims = {c.eps: at_radius(given, matrix, spent, c.eps, ball) for c in judged}
    here = at_claims[eps] if judged else at_radius(given, matrix, spent, eps, ball)
    elsewhere = [
        check._replace(name=f"{check.name}, at {other:.4g}")
        for other, made in at_claims.items() if other != eps
        for check in made if check.outcome == "fail"
    ]  # fmt: skip
    certificate = None
    if isinstance(given.whole, Smoothed) and ball.name != Certificate.norm:
        reason = f"its radii are in {Certificate.norm}, and these in {ball.name}"
        skipped.append(Skipped(CERTIFICATE, reason))
    elif isinstance(given.whole, Smoothed):
        choose, draws = spent.certify
        certificate = certify(given.whole, images, labels, key, choose=choose, draws=draws)
        found = (*found, contradiction(certificate, matrix.worst, given.whole.draws))
    over("checks and certificate")
    scored: Any = given.scored
    steps, substitutes = spent.steps, trained.substitutes
    try:
        told = explanations(given, scored, images, labels, eps, ball, steps, substitutes, key)
    except JaxdefenseError as error:  # of the classifier on images that a filter has made, say
        told = []
        skipped.append(Skipped("what explains it", str(error)))
    shown = examples(given, images, labels, eps, ball, spent, key)
    around = surface(given, images, labels, each_pixel(eps, ball, images[0].size), key)
    over("explanations and examples")
    first = matrix.history[0][1]
    return Audit(
        name=given.name,
        norm=ball.name,
        radii=grid,
        n=len(images),
        seed=first.seed,
        budget=budget if isinstance(budget, str) else "custom",
        clean_accuracy=first.clean_accuracy,
        outcomes=tuple(matrix.outcomes),
        skipped=tuple(skipped),
        worst=matrix.history[-1][1],
        explanations=tuple(told),
        checks=(*found, *here, *elsewhere),
        eps=eps,
        certificate=certificate,
        verdicts=tuple(
            _verdict(c, matrix, [*found, *at_claims[c.eps]], complete, certificate) for c in judged
        ),
        examples=shown,
        surface=around,
        meta={
            "about": about,
            "images": f"{len(images)} of shape {list(images.shape[1:])}",
            "answers": f"the most frequent of {scored.draws} draws" if given.random else "one each",
            "accuracy of substitutes": trained.accuracy,
            "seconds": round(time.monotonic() - began, 1),
            "seconds of parts": spans,
            "device": jax.devices()[0].device_kind,
            "jax": jax.__version__,
            "command": command,
        },
        complete=complete,
    )


def _verdict(
    claim: Claim,
    matrix: Matrix,
    found: Sequence[Check],
    complete: bool,
    certificate: Certificate | None,
) -> Verdict:
    at = matrix.at(claim.eps)
    first = matrix.history[0][1]
    clean = first.clean_accuracy
    after = {NO_ATTACK: (clean, interval(np.array([round(clean * first.n)]), first.n)[0])}
    after |= {
        name: (float(curve.robust_accuracy[at]), curve.interval[at])
        for name, curve in matrix.history
    }
    proven = None
    if certificate is not None and certificate.norm == claim.norm:
        proven = float(certificate.interval([claim.eps])[0, 0])
    missing = [] if complete else ["attackers that were left out"]
    # What is left where all images can be made equal says nothing of smaller radii.
    spoken = [check for check in found if check.name != GREY or claim.eps >= 0.5]
    return judge(claim, after, [*missing, *doubts(spoken)], proven)


def _just(name: str, cells: list[Cell]) -> list[Cell]:
    """One cell, with those before it where it goes on from them."""
    names = [cell.name for cell in cells]
    if name not in names:
        raise UnknownNameError("attacker", name, names)
    at = names.index(name)
    if cells[at].carried:
        return cells[: at + 1]
    # An audit needs one attacker of the defence: the oblivious one stands beside the undefended.
    return cells[at : at + 2] if cells[at].kind == "undefended" else [cells[at]]


def _budget(budget: str | Budget) -> Budget:
    if isinstance(budget, Budget):
        return budget
    if budget not in BUDGETS:
        raise UnknownNameError("budget", budget, BUDGETS)
    return BUDGETS[budget]


def _in_norm(claim: Claim, ball: Ball) -> Claim:
    if claim.norm != ball.name:
        raise InputError(
            f"the claim of {claim} is in {claim.norm}, but this audit in {ball.name}: audit each "
            "norm by itself"
        )
    return claim


def _on_grid(x: np.ndarray) -> bool:
    try:
        checks.check_grid(x)
    except InputError:
        return False
    return True
