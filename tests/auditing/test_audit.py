"""The audit from end to end, on functions whose robustness has a closed form."""

import dataclasses
import json
import shlex
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import jaxdefense as jd
from jaxdefense import attacks
from jaxdefense.auditing import BUDGETS, audit, masking
from jaxdefense.auditing.claims import BROKEN, HOLDS, UNRELIABLE
from jaxdefense.auditing.defence import as_defence
from jaxdefense.auditing.matrix import Matrix
from jaxdefense.auditing.plan import GREY, SHORT, plan
from jaxdefense.auditing.result import SCHEMA
from jaxdefense.auditing.usable import logits_of_all
from jaxdefense.data import as_images
from jaxdefense.defenses import smoothed
from jaxdefense.errors import InputError, UnknownNameError

TINY = dataclasses.replace(
    BUDGETS["quick"], steps=8, longer=10, restarts=2, minimum_steps=5, queries=20, few=16, draws=2,
    certify=(20, 300), epochs=1, n_train=128,
)  # fmt: skip
# Audits of one function share their programs, so they belong to one worker.
pytestmark = pytest.mark.xdist_group("audit")
KEY = jax.random.key(0)
RADII = [0.01, 0.05, 0.2]


class Flat(nn.Module):
    """A linear classifier whose results can be kept."""

    @nn.compact
    def __call__(self, x, train=False):
        return nn.Dense(3)(x.reshape(len(x), -1))


@pytest.fixture(scope="module")
def case(linear):
    x, _ = linear.data(count=40)
    classifier = linear.classifier(linear.weights())
    return classifier, np.asarray(x), np.asarray(classifier(x).argmax(-1))


@pytest.fixture(scope="module")
def masked(case):
    """Quantisation before a linear classifier, whose author claims what its gradients leave."""
    classifier, x, y = case
    rounds = jd.defenses.bit_depth(2)
    y = np.asarray(classifier(rounds(jnp.asarray(x))).argmax(-1))
    return audit(
        jd.Purified(rounds, classifier), x, y, RADII, KEY, budget=TINY,
        claims=["0.9@linf:0.2", "0.0@linf:0.05"], command="jaxdefense audit m:f", about="random",
    )  # fmt: skip


def names(found):
    return [outcome.name for outcome in found.outcomes]


def test_masked_gradients_are_gone_around(masked):
    by_name = {o.name: o for o in masked.outcomes}
    assert by_name["white-box"].robust_accuracy[-1] > 0.5  # what its author saw
    assert by_name["BPDA, identity"].robust_accuracy[-1] < 0.2
    first, second = masked.verdicts
    assert first.outcome == BROKEN
    assert second.outcome != BROKEN
    assert masked.exit_status == 1


def test_checks_name_what_masks(masked):
    outcomes = {check.name: check.outcome for check in masked.checks}
    assert outcomes["zero gradients"] == "fail"
    assert outcomes["differences"] == "pass"  # of the way around
    assert outcomes["no gradients needed"] == "pass"


def test_the_worst_case_is_that_of_all_attackers_image_by_image(masked):
    worst = masked.worst.robust_accuracy
    assert (np.diff(worst) <= 0).all()
    for outcome in masked.outcomes:
        if outcome.kind != "undefended":
            assert (worst <= outcome.robust_accuracy + 1e-9).all(), outcome.name
    # What each was the first to break adds up.
    new = sum(outcome.new for outcome in masked.outcomes)
    first = next(o for o in masked.outcomes if o.kind != "undefended")
    np.testing.assert_allclose(first.robust_accuracy - new, worst, atol=1e-9)


def test_what_could_not_be_tested_is_said(masked, case):
    told = {row.name: row.reason for row in masked.skipped}
    assert told["transfer"] == "neither training images nor substitutes were given"
    assert told["decision-based"] == "not within this budget"
    classifier, x, y = case
    bare = audit(lambda x: classifier(x), x, y, RADII, KEY, budget=TINY)
    assert {"undefended", "oblivious", "BPDA", "transfer"} <= {row.name for row in bare.skipped}
    assert bare.explanations == ()


