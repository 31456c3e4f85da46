"""Attack -> Attack: join stages, repeat them, bring minimum-norm attacks to a radius."""

import dataclasses
import itertools

from jaxdefense.attacks.attack import Attack
from jaxdefense.attacks.minimum import limited
from jaxdefense.attacks.search import Search, only_last, read_last
from jaxdefense.checks import check_ball
from jaxdefense.errors import InputError
from jaxdefense.geometry import Ball


def strongest(*attacks: Attack, name: str | None = None) -> Attack:
    """The worst case over attacks: each works on what the earlier ones left standing.

    The first stage of all uses the example's key unchanged and stage i a key folded with i, so
    ``strongest(a) == a`` bit for bit.

    Args:
        attacks: at least one, all in the same ball.
        name: in tables; the names joined by ``+`` by default.

    Raises:
        InputError: no attack, or attacks in different balls.

    Of minimum-norm attacks only, the result is one too and keeps the closest point.

    Example:
        >>> import jaxdefense as jd
        >>> strongest(jd.attacks.fgsm(), jd.attacks.pgd(steps=10)).cost
        Cost(gradients=11, forwards=2)
    """
    if not attacks:
        raise InputError("strongest() needs at least one attack")
    balls = {attack.ball.name if attack.ball else "none" for attack in attacks}
    if len(balls) > 1:
        raise InputError(
            f"strongest() joins attacks in one ball, got {', '.join(sorted(balls))}: "
            "an eps means something else in each"
        )
    stages = tuple(stage for attack in attacks for stage in attack.stages)
    labels = tuple(label for attack in attacks for label in attack.labels)
    minimal = all(attack.minimal for attack in attacks)
    on_grid = any(attack.on_grid for attack in attacks)
    name = name or _joined([a.name for a in attacks])
    return Attack(name, stages, attacks[0].ball, minimal, labels, on_grid)


def _joined(names: list[str]) -> str:
    runs = [(name, len(list(group))) for name, group in itertools.groupby(names)]
    return "+".join(name if count == 1 else f"{name}x{count}" for name, count in runs)


def restarts(attack: Attack, times: int) -> Attack:
    """The attack `times` times with fresh randomness: ``strongest(*[attack] * times)``.

    Args:
        attack: any attack; one without randomness gains nothing.
        times: at least 1; 1 gives the attack itself.

    Raises:
        InputError: times below 1.

    Example:
        >>> import jaxdefense as jd
        >>> restarts(jd.attacks.pgd(steps=10), 3).cost
        Cost(gradients=30, forwards=3)
    """
    if times < 1:
        raise InputError(f"restarts needs times >= 1, got {times}")
    return strongest(*[attack] * times)


def last_iterate(attack: Attack) -> Attack:
    """The attack that hands on where it ended, as papers do with FGSM for static examples.

    Every attack else returns the best it has read, and where no step makes an image any worse for
    the attacked function that is the clean one. Then what is shown to another function, or trained
    on, is no attacked image at all. Against the attacked function itself the best is stronger.

    Args:
        attack: one that reads its last iterate at the end, for example FGSM or PGD.

    Raises:
        InputError: an attack that ends otherwise, or looks for the closest point.

    Example:
        >>> import jaxdefense as jd
        >>> last_iterate(jd.attacks.fgsm())
        Attack(fgsm, linf)
    """
    if any(s.search.minimal or s.search.finish is not read_last for s in attack.stages):
        raise InputError(
            f"{attack.name} does not end where its last step ends: give an attack such as fgsm or "
            "pgd"
        )
    stages = (stage._replace(search=_ending(stage.search)) for stage in attack.stages)
    return dataclasses.replace(attack, stages=tuple(stages))


def _ending(search: Search) -> Search:
    settings = f"{search.settings} last iterate".strip()
    return search._replace(finish=only_last, settings=settings)


def at_radius(attack: Attack, ball: Ball) -> Attack:
    """A minimum-norm attack as an attack at radius eps, so that it is run at each radius.

    What it finds without a radius is projected onto ball(x, eps) and read once more; a found
    point that lies in the ball is returned as it is. `jaxdefense.sweep` runs a minimum-norm attack
    only once for all radii; this one it runs at each, which helps where another function than the
    attacked one is scored.

    Args:
        attack: one whose stages return the closest fooling point they found.
        ball: the ball that eps is the radius of.

    Example:
        >>> import jaxdefense as jd
        >>> at_radius(jd.attacks.gaussian(0.3), jd.l2).cost
        Cost(gradients=0, forwards=2)
    """
    check_ball("at_radius", ball, ("linf", "l2", "l1", "l0"))
    again = lambda s: s if attack.minimal and attack.ball is ball else limited(s, ball)
    stages = tuple(
        s._replace(search=again(s.search)._replace(minimal=False)) for s in attack.stages
    )
    return dataclasses.replace(attack, stages=stages, ball=ball, minimal=False)
