"""How much an audit spends."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Budget:
    """Settings of every part of an audit.

    Attributes:
        steps: of PGD.
        longer: of the last gradient attack, which shows whether more steps would find more.
        restarts: of PGD, to show whether more would find more.
        suite: AutoAttack's version against deterministic defences; ``rand`` is for random ones.
        minimum_steps: of the minimum-norm attack.
        queries: of Square.
        decisions: steps and queries of HopSkipJump; 0 steps for none.
        decision_images: it attacks at most so many of the images still standing.
        draws: of a random defence's randomness, for each gradient.
        epochs, n_train: of the networks that are trained to transfer attacks from.
        architectures: of the registry, besides the classifier's own.
        few: images for checks.
        certify: draws for the choice of a class and for its probability, in randomised smoothing.
    """

    steps: int
    longer: int
    restarts: int
    suite: str
    minimum_steps: int
    queries: int
    decisions: tuple[int, int]
    decision_images: int
    draws: int
    epochs: int
    n_train: int
    architectures: tuple[str, ...]
    few: int
    certify: tuple[int, int]

    @property
    def ladder(self) -> tuple[int, ...]:
        """Numbers of draws that are compared: does anybody find more with more of them?"""
        return tuple(sorted({1, self.draws, 4 * self.draws}))


BUDGETS = {
    "quick": Budget(
        steps=20,
        longer=50,
        restarts=2,
        suite="quick",
        minimum_steps=20,
        queries=300,
        decisions=(0, 0),
        decision_images=0,
        draws=8,
        epochs=2,
        n_train=3000,
        architectures=(),
        few=32,
        certify=(50, 500),
    ),
    "standard": Budget(
        steps=40,
        longer=200,
        restarts=5,
        suite="standard",
        minimum_steps=100,
        queries=2000,
        decisions=(15, 60),
        decision_images=32,
        draws=20,
        epochs=4,
        n_train=10_000,
        architectures=("lenet5",),
        few=64,
        certify=(100, 2000),
    ),
    "thorough": Budget(
        steps=100,
        longer=1000,
        restarts=10,
        suite="plus",
        minimum_steps=300,
        queries=10_000,
        decisions=(40, 100),
        decision_images=64,
        draws=40,
        epochs=10,
        n_train=60_000,
        architectures=("lenet5", "resnet8"),
        few=128,
        certify=(100, 10_000),
    ),
}
"""Name -> `Budget`: minutes, tens of minutes, hours for a small network on two cores."""
