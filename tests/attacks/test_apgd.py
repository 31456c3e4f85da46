"""Auto-PGD: its schedule against hand-computed vectors, its strength against the authors' own."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdefense as jd
from jaxdefense import losses
from jaxdefense.attacks import Cost, Goal, Probe, Reading, targets
from jaxdefense.attacks.apgd import _search, apgd, checkpoints
from jaxdefense.attacks.apgd_l1 import _direction, schedule
from jaxdefense.attacks.search import run
from jaxdefense.errors import InputError
from jaxdefense.geometry import BALLS
from tests.conftest import ASSETS, reference

KEY = jax.random.key(0)
EPS = 0.4


def follow(search, script, signs, x, eps, fooled=False):
    """The states after the start and after every step of a search that is told scripted losses.

    Args:
        search: of `apgd`.
        script: losses ``[1 + steps, rows]`` that the probe answers in turn.
        signs: of the gradients it answers, likewise; their size is how many answers came before,
            plus 1.
        x, eps: images and radii of the rows.
        fooled: what the probe answers.
    """
    keys = jd.example_keys(KEY, len(x))
    goal = Goal(jnp.zeros(len(x), jnp.int32), jnp.zeros(len(x), jnp.int32))

    def probe(loss, gradient):
        reading = Reading(loss, loss, jnp.full(len(x), fooled))
        answer = (reading, gradient[:, None, None, None] * jnp.ones_like(x))
        return Probe(None, lambda keys, x, goal: answer, None, None, None)

    @jax.jit
    def whole(script, gradients):
        def one(state, answers):
            state = search.step(keys, probe(*answers), state, x, goal, eps)
            return state, state

        start = search.init(keys, probe(script[0], gradients[0]), x, goal, eps)
        _, states = jax.lax.scan(one, start, (script[1:], gradients[1:]))
        return jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), start, states)

    number = 1.0 + np.arange(len(script), dtype=np.float32)[:, None]
    script = jnp.asarray(np.asarray(script, np.float32))
    return jax.tree.map(np.asarray, whole(script, jnp.asarray(number * signs, jnp.float32)))


# ------------------------------------------------------------------------- l-inf and l2: schedule


def losses_of(moves, start=0.0):
    """The losses that begin at `start` and change by `moves`; missing moves repeat the last."""
    moves = [*moves, *[moves[-1]] * (100 - len(moves))]
    return start + np.concatenate([[0.0], np.cumsum(moves)])


def overtaken(*lengths):
    """Windows that open with a fall of 100 and rise by 1 from there: many rises, no new best."""
    return [move for length in lengths for move in [-100, *[1] * (length - 1)]]


# Each row: 101 losses, and after which steps the size is halved, worked out by hand. Windows end at
# 22, 41, 57, 70, 80, 87, 93 and 99; (i) allows 16, 14, 12, 9, 7, 5, 4 and 4 rises.
SCRIPTS = {
    "always rising": (losses_of([1]), []),
    # (i) 0 rises in every window.
    "never rising": (losses_of([0]), [22, 41, 57, 70, 80, 87, 93, 99]),
    # 22 rises; then 18 of 19, 15 of 16, 12 of 13, ... rises, each more than (i) allows, but never a
    # new best: (ii) halves at 41, then rests where the size was halved at the checkpoint before.
    "no new best": (
        losses_of([1] * 22 + overtaken(19, 16, 13, 10, 7, 6, 6) + [-1]),
        [41, 70, 87, 99],
    ),
    # Falls of 1 among rises of 2, so that there is always a new best. In the window of 16 that
    # ends at 57: 12 rises are exactly 75 %, which halves; 13 do not.
    "12 of 16": (losses_of([2] * 41 + [-1] * 4 + [2]), [57]),
    "13 of 16": (losses_of([2] * 41 + [-1] * 3 + [2]), []),
    # 16 rises and 6 falls, the first from the start's loss of 100 to 1: no rise. Compared with 0,
    # as an unfilled buffer would have it, there would be 17, which do not halve. Then a new best.
    "the start counts": (losses_of([-99, *[-0.1] * 5, *[20] * 16, 20], 100.0), [22]),
    # 16 rises to 16, then 6 falls of 2 to 4: halved at 22, back to the best loss, 16. The next
    # loss, 5, is a fall from there, though a rise from 4. With 14 rises among the other 18 there
    # are 14 of 19: halved at 41 as well. From 4 it would have been 15, which do not halve.
    "back at the best": (losses_of([1] * 16 + [-2] * 6 + [1] + [-1] * 4 + [20]), [22, 41]),
}


@functools.cache
def scripted(table=None):
    """All scripts in one batch of one-pixel images."""
    script = np.stack([losses for losses, _ in SCRIPTS.values()], -1)
    signs = np.where(np.arange(101)[:, None] % 3 == 1, -1.0, 1.0) * np.ones_like(script)
    x = jnp.full((len(SCRIPTS), 1, 1, 1), 0.5)
    search = _search(jd.linf, 100, False, table or checkpoints(100))
    return follow(search, script, signs, x, jnp.full(len(x), EPS)), signs


def halvings(states):
    """After which steps each row's size was halved; nothing else may happen to it."""
    sizes = states.inner.size
    changed = sizes[1:] / sizes[:-1]
    assert (sizes[0] == 2).all()
    assert np.isin(changed, [1.0, 0.5]).all()
    return [list(1 + np.flatnonzero(row == 0.5)) for row in changed.T]