def test_a_linear_classifier_keeps_what_its_closed_form_says(case, linear):
    """And everything that speaks for the attacks says so."""
    classifier, x, y = case
    weights = classifier.args[0]
    logits = np.asarray(classifier(x))
    margins = logits.max(-1, keepdims=True) - logits
    slopes = np.abs(np.asarray(weights[:, y].T[:, :, None] - weights[None])).sum(1)
    slopes[np.arange(40), y], margins[np.arange(40), y] = 1.0, np.inf
    distance = (margins / slopes).min(-1)  # without the box, so a lower bound
    radii = np.quantile(distance, [0.2, 0.5]).astype(np.float32)
    # Of 40 images a fifth more or less says nothing.
    claim = jd.auditing.Claim(float((distance > radii[1]).mean()) - 0.2, "linf", float(radii[1]))
    found = audit(classifier, x, y, radii, KEY, budget=TINY, claims=[claim])
    np.testing.assert_allclose(
        found.worst.robust_accuracy[1:], (distance[:, None] > radii).mean(0), atol=0.051
    )
    assert found.verdicts[0].outcome == HOLDS
    assert not [c.name for c in found.checks if c.outcome == "fail"]
    assert found.exit_status == 0


def test_an_attack_that_does_nothing_makes_the_evaluation_unreliable(case, monkeypatch):
    """A strong claim that nothing refutes, where nothing was tried, must not hold."""
    classifier, x, y = case
    for name in ("pgd", "fgsm", "apgd", "fmn", "square"):
        make = getattr(attacks, name)
        weak = lambda *a, make=make, **k: _idle(make(*a, **k))
        monkeypatch.setattr(attacks, name, weak)
    monkeypatch.setitem(attacks.SUITES, "quick", lambda ball: _idle(attacks.pgd(ball, 2)))
    found = audit(classifier, x, y, RADII, KEY, budget=TINY, claims=["0.99@linf:0.2"])
    assert found.verdicts[0].outcome == UNRELIABLE
    assert "unbounded" in found.doubts
    assert found.exit_status == 2


def _idle(attack):
    def init(keys, probe, x, goal, eps):
        return attacks.search.begin(x)

    step = lambda keys, probe, state, x, goal, eps: state
    search = attacks.search.Search(init, step, step_cost=attacks.search.Cost(), settings="idle")
    stages = tuple(stage._replace(search=search) for stage in attack.stages)
    return dataclasses.replace(attack, stages=stages)


def test_probabilities_are_turned_into_logits_and_said_so(case):
    classifier, x, y = case
    found = audit(lambda x: jax.nn.softmax(classifier(x)), x, y, [0.05, 0.2], KEY, budget=TINY)
    (check,) = [c for c in found.checks if c.name == "probabilities"]
    assert check.outcome == "note"
    plain = audit(classifier, x, y, [0.05, 0.2], KEY, budget=TINY)
    np.testing.assert_allclose(found.worst.robust_accuracy, plain.worst.robust_accuracy, atol=0.051)


def test_randomness_that_is_not_declared_is_refused(case):
    classifier, x, y = case
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="it is random"):
        audit(lambda x: classifier(x + rng.normal()), x, y, RADII, KEY, budget=TINY)


def test_random_defences_are_judged_by_their_most_frequent_answer(case):
    """Else one of many attackers finds a draw that fails by chance, at any radius."""
    classifier, x, y = case

    def flips(keys, x):  # one answer in ten is wrong, whatever the image
        wrong = jax.vmap(lambda key: jax.random.bernoulli(key, 0.1))(keys)
        return jnp.where(wrong[:, None], -classifier(x), classifier(x))

    found = audit(jd.Randomized(flips), x, y, [1e-4, 2e-4], KEY, budget=TINY)
    assert found.worst.robust_accuracy[-1] > 0.9
    assert "more draws" in {check.name for check in found.checks}


def test_a_smoothed_classifier_brings_its_certificate(case):
    classifier, x, y = case
    vote = smoothed(classifier, 0.1, draws=11)
    found = audit(vote, x, y, [0.02, 0.05], KEY, ball=jd.l2, budget=TINY, claims=["0.3@l2:0.02"])
    assert found.certificate is not None
    proven = found.certificate.accuracy(found.radii)
    # What is proven is of endless draws: an image at the edge of a class may fail by chance.
    assert (found.worst.robust_accuracy >= proven - 1.5 / len(x)).all()
    assert (found.verdicts[0].outcome, found.verdicts[0].decided_by) in (
        (HOLDS, "certificate"), (HOLDS, found.outcomes[-1].name),
    )  # fmt: skip


