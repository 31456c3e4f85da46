"""Every attack there is, once: what the command line offers and what the property tests run."""

from collections.abc import Callable
from typing import NamedTuple

from jaxdefense.attacks.attack import Attack
from jaxdefense.attacks.combinators import restarts, strongest
from jaxdefense.attacks.noise import gaussian
from jaxdefense.attacks.pgd import adam_pgd, bim, fgsm, mifgsm, pgd
from jaxdefense.errors import UnknownNameError
from jaxdefense.geometry import BALLS, Ball
from jaxdefense.losses import dlr, margin


class Entry(NamedTuple):
    """One registered attack.

    Attributes:
        make: ball -> Attack with usual settings.
        norms: names of the balls it works in.
        source: paper and arXiv id.
        follows_gradients: whether it must beat random noise on a linear classifier.
    """

    make: Callable[[Ball], Attack]
    norms: tuple[str, ...]
    source: str
    follows_gradients: bool = True


_ALL = ("linf", "l2", "l1")

REGISTRY: dict[str, Entry] = {
    "gaussian": Entry(lambda ball: gaussian(0.1, ball), _ALL, "control", False),
    "fgsm": Entry(fgsm, _ALL, "Goodfellow et al. 2015, arXiv 1412.6572"),
    "bim": Entry(bim, _ALL, "Kurakin et al. 2017, arXiv 1607.02533"),
    "pgd": Entry(pgd, _ALL, "Madry et al. 2018, arXiv 1706.06083"),
    "pgd-margin": Entry(
        lambda ball: pgd(ball, loss=margin, name="pgd-margin-40"),
        _ALL,
        "Carlini and Wagner 2017, arXiv 1608.04644",
    ),
    "pgd-dlr": Entry(
        lambda ball: pgd(ball, loss=dlr, name="pgd-dlr-40"),
        _ALL,
        "Croce and Hein 2020, arXiv 2003.01690",
    ),
    "mifgsm": Entry(mifgsm, _ALL, "Dong et al. 2018, arXiv 1710.06081"),
    "adam-pgd": Entry(adam_pgd, ("linf",), "Uesato et al. 2018, arXiv 1802.05666"),
    "pgd-restarts": Entry(lambda ball: restarts(pgd(ball), 5), _ALL, "Madry et al. 2018"),
    "pgd-strongest": Entry(
        lambda ball: strongest(
            pgd(ball), pgd(ball, loss=margin, name="pgd-margin-40"), name="pgd-strongest"
        ),
        _ALL,
        "worst case of cross-entropy and margin",
    ),
}


def make(name: str, norm: str = "linf") -> Attack:
    """An attack of the registry by its name.

    Args:
        name: a key of `REGISTRY`.
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.

    Raises:
        UnknownNameError: with the nearest names.

    Example:
        >>> make("pgd", "l2")
        Attack(pgd-40, l2)
    """
    if name not in REGISTRY:
        raise UnknownNameError("attack", name, REGISTRY)
    if norm not in REGISTRY[name].norms or norm not in BALLS:
        raise UnknownNameError(f"norm for {name}", norm, REGISTRY[name].norms)
    return REGISTRY[name].make(BALLS[norm])