def test_checkpoints_are_the_papers():
    assert [at for at, _ in checkpoints(100)] == [22, 41, 57, 70, 80, 87, 93, 99]
    assert [window for _, window in checkpoints(100)] == [22, 19, 16, 13, 10, 7, 6, 6]
    assert checkpoints(10) == ((2, 2), *((at, 1) for at in range(3, 11)))
    assert checkpoints(1) == ((1, 1),)


def test_step_sizes_follow_the_hand_computed_trace():
    for (name, (_, expected)), found in zip(SCRIPTS.items(), halvings(scripted()[0]), strict=True):
        assert found == expected, name


def test_a_wrong_checkpoint_is_seen_in_the_trace():
    """58 for 57 is what rounding running fractions up gives."""
    wrong = tuple((58, 17) if at == 57 else (70, 12) if at == 70 else (at, window)
                  for at, window in checkpoints(100))  # fmt: skip
    found = dict(zip(SCRIPTS, halvings(scripted(wrong)[0]), strict=True))
    different = {name for name, (_, expected) in SCRIPTS.items() if found[name] != expected}
    assert different == {"never rising", "12 of 16"}


def test_halving_goes_back_to_the_best_point_and_its_gradient():
    states, signs = scripted()
    row = list(SCRIPTS).index("no new best")
    x, inner = states.x[:, row, 0, 0, 0], jax.tree.map(lambda leaf: leaf[:, row], states.inner)
    # The loss is highest after step 22, where the answer before was the 23rd.
    assert x[41] == x[22]
    assert inner.gradient[41] == inner.gradient[22] == 23 * signs[22, row]
    assert inner.before[41] == x[40]
    assert inner.last[41] == inner.peak.loss[41] == 22
    # Momentum goes on from there: size is 1 eps now, and the sign at 22 was -1 (22 % 3 == 1).
    aim = np.clip(x[22] - EPS, 0.1, 0.9)
    expected = np.clip(x[22] + 0.75 * (aim - x[22]) + 0.25 * (x[22] - x[40]), 0.1, 0.9)
    assert x[42] == pytest.approx(expected, abs=1e-6)
    assert len({*np.round(x[22:42], 4)}) > 2  # it had been elsewhere
    # Where it is not halved, it goes on from where it is.
    assert inner.gradient[57] == 58 * signs[57, row]


def test_the_first_steps_are_those_of_the_paper():
    """One pixel at 0.5, eps 0.4, size 0.8, gradients + - + +, worked out by hand."""
    states, _ = scripted()
    expected = [
        0.5,
        0.9,  # first step: no momentum; 0.5 + 0.8 ends at the ball's edge
        0.4,  # aim 0.9 - 0.8 = 0.1; 0.9 + 0.75 (0.1 - 0.9) + 0.25 (0.9 - 0.5)
        0.65,  # aim 0.9; 0.4 + 0.75 (0.9 - 0.4) + 0.25 (0.4 - 0.9)
        0.9,  # aim 0.9; 0.65 + 0.75 0.25 + 0.25 0.25 = 0.9
    ]
    np.testing.assert_allclose(states.x[:5, 0, 0, 0, 0], expected, atol=1e-6)