def test_a_certificate_of_another_norm_proves_nothing(case):
    classifier, x, y = case
    found = audit(smoothed(classifier, 0.1, draws=11), x, y, [0.02], KEY, budget=TINY)
    assert found.certificate is None
    assert "certificate" in {row.name for row in found.skipped}
    assert found.to_json()["certificate"] is None


def test_a_gradient_that_is_said_to_be_of_no_use_is_tried_where_it_has_one(case):
    classifier, x, y = case
    smooth, rounds = (lambda x: 0.9 * x), jd.defenses.bit_depth(2)
    for purifier, tried in ((smooth, True), (rounds, False)):
        defence = jd.Defence(classifier=classifier, purifier=purifier, differentiable=False)
        found = audit(defence, x, y, [0.05], KEY, budget=TINY)
        assert (f"{SHORT}, its own gradient" in names(found)) == tried


def test_a_network_that_cannot_be_trained_is_left_out(case):
    classifier, x, y = case
    images = np.round(255 * x).astype(np.uint8)
    found = audit(jd.Defence(classifier, train=(images, y)), x, y, [0.05], KEY, budget=TINY)
    assert "too small" in {row.name: row.reason for row in found.skipped}["transfer: lenet5"]


class Needy(nn.Module):
    """Batch norm and an argument without a default, as many linen modules have it."""

    @nn.compact
    def __call__(self, x, train):
        x = nn.BatchNorm(use_running_average=not train)(x)
        return nn.Dense(2)(x.reshape(len(x), -1))


class Unruly(Needy):
    """In training it wants random numbers of a name of its own."""

    def __call__(self, x, train):
        self.make_rng("mine") if train else None
        return super().__call__(x, train)


@pytest.mark.parametrize("module", [Needy(), Unruly()])
def test_networks_of_the_users_are_trained_as_they_are_called(module):
    images = np.random.default_rng(0).integers(0, 255, (64, 8, 8, 1), dtype=np.uint8)
    labels = (images.mean((1, 2, 3)) > 127).astype(np.int32)
    variables = module.init(KEY, jnp.zeros((1, 8, 8, 1)), train=False)
    net = jd.Frozen(module, variables, (("train", False),))
    defence = jd.Defence(classifier=net, train=(images, labels))
    found = audit(defence, as_images(images[:8]), labels[:8], [0.1], KEY, budget=TINY)
    if isinstance(module, Unruly):
        assert (
            "InvalidRngError" in {s.name: s.reason for s in found.skipped}["transfer: another seed"]
        )
    else:
        assert "another seed" in found.meta["accuracy of substitutes"]


