"""The registry with budgets small enough to be run often, and in which balls."""

from jaxdefense import attacks, losses
from jaxdefense.attacks import REGISTRY, make, suites

# What is missing here is run as it is registered.
SMALL = {
    "pgd-restarts": lambda ball: attacks.restarts(attacks.pgd(ball, 10), 3),
    "apgd-ce": lambda ball: attacks.apgd(ball, 30),
    "apgd-dlr": lambda ball: attacks.apgd(ball, 30, loss=losses.dlr),
    "apgd-t": lambda ball: attacks.multi_targeted(attacks.apgd(ball, 20, loss=losses.dlr), 3),
    "fab": lambda ball: attacks.fab(ball, 20, candidates=3),
    "fab-t": lambda ball: attacks.multi_targeted(attacks.fab(ball, 20), 3),
    "deepfool": lambda ball: attacks.deepfool(ball, 10, candidates=3),
    "carlini-wagner": lambda ball: (
        attacks.carlini_wagner(ball, 10, 50)
        if ball.name == "linf"
        else attacks.carlini_wagner(ball, 5, 60, 0.05)
    ),
    "ddn": lambda ball: attacks.ddn(ball, 60),
    "fmn": lambda ball: attacks.fmn(ball, 60),
    "fmn-t": lambda ball: attacks.multi_targeted(attacks.fmn(ball, 30), 2),
    "jsma": lambda ball: attacks.multi_targeted(attacks.jsma(ball, steps=20), 2),
    "lbfgs": lambda ball: attacks.lbfgs(ball, 5, 20),
    "square": lambda ball: attacks.square(ball, 200),
    "spsa": lambda ball: attacks.spsa(ball, 10, samples=16),
    "hopskipjump": lambda ball: attacks.hopskipjump(ball, 10),
    "one-pixel": lambda ball: attacks.one_pixel(population=20, generations=10),
    "quick": lambda ball: suites.quick(ball),
    "standard": lambda ball: suites.line_up(ball, 8, 40),
    "plus": lambda ball: suites.line_up(ball, 6, 30, plus=True),
    "rand": lambda ball: suites.rand(ball),
}

# Of what is only put together from others, one ball is enough.
ONE_BALL = {
    "pgd-margin": "l2", "pgd-dlr": "linf", "pgd-restarts": "l1", "apgd-dlr": "linf",
    "apgd-t": "l2", "fab-t": "linf", "fmn-t": "l1", "grey": "l2", "quick": "linf", "standard": "l2",
    "plus": "linf", "rand": "linf",
}  # fmt: skip

ALL = [
    (name, norm)
    for name, entry in REGISTRY.items()
    for norm in ([ONE_BALL[name]] if name in ONE_BALL else entry.norms)
]


def small(name, norm):
    """The attack of that name, in small."""
    usual = make(name, norm)
    return SMALL[name](usual.ball) if name in SMALL else usual
