"""Which label an attack uses: targets in turn, one class to go towards, controls for leaks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdefense as jd
from jaxdefense import attacks, losses
from jaxdefense.attacks.targets import (
    least_likely,
    multi_targeted,
    predicted,
    random_wrong,
    ranked,
    towards,
    with_labels,
)
from jaxdefense.errors import InputError
from tests.attacks import contract
from tests.conftest import Linear

KEY = jax.random.key(13)
KEYS = jd.example_keys(KEY, 12)
LINEAR = Linear.classifier(Linear.weights())
X, Y = Linear.data(count=12)
LOGITS = jax.random.normal(jax.random.key(1), (12, 5))
TRUTH = jnp.arange(12, dtype=jnp.int32) % 5
CHOOSERS = [ranked(1), ranked(3), ranked(9), least_likely, random_wrong]


# ------------------------------------------------------------------------------------ choosers


@pytest.mark.parametrize("chooser", CHOOSERS, ids=lambda c: getattr(c, "settings", c.__name__))
def test_no_chooser_of_targets_picks_the_true_class(chooser):
    for attempt in range(10):
        keys = jd.example_keys(jax.random.key(attempt), 12)
        for logits in (LOGITS, jnp.zeros((12, 5)), jnp.full((12, 5), jnp.nan), 1e30 * LOGITS):
            target = chooser(keys, logits, TRUTH, attempt)
            assert target.dtype == TRUTH.dtype
            assert (target != TRUTH).all()
            assert ((target >= 0) & (target < 5)).all()
        two = chooser(keys, LOGITS[:, :2], TRUTH % 2, attempt)
        np.testing.assert_array_equal(two, 1 - TRUTH % 2)


def test_ranked_takes_the_likely_classes_in_turn_and_comes_round():
    order = np.argsort(-np.where(np.eye(5, dtype=bool)[TRUTH], -np.inf, LOGITS), axis=-1)
    for count, turns in ((1, [0, 0]), (3, [0, 1, 2, 0, 1]), (9, [0, 1, 2, 3, 0, 1])):
        for attempt, place in enumerate(turns):
            target = ranked(count)(KEYS, LOGITS, TRUTH, jnp.int32(attempt))
            np.testing.assert_array_equal(target, order[:, place])


def test_least_likely_and_predicted_are_what_they_say():
    np.testing.assert_array_equal(predicted(KEYS, LOGITS, TRUTH, 0), LOGITS.argmax(-1))
    worst = np.where(np.eye(5, dtype=bool)[TRUTH], np.inf, LOGITS).argmin(-1)
    np.testing.assert_array_equal(least_likely(KEYS, LOGITS, TRUTH, 0), worst)


def test_random_wrong_is_uniform_and_drawn_from_each_rows_key():
    keys = jd.example_keys(KEY, 4000)
    target = random_wrong(keys, jnp.zeros((4000, 5)), jnp.full(4000, 2, jnp.int32), 0)
    shares = np.bincount(target, minlength=5) / 4000
    np.testing.assert_allclose(shares, [0.25, 0.25, 0, 0.25, 0.25], atol=0.03)
    order = np.array([3, 0, 2, 1])
    drawn = lambda rows: random_wrong(KEYS[rows], LOGITS[rows], TRUTH[rows], 0)
    np.testing.assert_array_equal(drawn(order), drawn(np.arange(4))[order])


# --------------------------------------------------------------------------------- label leaking


def seen_by_the_loss(chooser):
    """The label slot of every step, found by a loss that answers with it."""
    slots = []

    def loss(logits, slot):
        jax.debug.callback(lambda slot: slots.append(np.asarray(slot)), slot)
        return losses.cross_entropy(logits, slot)

    stale = (Y + 1) % 3  # labels that the classifier does not agree with
    attack = with_labels(attacks.bim(steps=2, loss=loss), chooser)
    assert attack.cost == attacks.Cost(gradients=2, forwards=2)
    attack(KEY, LINEAR, X, stale, 0.1)
    jax.effects_barrier()
    return slots


def test_predicted_equals_the_clean_prediction_at_every_step():
    """Not the label, and not the prediction on the way either."""
    slots = seen_by_the_loss(predicted)
    assert len(slots) == 3
    for slot in slots:
        np.testing.assert_array_equal(slot, LINEAR(X).argmax(-1))


def test_with_labels_leads_away_from_the_chosen_class():
    """On a linear classifier one can say where to: down the chosen class's logit."""
    fall = {}
    for chooser in (predicted, least_likely):
        attack = with_labels(attacks.bim(steps=3), chooser)
        x_adv = attack(KEY, LINEAR, X, Y, 0.05)
        change = LINEAR(x_adv) - LINEAR(X)
        fall[chooser] = change
    rows = jnp.arange(12)
    worst = least_likely(KEYS, LINEAR(X), Y, 0)
    assert (fall[predicted][rows, Y] < 0).all()
    # Away from the least likely class is no way to fool, and leaves the clean image the best.
    assert (fall[least_likely][rows, worst] <= 0).all()