class Plain(nn.Module):
    """Takes images and nothing else, as most linen modules in tutorials do."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(2)(x.reshape(len(x), -1))


def test_a_network_that_is_handed_over_bare_is_trained_again():
    images = np.random.default_rng(0).integers(0, 255, (64, 8, 8, 1), dtype=np.uint8)
    labels = (images.mean((1, 2, 3)) > 127).astype(np.int32)
    net = jd.Frozen(Plain(), Plain().init(KEY, jnp.zeros((1, 8, 8, 1))))
    defence = jd.Defence(deployed=net, train=(images, labels))
    given = (defence, as_images(images[:8]), labels[:8], [0.1], KEY)
    found = audit(*given, budget=TINY)
    assert "transfer: another seed" in names(found)
    assert "transfer: another architecture" in {row.name for row in found.skipped}
    late = audit(*given, budget=TINY, seconds=0.0)
    assert not late.meta["accuracy of substitutes"]
    assert "transfer: another seed" in {row.name for row in late.skipped}


@jax.custom_vjp
def forbidden(x):
    return x


def refuse(_, seed):
    raise RuntimeError("nobody may differentiate this")


forbidden.defvjp(lambda x: (x, None), refuse)


def test_whatever_a_gradient_raises_ends_no_audit(case):
    classifier, x, y = case
    whole = jd.Purified(forbidden, classifier)
    found = audit(whole, x, y, [0.05, 0.2], KEY, budget=TINY, claims="0.9@linf:0.2")
    assert "BPDA, identity" in names(found)
    assert found.verdicts[0].outcome == BROKEN
    assert "nobody may" in {row.name: row.reason for row in found.skipped}["white-box"]


def test_an_audit_in_l1_tells_honest_from_masked(linear):
    x, y = map(np.asarray, linear.data(count=120))
    weights = np.asarray(linear.weights())
    classifier = linear.classifier(linear.weights())
    left = float((nearest_in_l1(weights, x, y) > 0.25).mean())
    given = ([0.1, 0.25], KEY)
    found = audit(classifier, x, y, *given, ball=jd.l1, budget=TINY, claims=f"{left}@l1:0.25")
    assert 0.2 < left < 0.95
    assert left <= found.worst.robust_accuracy[-1] <= left + 0.03
    assert (found.verdicts[0].outcome, masking.doubts(found.checks)) == (HOLDS, [])
    hidden = jd.Purified(jd.defenses.bit_depth(2), classifier)
    y = np.asarray(hidden(jnp.asarray(x)).argmax(-1))
    found = audit(hidden, x, y, [16.0], KEY, ball=jd.l1, budget=TINY, claims="0.9@l1:16")
    assert found.verdicts[0].outcome == BROKEN


def nearest_in_l1(weights, x, y):
    """The closest image of another class: the pixels that count most go to their ends first."""
    found = []
    for image, label in zip(x.reshape(len(x), -1), y, strict=True):
        distances = []
        for other in set(range(weights.shape[1])) - {int(label)}:
            slope = weights[:, other] - weights[:, label]
            behind = -((image - 0.5) @ slope)
            room = np.where(slope > 0, 1 - image, image)
            order = np.argsort(-abs(slope))
            gained = np.cumsum((abs(slope) * room)[order])
            last = np.searchsorted(gained, behind)
            before = gained[last - 1] if last else 0.0
            distances.append(room[order][:last].sum() + (behind - before) / abs(slope[order[last]]))
        found.append(min(distances))
    return np.array(found)


def test_attackers_train_networks_of_their_own():
    images = np.random.default_rng(0).integers(0, 255, (130, 8, 8, 1), dtype=np.uint8)
    labels = (images.mean((1, 2, 3)) > 127).astype(np.int32)
    net = jd.Frozen(Flat(), Flat().init(KEY, jnp.zeros((1, 8, 8, 1))))
    defence = jd.Defence(
        classifier=net, purifier=jd.defenses.bit_depth(3), train=(images, labels),
        substitutes={"mine": lambda x: jnp.stack([s := x.mean((1, 2, 3)), 1 - s, 0 * s], -1)},
    )  # fmt: skip
    shown = as_images(images[:8])
    found = audit(defence, shown, labels[:8], [0.1], KEY, budget=TINY)
    assert {
        "transfer: mine", "transfer: another seed", "transfer: together", "BPDA, learned"
    } <= set(names(found))  # fmt: skip
    assert set(found.meta["accuracy of substitutes"]) == {"another seed"}
    assert "white-box, 8-bit" in names(found)


def test_a_substitute_of_other_classes_is_refused(case):
    classifier, x, y = case
    defence = jd.Defence(deployed=classifier, substitutes={"mine": lambda x: classifier(x)[:, :2]})
    with pytest.raises(InputError, match="'mine' returns"):
        audit(defence, x, y, RADII, KEY, budget=TINY)


def test_a_killed_audit_goes_on_from_finished_attackers(case, tmp_path, monkeypatch):
    _, x, _ = case
    classifier = jd.Frozen(Flat(), Flat().init(KEY, x))
    given = (classifier, x, np.asarray(classifier(x).argmax(-1)), RADII, KEY)
    whole = audit(*given, budget=TINY, folder=tmp_path)
    done = []
    measure = Matrix.measure
    counting = lambda self, cell: done.append(cell) or measure(self, cell)
    monkeypatch.setattr(Matrix, "measure", counting)
    monkeypatch.setattr("jaxdefense.evaluation.store.sweep", lambda *a, **k: pytest.fail("again"))
    again = audit(*given, budget=TINY, folder=tmp_path)
    assert len(done) == len(whole.outcomes)
    assert [o.seconds for o in again.outcomes] == [o.seconds for o in whole.outcomes]
    assert all(o.seconds > 0 for o in whole.outcomes)
    np.testing.assert_array_equal(again.worst.smallest_radius, whole.worst.smallest_radius)


def test_attackers_of_a_module_whose_code_was_changed_are_not_told(case, tmp_path):
    """Its weights and its name are the same."""
    _, x, _ = case
    weights = Flat().init(KEY, x)
    y = np.asarray(Flat().apply(weights, x).argmax(-1))

    class Changed(Flat):
        @nn.compact
        def __call__(self, x, train=False):
            return 3 * nn.Dense(3)(x.reshape(len(x), -1)) - 1

    Changed.__name__ = Changed.__qualname__ = "Flat"
    for module in (Flat(), Changed(), Flat()):
        audit(jd.Frozen(module, weights), x, y, RADII, KEY, budget=TINY, folder=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["function-0", "function-1"]
    stored = {path.name: len(list(path.iterdir())) for path in tmp_path.iterdir()}
    assert stored["function-0"] == stored["function-1"] > 2


def test_one_attacker_can_be_repeated(case):
    classifier, x, y = case
    given = (classifier, x, y, RADII, KEY)
    whole = audit(*given, budget=TINY)
    at = names(whole).index("Square")
    again = audit(*given, budget=TINY, only="Square")
    assert names(again) == names(whole)[: at + 1]
    np.testing.assert_array_equal(
        again.outcomes[at].robust_accuracy, whole.outcomes[at].robust_accuracy
    )
    assert names(audit(*given, budget=TINY, only="white-box")) == ["white-box"]
    with pytest.raises(UnknownNameError, match="did you mean 'Square'"):
        audit(*given, budget=TINY, only="square")


def test_no_attacker_begins_when_the_time_is_over(case):
    classifier, x, y = case
    found = audit(classifier, x, y, RADII, KEY, budget=TINY, seconds=0.0)
    assert len(found.outcomes) == 1
    assert sum("the 0 s of this audit were over" in row.reason for row in found.skipped) > 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": "fast"}, "unknown budget"),
        ({"claims": ["0.9@l2:0.1"]}, "audit each norm by itself"),
        ({"radii": [8.0]}, "0-255 units"),
        ({"radii": 8.0}, "0-255 units"),
        ({"claims": "0.9@l2:0.1"}, "audit each norm by itself"),
        ({"ball": "l2"}, "must be one of jaxdefense.linf"),
        ({"ball": jd.l0}, "audit works in linf and l2 and l1, got l0"),
    ],
)
def test_bad_input_says_what_to_do(case, options, message):
    with pytest.raises(InputError, match=message):
        audit(*case, **{"radii": RADII, "budget": TINY, **options})


def test_attackers_that_are_missing_make_the_evaluation_unreliable(case):
    """What nobody has tried must not hold."""
    classifier, x, y = case
    given = (jd.Purified(jd.defenses.blur(1.0), classifier), x, y, [1e-4], KEY)
    claim = {"budget": TINY, "claims": ["0.3@linf:0.0001"]}
    for only in ({"seconds": 0.0}, {"only": "oblivious"}):
        found = audit(*given, **claim, **only)
        assert found.verdicts[0].outcome == UNRELIABLE
        assert found.exit_status == 2
        assert dataclasses.replace(found, verdicts=(), checks=()).exit_status == 2
    assert "only 'oblivious' was wanted" in {row.reason for row in found.skipped}


def test_only_what_is_deployed_is_scored(case):
    """Parts that are not those of the deployed function give gradients, and no more."""
    classifier, x, y = case
    defence = jd.Defence(
        deployed=lambda x: classifier(x), classifier=lambda x: -classifier(x),
        purifier=jd.defenses.bit_depth(6), differentiable=False,
    )  # fmt: skip
    found = audit(defence, x, y, [1e-4], KEY, budget=TINY)
    assert found.clean_accuracy == 1.0
    assert found.worst.robust_accuracy[-1] > 0.9


def test_what_is_deployed_is_asked_where_gradients_go_around_it(case):
    """AutoAttack's Square asks the way around, which may answer otherwise."""
    classifier, *_ = case
    parts = {"classifier": classifier, "purifier": jd.defenses.bit_depth(2)}
    for deployed, asked in ((None, False), (lambda x: classifier(x), True)):
        defence = as_defence(jd.Defence(deployed=deployed, differentiable=False, **parts))
        cells, _ = plan(defence, jd.linf, BUDGETS["standard"], {}, None, on_grid=True)
        assert ("Square" in {cell.name for cell in cells}) is asked


