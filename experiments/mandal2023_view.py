"""The records of `mandal2023_convolutional_autoencoder`, as tables and predictions ask for them."""

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np

from experiments import views
from experiments.cells import WHITE_BOX
from experiments.mandal2023_cells import DROPOUT, TRAINING
from experiments.mandal2023_parts import AUTOENCODERS, CODED_AE, FGSM_AE, RADII
from experiments.measuring import OBLIVIOUS
from experiments.pooling import Query, find
from jaxdefense.reporting import Record

GAIN = "gain (percentage points)"
COLUMNS = ("as attacked", "corrected", "white-box", "strongest")
"""How a printed number is answered; `corrected` is the first without the faults of the code."""


class View(views.View):
    """What was measured, and how it answers the printed numbers."""

    def transferred(
        self, dataset: str, defence: str, attack: str, eps: float, mode: str = ""
    ) -> Query:
        """Examples crafted on the bare classifier; a mode is `DROPOUT` or `TRAINING`."""
        known = WHITE_BOX if defence == "none" else OBLIVIOUS
        model = self.model + mode
        return self.query(dataset, defence, attack=attack, eps=eps, knowledge=known, model=model)

    def coded(self, dataset: str, defence: str, kind: str, eps: float) -> Query:
        """As the public code attacks, and of its own FGSM the autoencoder trained on that.

        Without a defence its PGD is on training images.
        """
        team = self.teams[dataset]
        if kind == "fgsm":
            own = CODED_AE if defence == FGSM_AE else defence
            return self.transferred(dataset, own, team.coded_fgsm.name, eps, DROPOUT)
        if defence == "none":
            return self.transferred(dataset, defence, team.coded_pgd.name, eps, TRAINING)
        return self.transferred(dataset, defence, team.pgd.name, eps, DROPOUT)

    def corrected(self, dataset: str, defence: str, kind: str, eps: float) -> Query:
        """The same attack in evaluation mode on test images, with the cross-entropy, 40 steps."""
        team = self.teams[dataset]
        return self.transferred(dataset, defence, getattr(team, kind).name, eps)

    def white_box(self, dataset: str, defence: str, kind: str, eps: float) -> Query:
        """Through the whole defence; without one it is the corrected attack."""
        if defence == "none":
            return self.corrected(dataset, defence, kind, eps)
        attack = getattr(self.teams[dataset], f"{kind}_mean").name
        return self.query(dataset, defence, attack=attack, eps=eps, knowledge=WHITE_BOX)

    def ways(self, dataset: str, defence: str, kind: str, eps: float) -> dict[str, Query]:
        """One query for each of `COLUMNS`."""
        given = (dataset, defence, kind, eps)
        found = (self.coded(*given), self.corrected(*given), self.white_box(*given))
        return dict(zip(COLUMNS, (*found, self.strongest(dataset, defence, eps)), strict=True))


def gains(view: View) -> Iterator[Record]:
    """Percentage points that an autoencoder adds under its own attack, by seed and column."""
    for seed in sorted({record.seed for record in view.records}):
        own = [record for record in view.records if record.seed == seed]
        for dataset in view.titles:
            for kind, name in AUTOENCODERS.items():
                queries = (view.ways(dataset, d, kind, RADII[name]) for d in (name, "none"))
                for column, (with_it, without) in zip(COLUMNS, _pairs(*queries), strict=True):
                    defended, bare = find(own, with_it), find(own, without)
                    if defended and bare:
                        gain = 100 * (defended.value - bare.value)
                        images = min(defended.n, bare.n)
                        yield _gain(own, view, dataset, name, column, gain, images)


def _pairs(one: Mapping[str, Query], other: Mapping[str, Query]) -> Iterator[tuple[Query, Query]]:
    return zip(one.values(), other.values(), strict=True)


def _gain(own, view, dataset, name, column, gain, images: int) -> Record:
    like = next(r for r in own if (r.dataset, r.defence) == (view.titles[dataset], name))
    return dataclasses.replace(
        like, model=view.model, attack="gain", knowledge=column, metric=GAIN, eps=RADII[name],
        value=gain, n=images, low=np.nan, high=np.nan, gradients=0, forwards=0, note="",
    )  # fmt: skip
