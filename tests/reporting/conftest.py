"""Small made-up records; nothing here is a measurement."""

import pytest

from jaxdefense.reporting import Record


def made_up(**changes):
    cell = {
        "experiment": "test",
        "dataset": "digits",
        "model": "ResNet",
        "defence": "AE",
        "attack": "fgsm",
        "knowledge": "white-box",
        "norm": "linf",
        "eps": 0.1,
        "value": 0.5,
        "low": 0.4,
        "high": 0.6,
        "n": 100,
        "seed": 0,
        "gradients": 100,
        "forwards": 200,
        "provenance": "made up",
        "synthetic": False,
    }
    return Record(**(cell | changes))


@pytest.fixture
def record():
    return made_up


@pytest.fixture
def grid():
    """Two defences; clean, noise and two attacks, whose grids of radii differ."""
    records = []
    for defence, clean in (("none", 0.99), ("AE", 0.96)):
        kind = {"attack": "none", "knowledge": "none", "eps": 0.0}
        records.append(made_up(defence=defence, value=clean, low=0.9, high=1.0, **kind))
        noise = {"attack": "gaussian", "knowledge": "none", "norm": "sigma"}
        for eps, value in ((0.1, 0.8), (0.5, 0.3)):
            records.append(
                made_up(defence=defence, eps=eps, value=value, low=0.2, high=0.9, **noise)
            )
        for knowledge, factor in (("oblivious", 0.5), ("white-box", 0.1)):
            if defence == "none" and knowledge == "oblivious":
                continue  # the same attack as white-box, as there is no defence
            kind = {"defence": defence, "knowledge": knowledge, "low": 0.0, "high": 0.6}
            records.append(made_up(eps=0.1, value=factor, **kind))
            for eps in (0.1, 8 / 255):
                records.append(made_up(attack="pgd-40", eps=eps, value=factor / 2, **kind))
    return records
