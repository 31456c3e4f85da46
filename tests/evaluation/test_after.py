"""A sweep that goes on from what an earlier one left standing."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import linen as nn

from jaxdefense import Frozen, attacks, l2, linf, sweep
from jaxdefense.errors import InputError
from jaxdefense.evaluation import nested, recall
from jaxdefense.evaluation.robustness import worst

RADII = np.array([0.0, 0.02, 0.05, 0.1, 0.2, 0.4], np.float32)
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def case(linear):
    weights = linear.weights()
    x, _ = linear.data(count=12)
    classifier = linear.classifier(weights)
    return classifier, x, np.asarray(classifier(x).argmax(-1))


METHODS = {
    "nested": (attacks.pgd(linf, 10), {}),
    "grid": (attacks.pgd(linf, 10), {"method": "grid"}),
    "minimum norm": (attacks.fmn(linf, 10), {}),
    "no gradients": (attacks.square(linf, 30), {}),
}


@pytest.mark.parametrize("name", METHODS)
def test_the_result_is_the_worst_of_both_and_costs_less(case, name):
    attack, options = METHODS[name]
    first = sweep(attacks.gaussian(0.3, linf), *case, RADII, KEY)
    alone = sweep(attack, *case, RADII, KEY, **options)
    both = sweep(attack, *case, RADII, KEY, after=first, **options)
    either = np.minimum(first.smallest_radius, alone.smallest_radius)
    np.testing.assert_array_equal(both.smallest_radius, either)
    np.testing.assert_array_equal(both.robust_accuracy, 1 - (either[:, None] <= RADII).mean(0))
    assert set(np.unique(both.broken_by)) <= {"", *first.attack.split("+"), attack.name}


@pytest.mark.parametrize("name", METHODS)
def test_nothing_is_attacked_where_nothing_is_left(case, name):
    attack, options = METHODS[name]
    first = sweep(attacks.pgd(linf, 10), *case, RADII, KEY)
    done = dataclasses.replace(first, smallest_radius=np.zeros_like(first.smallest_radius))
    both = sweep(attack, *case, RADII, KEY, after=done, **options)
    assert both.evaluations.gradients == first.evaluations.gradients
    assert (both.smallest_radius == 0).all()


def test_a_search_does_not_look_above_what_is_known(case, monkeypatch):
    """Where the guess points above a known radius: what is below that is looked at all the same."""
    attack, seen = attacks.pgd(linf, 10), []
    grid = np.linspace(0.01, 0.4, 24).astype(np.float32)
    whole = sweep(attack, *case, grid, KEY)
    assert np.isfinite(whole.smallest_radius).any()
    job = nested.Engine._job

    def spied(self, held, fresh, setting):
        tasks = [task for task, new in zip(held, fresh, strict=True) if new and task]
        seen.extend((task.radius, self.finds.index[task.example]) for task in tasks)
        return job(self, held, fresh, setting)

    monkeypatch.setattr(nested.Engine, "_job", spied)
    monkeypatch.setattr(
        nested.Engine, "_guess", lambda self, examples: dict.fromkeys(examples.tolist(), 20)
    )
    some = np.where(np.isfinite(whole.smallest_radius), grid[6], np.inf)
    first = dataclasses.replace(whole, smallest_radius=np.maximum(whole.smallest_radius, some))
    both = sweep(attack, *case, grid, KEY, after=first)
    assert seen
    assert all(radius < known for radius, known in seen)
    np.testing.assert_array_equal(both.smallest_radius, whole.smallest_radius)


def test_radii_at_and_above_a_known_one_are_not_tried(case):
    """The grid pays for every pair it tries: only those below the known radius."""
    attack = attacks.pgd(linf, 10)
    whole = sweep(attack, *case, RADII, KEY, method="grid")
    known = dataclasses.replace(whole, smallest_radius=np.full(12, RADII[3]))
    part = sweep(attack, *case, RADII, KEY, method="grid", after=known)
    only = sweep(attack, *case, RADII[:3], KEY, method="grid")
    spent = part.evaluations.gradients - whole.evaluations.gradients
    assert spent == only.evaluations.gradients
    np.testing.assert_array_equal(part.smallest_radius, np.minimum(only.smallest_radius, RADII[3]))


def test_an_earlier_result_of_something_else_is_refused(case):
    first = sweep(attacks.pgd(linf, 2), *case, RADII, KEY)
    for radii, attack in ((RADII[:-1], attacks.pgd(linf, 2)), (RADII, attacks.pgd(l2, 2))):
        with pytest.raises(InputError, match="after: the earlier result"):
            sweep(attack, *case, radii, KEY, after=first)
    classifier, x, y = case
    with pytest.raises(InputError, match="of 12 images"):
        sweep(attacks.pgd(linf, 2), classifier, x[:5], y[:5], RADII, KEY, after=first)


class Flat(nn.Module):
    """A linear classifier that can be told from others."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(x.reshape(len(x), -1))


def test_results_on_disk_are_told_apart_by_what_they_go_on_from(case, tmp_path):
    _, x, _ = case
    classifier = Frozen(Flat(), Flat().init(KEY, x))
    attack, shown = attacks.pgd(linf, 10), (classifier, x, np.asarray(classifier(x).argmax(-1)))
    first = sweep(attacks.gaussian(0.3, linf), *shown, RADII, KEY)
    given = (tmp_path, attack, *shown, RADII, KEY)
    alone, both = recall(*given), recall(*given, after=first)
    assert len(list(tmp_path.glob("*.npz"))) == 2
    again = recall(*given, after=first)
    assert again.attack == both.attack != alone.attack
    np.testing.assert_array_equal(again.smallest_radius, both.smallest_radius)
    # Others who broke as little hand on other names and costs.
    dearer = dataclasses.replace(first, attack="another", evaluations=both.evaluations)
    found = recall(*given, after=dearer)
    assert found.attack.startswith("another+")
    assert found.evaluations.gradients > both.evaluations.gradients


def test_worst_says_who_was_first(case):
    classifier, x, y = case
    weak = sweep(attacks.fgsm(linf), classifier, x, y, RADII, KEY)
    strong = sweep(attacks.pgd(linf, 20), classifier, x, y, RADII, KEY)
    both = worst(weak, strong)
    assert both.attack == f"{weak.attack}+{strong.attack}"
    credited = both.broken_by[weak.broken_by != ""]
    assert set(credited.ravel()) <= {"fgsm"}
    assert (both.robust_accuracy <= np.minimum(weak.robust_accuracy, strong.robust_accuracy)).all()
