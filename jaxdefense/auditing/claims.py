"""What a defence claims, and what is said of it."""

import re
from typing import NamedTuple

import numpy as np

from jaxdefense.errors import InputError
from jaxdefense.geometry import BALLS

HOLDS, WEAKENED, BROKEN, UNRELIABLE = "holds", "weakened", "broken", "evaluation unreliable"

EXIT_STATUS = {HOLDS: 0, WEAKENED: 1, BROKEN: 1, UNRELIABLE: 2}
"""Of a verdict, for use in CI."""


_WIDE = 0.21
"""An interval of this width says nothing: that of 95 images of which half are right."""
_SHORT = 0.05
"""What falls so far short of a claim does not show it, even where chance may explain it."""

NO_ATTACK = "no attack"
"""Before the first attacker: images that are misclassified as they are."""
CERTIFICATE = "certificate"
"""What decides where a claim is proven; also the check that no attack contradicts the proof."""


class Claim(NamedTuple):
    """A robust accuracy at a radius, for example ``Claim(0.92, "linf", 0.3)``.

    Attributes:
        accuracy: claimed share of images classified correctly whatever is done within the radius.
        norm: of the radius.
        eps: the radius, in pixel units of [0, 1].
    """

    accuracy: float
    norm: str
    eps: float

    @classmethod
    def parse(cls, text: str) -> "Claim":
        """``"0.92@linf:0.3"``; an eps may be a fraction, as in ``"0.5@linf:8/255"``.

        Raises:
            InputError: anything else.

        Example:
            >>> Claim.parse("0.5@linf:8/255")
            Claim(accuracy=0.5, norm='linf', eps=0.03137254901960784)
        """
        number = r"([0-9.eE+-]+)"
        found = re.fullmatch(rf"{number}@(\w+):{number}(?:/{number})?", text.strip())
        try:
            if found is None:
                raise ValueError
            accuracy, norm, eps, over = found.groups()
            claim = cls(float(accuracy), norm, float(eps) / float(over or 1))
        except (ValueError, ZeroDivisionError):
            raise InputError(
                f"claim {text!r} must be written accuracy@norm:eps, for example 0.92@linf:0.3"
            ) from None
        return claim.checked()

    def checked(self) -> "Claim":
        """Itself, if it can be judged.

        Raises:
            InputError: an accuracy outside [0, 1], an unknown norm, a radius that is not positive.
        """
        if not 0 <= self.accuracy <= 1:
            raise InputError(
                f"a claim's accuracy is a share in [0, 1], got {self.accuracy:g}: divide by 100 if "
                "it is in per cent"
            )
        if self.norm not in BALLS:
            raise InputError(f"claim: the norm {self.norm!r} is none of {', '.join(BALLS)}")
        if not self.eps > 0:
            raise InputError(f"claim: eps is {self.eps:g}, but a claim is of a positive radius")
        return self

    def __str__(self) -> str:
        return f"{100 * self.accuracy:.4g} % at {self.norm} {self.eps:.4g}"


class Verdict(NamedTuple):
    """What is said of a claim.

    Attributes:
        claim: what was claimed.
        outcome: ``"holds"``, ``"weakened"``, ``"broken"`` or ``"evaluation unreliable"``.
        robust_accuracy: the worst case over all attackers at the claimed radius.
        interval: ``(low, high)``, its 95 % Clopper-Pearson interval.
        decided_by: name of the cell or check that decides: of a claim that is refuted, the first
            attacker that does; of one that no attacker refutes, the first after which nobody
            found more.
        decided_kind: what it is: ``"attacker"``, ``"all attackers"``, ``"check"``,
            ``"certificate"``, ``"few images"`` or ``"clean accuracy"``.
        says: why, and what to try next.
    """

    claim: Claim
    outcome: str
    robust_accuracy: float
    interval: tuple[float, float]
    decided_by: str
    decided_kind: str
    says: str

    @property
    def exit_status(self) -> int:
        """0 where the claim holds, 1 where not, 2 where nobody can say."""
        return EXIT_STATUS[self.outcome]


def judge(
    claim: Claim,
    after: dict[str, tuple[float, np.ndarray]],
    doubts: list[str],
    certified: float | None,
) -> Verdict:
    """The verdict on one claim.

    A claim is refuted where the upper end of the interval of the worst-case robust accuracy is
    below it: *broken* where that is even below half of what was claimed, else *weakened*. What an
    attack has found stands, however unreliable other attacks are. So few images that the interval
    is wide, or reaches the claim from 5 points below, refute nothing and show nothing. A claim that
    no attack refutes *holds* if nothing speaks against the attacks, or if it is certified and no
    attack contradicts the certificate.

    Args:
        claim: at one of the radii.
        after: cell -> robust accuracy, and its interval ``[2]``, at the claimed radius after it
            and all before it, in the order they ran.
        doubts: checks that failed and without which the worst case may be far too high.
        certified: lower end of the interval of the share that is certified at the claimed radius,
            where there is such.
    """
    last = list(after)[-1]
    accuracy, (low, high) = after[last]
    found = (claim, accuracy, (float(low), float(high)))

    def verdict(outcome: str, decided_by: str, kind: str, says: str) -> Verdict:
        return Verdict(found[0], outcome, found[1], found[2], decided_by, kind, says)

    share = f"{100 * accuracy:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
    if high < claim.accuracy:
        below = [name for name, (_, (_, most)) in after.items() if most < claim.accuracy]
        half = [name for name, (_, (_, most)) in after.items() if most < claim.accuracy / 2]
        if (half or below)[0] == NO_ATTACK:
            return verdict(
                BROKEN if half else WEAKENED, NO_ATTACK, "clean accuracy",
                f"{share} left of {claim}, and {100 * after[NO_ATTACK][0]:.1f} % without any "
                "attack. See that labels, the order of the classes and the range of the pixels are "
                "the network's (jaxdefense.Normalized for one trained on normalised images)",
            )  # fmt: skip
        if half:
            return verdict(
                BROKEN, half[0], "attacker",
                f"{share} left of {claim}. Evaluate the next version against this attacker from "
                "the start",
            )  # fmt: skip
        return verdict(
            WEAKENED, below[0], "attacker",
            f"{share} left of {claim}. Claim no more than this, and try a larger budget: it may "
            "find more",
        )  # fmt: skip
    short = accuracy < claim.accuracy - _SHORT
    if low < claim.accuracy and (high - low > _WIDE or short):
        more = "Audit more: these speak against it" if short else "Audit some hundred"
        return verdict(
            UNRELIABLE, "few images", "few images", f"{share} left: too few images to tell. {more}"
        )  # fmt: skip
    if certified is not None and certified >= claim.accuracy and CERTIFICATE not in doubts:
        return verdict(
            HOLDS, CERTIFICATE, CERTIFICATE,
            f"{100 * certified:.1f} % or more are certified, with 95 % confidence and endless "
            "draws in each vote: no attack can",
        )  # fmt: skip
    if doubts:
        return verdict(
            UNRELIABLE, doubts[0], "check",
            f"{share} left, but the attacks cannot be relied on ({', '.join(doubts)}). Say more "
            "about the parts (differentiable=False, backward=, train=), or take a larger budget",
        )  # fmt: skip
    less = ", less than claimed but within the interval" if accuracy < claim.accuracy else ""
    strongest = next(name for name, (left, _) in after.items() if left <= accuracy)
    return verdict(
        HOLDS, strongest, "all attackers",
        f"{share} left{less}: none of these attackers refutes it, and nothing speaks against them. "
        "A larger budget and an attack made for this defence would say more",
    )  # fmt: skip