def test_from_one_half_on_nobody_keeps_more_than_the_largest_class(case):
    """Of a function without any gradient either: all images can be made the same grey one."""
    _, x, y = case
    nearest = lambda point: jnp.argmin(((point[:, None] - x[None]) ** 2).sum((2, 3, 4)), 1)
    found = audit(lambda x: jnp.eye(3)[y][nearest(x)], x, y, [0.01, 0.5], KEY, budget=TINY)
    assert names(found)[-1] == GREY  # after those whose strength it is to tell
    assert found.worst.robust_accuracy[-1] <= np.bincount(y).max() / len(y)


def test_probabilities_of_the_whole_leave_logits_of_its_parts_alone(case):
    classifier, x, y = case
    rounds = jd.defenses.bit_depth(6)
    shifted = lambda x: classifier(x) - 100.0  # below 0, as logits may be
    defence = jd.Defence(
        deployed=lambda x: jax.nn.softmax(shifted(rounds(x))), classifier=shifted,
        purifier=rounds, differentiable=False,
    )  # fmt: skip
    found = audit(defence, x, y, [1e-4], KEY, budget=TINY)
    assert min(o.robust_accuracy[0] for o in found.outcomes) == found.clean_accuracy
    # One function is wrapped once, so it stays without parts.
    alone = as_defence(jd.Defence(classifier=lambda x: jax.nn.softmax(classifier(x))))
    found = audit(alone, x, y, [1e-4], KEY, budget=TINY)
    assert "oblivious" not in names(found)