def test_the_random_start_is_on_the_sphere():
    x = jnp.full((4, 2, 2, 1), 0.5)
    reading = Reading(*jnp.zeros((2, 4)), jnp.zeros(4, bool))
    probe = Probe(None, lambda keys, point, goal: (reading, point), None, None, None)
    for ball in (jd.linf, jd.l2):
        search = _search(ball, 1, True, checkpoints(1))
        start = lambda keys, init=search.init: init(keys, probe, x, None, jnp.full(4, 0.3)).x
        found = np.asarray(jax.jit(start)(jd.example_keys(KEY, 4)))
        np.testing.assert_allclose(ball.norm(found - x), 0.3, rtol=1e-5)
        assert len(np.unique(found)) > 4  # of each row's own


# ------------------------------------------------------------------------------------ l1: schedule


def test_l1_steps_and_radii_follow_the_hand_computed_trace():
    """Losses fall all the time, so that each phase's best point is the one it starts from."""
    x, eps = jnp.full((1, 4, 4, 1), 0.5), jnp.full(1, 0.5)
    falling = -np.arange(101.0)[:, None]
    search = apgd(jd.l1, 100, random_start=False).stages[0].search
    states = follow(search, falling, np.ones((101, 1)), x, eps, fooled=True)
    size, norm = states.inner.size[:, 0], np.abs(states.x - np.asarray(x)).sum((-1, -2, -3))[:, 0]
    # Checks every 4 steps. At 4 the best point has changed 0 of the 16 pixels assumed at first: a
    # full step again. From then on 0 is not less than 0: shorter each time, from 1 to 1/10.
    shrinking = [1.5**-k for k in range(6)] + [0.1] * 10
    expected = np.ones(101)
    for check, after in zip(range(4, 30, 4), shrinking, strict=False):
        expected[check:30] = after
    # Later phases start with a full step and 0 changed pixels, so that their first check shrinks.
    for start, stop in ((30, 60), (60, 101)):
        for check, after in zip(range(start + 4, stop, 4), shrinking[1:], strict=False):
            expected[check:stop] = after
    np.testing.assert_allclose(size, expected, rtol=1e-5)
    # 20 % of 16 pixels at first, rounded up. The peak is the image, which changed none: 1 then.
    assert (states.inner.moves[:4] == 4).all()
    assert (states.inner.moves[4:] == 1).all()
    np.testing.assert_allclose(np.diff(norm[:2]), 1.5, rtol=1e-5)  # 1 radius over those 4 pixels
    assert (states.x[1] != np.asarray(x)).sum() == 16  # all gradients are equal: ties all move
    # Each phase explores its own ball, and only the last one's points count.
    assert (norm[:30] <= 1.5 + 1e-5).all()
    assert norm[:30].max() > 1.0 + 1e-3
    assert (norm[30:60] <= 1.0 + 1e-5).all()
    assert norm[30:60].max() > 0.5 + 1e-3
    assert (norm[60:] <= 0.5 + 1e-5).all()
    np.testing.assert_array_equal(states.fooled[:, 0], np.arange(101) >= 60)


def test_l1_moves_the_pixels_with_the_largest_gradients_that_can_move():
    gradient = jnp.array([5.0, -4.0, 3.0, 2.0, -1.0, 0.0]).reshape(1, 1, 6, 1)
    moved = lambda point, moves: np.asarray(
        _direction(gradient, jnp.array(point, jnp.float32).reshape(1, 1, 6, 1), jnp.array([moves]))
    ).ravel()
    np.testing.assert_allclose(moved([0.5] * 6, 2), [0.5, -0.5, 0, 0, 0, 0])
    # Up from 1 and down from 0 there is no room; a pixel rounded to beside the box has none either.
    for one, zero in ((1.0, 0.0), (np.nextafter(np.float32(1), 0), 6e-8)):
        np.testing.assert_allclose(
            moved([one, zero, 0.5, 0.5, 0.5, 0.5], 2), [0, 0, 0.5, 0.5, 0, 0]
        )
    # There is room the other way.
    np.testing.assert_allclose(moved([0, 1, 0.5, 0.5, 0.5, 0.5], 2), [0.5, -0.5, 0, 0, 0, 0])
    np.testing.assert_allclose(moved([1, 0, 1, 1, 0, 0.5], 3), 0)  # nowhere to go: no step, no NaN