def test_a_label_leak_shows_between_true_and_predicted_labels():
    """A network that reads the label off the first pixel: only true labels can lead away."""

    def leaky(x):
        told = jax.nn.one_hot((x[:, 0, 0, 0] * 3).astype(jnp.int32), 3)
        return LINEAR(x) + 100.0 * told

    wrong = (Y + 1) % 3
    x = X.at[:, 0, 0, 0].set((wrong + 0.5) / 3)  # told the wrong class: predictions are not labels
    same = lambda attack: attack(KEY, leaky, x, Y, 0.05)
    by_truth, by_guess = (
        same(attacks.bim(steps=3)),
        same(with_labels(attacks.bim(steps=3), predicted)),
    )
    assert (leaky(x).argmax(-1) == wrong).all()
    assert (by_truth != by_guess).any((1, 2, 3)).all()


def test_success_stays_any_class_but_the_true_one():
    """Away from a wrong class means nowhere in particular: any other but the true one counts."""
    for chooser in (predicted, random_wrong, least_likely):
        attack = with_labels(attacks.pgd(steps=4), chooser)
        curve = jd.sweep(attack, LINEAR, X, Y, [0.3], KEY)
        assert curve.clean_accuracy == 1.0
        answers = LINEAR(attack(jd.example_keys(KEY, len(X)), LINEAR, X, Y, 0.3)).argmax(-1)
        assert curve.robust_accuracy[0] == np.mean(answers == Y)
        if chooser is predicted:
            assert curve.robust_accuracy[0] == 0.0


# -------------------------------------------------------------------------------- towards a class


@pytest.mark.parametrize("loss", [losses.cross_entropy, losses.margin, losses.dlr])
def test_towards_reaches_its_class(loss):
    net = Linear.classifier(Linear.weights(classes=5))
    x, y = Linear.data(count=12, classes=5)
    for chooser in (least_likely, random_wrong):
        attack = towards(attacks.bim(steps=10, loss=loss), chooser)
        assert attack.name.endswith(chooser.__name__.replace("_", "-"))
        x_adv = attack(KEY, net, x, y, 0.4)
        found = net(x_adv).argmax(-1)
        assert (found != y).all()
        if chooser is least_likely:
            target = least_likely(KEYS, net(x), y, 0)
            rise = losses.margin_towards(net(x_adv) - net(x), jnp.stack([y, target], -1))
            assert (rise > 0).all()
            if loss is losses.cross_entropy:  # the others need not pass the remaining classes
                np.testing.assert_array_equal(found, target)


def test_aimed_losses_are_not_aimed_twice():
    once = towards(attacks.bim(loss=losses.targeted(losses.cross_entropy)), least_likely)
    assert once.stages == towards(attacks.bim(), least_likely).stages
    paired = towards(attacks.bim(loss=losses.dlr_towards), least_likely)
    assert paired.stages == towards(attacks.bim(loss=losses.dlr), least_likely).stages


# --------------------------------------------------------------------------------- multi-targeted


def test_multi_targeted_costs_a_forward_pass_more_for_each_target():
    attack = multi_targeted(attacks.pgd(steps=7), 4)
    assert attack.cost == attacks.Cost(gradients=28, forwards=8)
    assert attack.groups == [(0, 4)]  # one compiled stage
    assert attack.name == "pgd-7-t4"


def test_multi_targeted_reaches_what_an_untargeted_attack_turns_away_from():
    """A network whose nearest class is a trap: the margin to it grows no further than a wall."""

    def trap(x):
        own, bait, way = (x.mean((1, 2)) - 0.5).T
        # Near, steep and capped below the own logit; the real way out is flatter.
        return jnp.stack([2.0 + 0 * own, jnp.minimum(1.5 + 9 * bait, 1.9), 12 * way], -1)

    x, y = jnp.full((12, *Linear.SHAPE), 0.5), jnp.zeros(12, jnp.int32)
    attack = attacks.bim(steps=5, loss=losses.margin)
    assert (trap(attack(KEY, trap, x, y, 0.2)).argmax(-1) == 0).all()
    found = multi_targeted(attack, 2)(KEY, trap, x, y, 0.2)
    np.testing.assert_array_equal(trap(found).argmax(-1), 2)


def test_multi_targeted_never_stays_behind_one_target():
    one, many = multi_targeted(attacks.pgd(steps=3), 1), multi_targeted(attacks.pgd(steps=3), 9)
    net, x, y = contract.batch()
    worth = lambda attack: losses.margin(net(attack(KEY, net, x, y, 0.02)), y)
    assert (worth(many) >= worth(one) - 1e-5).all()
    assert (worth(many) > worth(one) + 1e-4).any()
    contract.rows_are_independent(many)


def test_bad_settings_are_refused():
    for attack, targets in ((attacks.pgd(), 0), (attacks.restarts(attacks.pgd(), 2), 3)):
        with pytest.raises(InputError, match="targets >= 1 and an attack of one stage"):
            multi_targeted(attack, targets)


def test_settings_hold_no_address_and_tell_choosers_apart():
    """What is kept on disk rests on them."""
    base = [attacks.pgd(steps=3), attacks.pgd(steps=3, loss=losses.margin)]
    choosers = [predicted, random_wrong, least_likely, ranked(2), ranked(3)]
    built = [f(attack, c) for f in (with_labels, towards) for attack in base for c in choosers]
    built += [multi_targeted(attack, t) for attack in base for t in (2, 3)]
    # Names aside: two attacks may be called the same.
    settings = [attack.settings.split(";", 1)[1] for attack in built]
    assert not any(" at 0x" in text for text in settings)
    assert len(set(settings)) == len(settings)