def test_probabilities_of_a_part_alone_are_turned_into_logits(case):
    classifier, x, y = case
    softmax = lambda x: jax.nn.softmax(5 * classifier(x))
    rounds = jd.defenses.bit_depth(6)
    whole = lambda x: classifier(rounds(x)) - 100.0
    parts = jd.Defence(deployed=whole, classifier=softmax, purifier=rounds, differentiable=False)
    for given in (parts, smoothed(softmax, 0.05)):
        before = as_defence(given)
        after, probabilities, own = logits_of_all(before, x, y, KEY)
        assert not probabilities
        odds = jax.nn.softmax(after.undefended(x))
        np.testing.assert_allclose(odds, softmax(x), rtol=1e-4)
        np.testing.assert_array_equal(logits_of_all(after, x, y, KEY)[2], own)
    assert after.whole.noisy.classifier is after.classifier  # what gradients go through


def test_images_that_the_parts_cannot_take_are_an_error_of_one_line(case):
    net = jd.Frozen(nn.Dense(3), nn.Dense(3).init(KEY, jnp.zeros((1, 4, 4, 3))))
    flat = lambda x: net(x).mean((1, 2))
    x, y = np.zeros((8, 3, 8, 8), np.float32), np.zeros(8, int)
    for parts in ({}, {"purifier": jd.defenses.blur(1.0)}, {"purifier": net}):
        with pytest.raises(InputError, match=r"cannot be called on images of shape"):
            audit(jd.Defence(classifier=flat, **parts), x, y, [0.1], KEY, budget=TINY)


def test_what_no_audit_can_use_is_refused_before_anything_is_trained(case, monkeypatch):
    classifier, x, y = case
    train = lambda *given: pytest.fail("trained")
    monkeypatch.setattr(sys.modules[audit.__module__], "train", train)
    nan = lambda x: classifier(x) * jnp.where(x.mean((1, 2, 3)) > 0.5, jnp.nan, 1.0)[:, None]
    with pytest.raises(InputError, match="NaN or inf"):
        audit(lambda x: nan(x + 0.5), x, y, [0.1], KEY, budget=TINY)
    with pytest.raises(InputError, match="logits are"):
        audit(lambda x: classifier(x).argmax(-1), x, y, [0.1], KEY, budget=TINY)


def test_one_flat_image_of_few_is_chance():
    classifier = lambda x: jnp.stack([v := jnp.maximum(x.mean((1, 2, 3)) - 0.2, 0), 1 - v], -1)
    x = np.full((16, 4, 4, 1), 0.6, np.float32)
    x[0] = 0.05
    check = masking.gradients(classifier, x, np.zeros(16, int), 0.01, jd.linf, KEY, None)
    assert (check.outcome, check.value) == ("pass", 1 / 16)
    x[:6] = 0.05
    flat = masking.gradients(classifier, x, np.zeros(16, int), 0.01, jd.linf, KEY, None)
    assert flat.outcome == "fail"