def test_l1_radii_are_3_2_and_1_eps():
    plan = schedule(100, True)
    np.testing.assert_array_equal(plan.radius, [3] * 30 + [2] * 30 + [1] * 41)
    np.testing.assert_array_equal(np.flatnonzero(plan.begins), [30, 60])
    assert list(np.flatnonzero(plan.checks)[:8]) == [4, 8, 12, 16, 20, 24, 28, 34]
    assert (schedule(100, False).radius == 1).all()
    assert not schedule(100, False).begins.any()
    for steps in (1, 2, 5):  # few steps: whatever is left is the true radius
        assert schedule(steps, True).radius[-1] == 1


# -------------------------------------------------------------------- next to the authors' own code


@pytest.mark.parametrize("norm", ["Linf", "L2"])
@pytest.mark.parametrize("name", ["ce", "dlr"])
def test_best_losses_from_the_clean_point_are_those_of_the_original(norm, name):
    """100 steps, no random start: the same algorithm until rounding sends the paths apart."""
    eps = {"Linf": 0.15, "L2": 1.0}[norm]
    loss = {"ce": losses.cross_entropy, "dlr": losses.dlr}[name]
    stage = apgd(BALLS[norm.lower()], 100, loss=loss, random_start=False).stages[0]
    traces = np.load(ASSETS / "reference.npz")

    @jax.jit
    def attack(classifier, x, y):
        keys = jd.example_keys(KEY, len(x))
        return run(stage, keys, classifier, x, y, jnp.full(len(x), eps))[0]

    for network in ("standard", "adversarial"):
        classifier, x, y, _ = reference(network)
        state = attack(classifier, x[:32], y[:32])
        trace = f"trace.{network}.{norm}.{name}"
        ours, theirs = np.asarray(state.inner.peak.loss), traces[f"{trace}.best_loss"]
        if name == "dlr":  # beyond 1 the label is not among the first three and the ratio explodes
            ours, theirs = np.minimum(ours, 1), np.minimum(theirs, 1)
        assert ours.mean() >= theirs.mean() - 0.005 * np.abs(theirs).mean()
        shares = [0.1, 0.25, 0.5, 0.75, 0.9]
        low = np.quantile(ours, shares) - np.quantile(theirs, shares)
        assert (low >= -0.01 * np.abs(theirs).mean()).all()
        assert np.isclose(ours, theirs, rtol=1e-3, atol=1e-4).mean() >= 0.5
        assert abs(int((~state.fooled).sum()) - int(traces[f"{trace}.robust"].sum())) <= 1


# Fewer steps than the originals' 100, to save time.
ALONE = {
    "Linf": apgd(jd.linf, 20),
    "L2": apgd(jd.l2, 20),
    "L1": jd.attacks.restarts(apgd(jd.l1, 30), 5),
}
TARGETED = {
    norm: targets.multi_targeted(apgd(BALLS[norm.lower()], steps, loss=losses.dlr), count)
    for norm, steps, count in (("Linf", 20, 9), ("L2", 12, 9), ("L1", 60, 5))
}


@pytest.mark.parametrize("norm", ALONE)
@pytest.mark.parametrize("kind", ["apgd-ce", "apgd-t"])
def test_robust_accuracy_is_at_most_a_point_above_the_originals(norm, kind):
    attack = {"apgd-ce": ALONE, "apgd-t": TARGETED}[kind][norm]
    for network in ("standard", "adversarial"):
        classifier, x, y, values = reference(network)
        radii = [float(k.split()[-1]) for k in values if k.startswith(f"autoattack {norm} ")]
        curve = jd.sweep(attack, classifier, x, y, radii, KEY)
        assert curve.violations == 0
        for eps, accuracy in zip(radii, curve.raw_accuracy, strict=True):
            theirs = values[f"autoattack {norm} {eps}"]
            assert 100 * (accuracy - theirs[kind]) <= 1 + 1e-6
            # Nor may it beat the whole ensemble by more than luck: then it would have cheated.
            assert 100 * (accuracy - theirs["all"]) >= -2.5


def test_cost_and_settings():
    assert apgd(jd.l2, 7).cost == Cost(gradients=8)
    assert apgd(jd.l1, 7).cost == Cost(gradients=8)
    assert targets.multi_targeted(apgd(loss=losses.dlr), 9).cost == Cost(909, 9)
    assert apgd(jd.l1, 7) == apgd(jd.l1, 7)
    kinds = [apgd(jd.l1, 7, large_radii=large, random_start=start)
             for large in (True, False) for start in (True, False)]  # fmt: skip
    assert len({attack.settings for attack in kinds}) == 4
    with pytest.raises(InputError, match="at least 1 step"):
        apgd(steps=0)
