"""Every attack there is, once: what the command line offers and what the property tests run."""

from collections.abc import Callable
from typing import NamedTuple

from jaxdefense.attacks import suites
from jaxdefense.attacks.apgd import apgd
from jaxdefense.attacks.attack import Attack
from jaxdefense.attacks.carlini_wagner import carlini_wagner
from jaxdefense.attacks.combinators import restarts
from jaxdefense.attacks.controls import grey
from jaxdefense.attacks.ddn import ddn
from jaxdefense.attacks.deepfool import deepfool
from jaxdefense.attacks.fab import fab
from jaxdefense.attacks.fmn import fmn
from jaxdefense.attacks.hopskipjump import hopskipjump
from jaxdefense.attacks.jsma import jsma
from jaxdefense.attacks.lbfgs import lbfgs
from jaxdefense.attacks.noise import gaussian
from jaxdefense.attacks.one_pixel import one_pixel
from jaxdefense.attacks.pgd import adam_pgd, bim, fgsm, mifgsm, pgd
from jaxdefense.attacks.spsa import spsa
from jaxdefense.attacks.square import square
from jaxdefense.attacks.targets import multi_targeted
from jaxdefense.errors import UnknownNameError
from jaxdefense.geometry import BALLS, Ball
from jaxdefense.losses import dlr, margin
from jaxdefense.pixels import l0


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
_APGD = "Croce and Hein 2020, arXiv 2003.01690"

REGISTRY: dict[str, Entry] = {
    "gaussian": Entry(lambda ball: gaussian(0.1, ball), _ALL, "control", False),
    "grey": Entry(grey, _ALL, "control: what eps alone allows", False),
    "fgsm": Entry(fgsm, _ALL, "Goodfellow et al. 2015, arXiv 1412.6572"),
    "bim": Entry(bim, _ALL, "Kurakin et al. 2017, arXiv 1607.02533"),
    "mifgsm": Entry(mifgsm, _ALL, "Dong et al. 2018, arXiv 1710.06081"),
    "pgd": Entry(pgd, _ALL, "Madry et al. 2018, arXiv 1706.06083"),
    "pgd-margin": Entry(
        lambda ball: pgd(ball, loss=margin, name="pgd-margin-40"),
        _ALL,
        "Carlini and Wagner 2017, arXiv 1608.04644",
    ),
    "pgd-dlr": Entry(lambda ball: pgd(ball, loss=dlr, name="pgd-dlr-40"), _ALL, _APGD),
    "pgd-restarts": Entry(lambda ball: restarts(pgd(ball), 5), _ALL, "Madry et al. 2018"),
    "adam-pgd": Entry(adam_pgd, ("linf",), "Uesato et al. 2018, arXiv 1802.05666"),
    "apgd-ce": Entry(lambda ball: apgd(ball, name="apgd-ce"), _ALL, _APGD),
    "apgd-dlr": Entry(lambda ball: apgd(ball, loss=dlr, name="apgd-dlr"), _ALL, _APGD),
    "apgd-t": Entry(
        lambda ball: multi_targeted(apgd(ball, loss=dlr), 9, name="apgd-t"), _ALL, _APGD
    ),
    "fab": Entry(
        lambda ball: fab(ball, candidates=9), _ALL, "Croce and Hein 2020, arXiv 1907.02044"
    ),
    "fab-t": Entry(lambda ball: multi_targeted(fab(ball), 9, name="fab-t"), _ALL, _APGD),
    "deepfool": Entry(deepfool, _ALL, "Moosavi-Dezfooli et al. 2016, arXiv 1511.04599"),
    "carlini-wagner": Entry(
        carlini_wagner, ("l2", "linf"), "Carlini and Wagner 2017, arXiv 1608.04644"
    ),
    "ddn": Entry(ddn, ("l2",), "Rony et al. 2019, arXiv 1811.09600"),
    "fmn": Entry(fmn, _ALL, "Pintor et al. 2021, arXiv 2102.12827"),
    "fmn-t": Entry(
        lambda ball: multi_targeted(fmn(ball, 22), 9, name="fmn-t"),
        _ALL,
        "Pintor et al. 2021, arXiv 2102.12827, towards 9 classes",
    ),
    "lbfgs": Entry(lbfgs, ("l2",), "Szegedy et al. 2014, arXiv 1312.6199"),
    "jsma": Entry(
        lambda ball: multi_targeted(jsma(ball), 9, name="jsma"),
        ("l0",),
        "Papernot et al. 2016, arXiv 1511.07528",
    ),
    "square": Entry(square, _ALL, "Andriushchenko et al. 2020, arXiv 1912.00049", False),
    "spsa": Entry(spsa, ("linf", "l2"), "Uesato et al. 2018, arXiv 1802.05666", False),
    "hopskipjump": Entry(hopskipjump, ("l2", "linf"), "Chen et al. 2020, arXiv 1904.02144", False),
    "one-pixel": Entry(
        lambda ball: one_pixel(), ("l0",), "Su et al. 2019, arXiv 1710.08864", False
    ),
    "quick": Entry(suites.quick, _ALL, "a first look with APGD"),
    "standard": Entry(suites.standard, _ALL, f"AutoAttack, {_APGD}"),
    "plus": Entry(suites.plus, _ALL, f"AutoAttack, {_APGD}"),
    "rand": Entry(suites.rand, _ALL, f"AutoAttack, {_APGD}"),
}


def make(name: str, norm: str = "linf") -> Attack:
    """An attack of the registry by its name.

    Args:
        name: a key of `REGISTRY`.
        norm: ``"linf"``, ``"l2"``, ``"l1"`` or ``"l0"``.

    Raises:
        UnknownNameError: with the nearest names.

    Example:
        >>> make("pgd", "l2")
        Attack(pgd-40, l2)
    """
    if name not in REGISTRY:
        raise UnknownNameError("attack", name, REGISTRY)
    if norm not in REGISTRY[name].norms:
        raise UnknownNameError(f"norm for {name}", norm, REGISTRY[name].norms)
    return REGISTRY[name].make({**BALLS, "l0": l0}[norm])