def test_parts_that_cannot_be_attacked_are_left_out(case):
    classifier, x, y = case
    on_host = lambda x: np.asarray(x).reshape(len(x), -1)[:, :3]
    host = lambda x: jax.pure_callback(on_host, jax.ShapeDtypeStruct((len(x), 3), x.dtype), x)
    blurred = jd.Defence(classifier=host, purifier=jd.defenses.blur(1.0))
    found = audit(blurred, x, np.asarray(blurred.whole(x).argmax(-1)), [0.1], KEY, budget=TINY)
    assert names(found) == ["Square"]
    assert "cannot be differentiated" in found.skipped[0].reason
    doubled = lambda x: jnp.repeat(x, 2, 1)
    larger = jd.Defence(classifier=lambda x: classifier(x[:, ::2]), purifier=doubled)
    found = audit(larger, x, y, [0.1], KEY, budget=TINY)
    assert "white-box" in names(found)
    assert "images [8, 4, 3] of images [4, 4, 3]" in found.skipped[0].reason


def test_each_claim_is_judged_by_checks_at_its_own_radius(case, monkeypatch):
    """A claim of nothing at a large radius must not silence what speaks against another."""
    from jaxdefense.evaluation import Check

    classifier, x, y = case
    bad = Check("gradients", "fail", 1.0, 0.05, "planted")
    fails = lambda defence, matrix, budget, eps, ball: [bad] if eps < 0.01 else []
    monkeypatch.setattr(sys.modules[audit.__module__], "at_radius", fails)
    claims = ["0.1@linf:0.0001", "0.0@linf:0.3"]
    found = audit(classifier, x, y, [1e-4], KEY, budget=TINY, claims=claims)
    assert [v.outcome for v in found.verdicts] == [UNRELIABLE, HOLDS]
    assert "gradients, at 0.0001" in {check.name for check in found.checks}


def test_what_cannot_be_explained_costs_no_audit(case, monkeypatch):
    classifier, x, y = case

    def fails(*given):
        raise InputError("NaN behind a filter")

    monkeypatch.setattr(sys.modules[audit.__module__], "explanations", fails)
    found = audit(classifier, x, y, [1e-4], KEY, budget=TINY, claims=["0.1@linf:0.0001"])
    assert found.verdicts[0].outcome == HOLDS
    assert "NaN behind" in {row.name: row.reason for row in found.skipped}["what explains it"]


def test_a_claim_above_the_clean_accuracy_is_refuted_by_no_attacker(case):
    classifier, x, y = case
    wrong = (y + (np.arange(len(y)) % 2)) % 3
    found = audit(classifier, x, wrong, [1e-4], KEY, budget=TINY, claims=["0.95@linf:0.0001"])
    (verdict,) = found.verdicts
    assert (verdict.decided_by, verdict.decided_kind) == ("no attack", "clean accuracy")
    assert "order of the classes" in verdict.says


def test_a_defence_is_taken_apart_as_far_as_it_says(case):
    classifier, *_ = case
    whole = jd.Purified(jd.defenses.blur(1.0), classifier)
    found = as_defence(whole)
    assert found.classifier is classifier
    assert found.purifier is whole.purifier
    assert as_defence(jd.Defence(deployed=whole, name="mine")).classifier is classifier
    assert as_defence(classifier).undefended is None
    parts = as_defence(jd.Defence(classifier=classifier, purifier=whole.purifier))
    assert parts.route is parts.attacked  # its own gradient is as good as it says
    assert parts.composed
    with pytest.raises(InputError, match="something to deploy"):
        jd.Defence()
    with pytest.raises(InputError, match="must be a function"):
        jd.Defence(classifier=3)


def test_the_json_is_plain_and_versioned(masked):
    told = json.loads(json.dumps(masked.to_json()))
    assert told["schema"] == SCHEMA
    assert told["verdicts"][0]["outcome"] == BROKEN
    assert told["exit_status"] == 1
    wanted = [f"--only {shlex.quote(o['name'])}" for o in told["outcomes"]]
    assert all(o["command"].endswith(w) for o, w in zip(told["outcomes"], wanted, strict=True))
    assert len(told["worst"]["smallest_radius"]) == told["n"] == 40


def test_text_and_markdown_say_the_same(masked):
    for text in (str(masked), masked.to_markdown()):
        assert "broken" in text
        assert "BPDA, identity" in text
        assert "worst case" in text
        assert "not tested" in text.lower()
