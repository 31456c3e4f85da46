"""The benchmarks' scorer, verdicts and PyTorch twins; the peers themselves are not needed."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.benchmarks import planted, planted_cases, planted_ground, scoring, soundness
from jaxdefense import Frozen, attacks, l1, l2, linf, models
from jaxdefense.errors import JaxdefenseError, UnknownNameError

X = np.full((5, 2, 2, 1), 0.5, np.float32)
NONE, ALL = np.zeros(5, bool), np.ones(5, bool)


def moved(*by):
    """X with the first pixel of each row moved."""
    x_adv = X.copy()
    x_adv[:, 0, 0, 0] += np.array(by, np.float32)
    return x_adv


@pytest.mark.parametrize("ball", [linf, l2, l1])
def test_images_outside_ball_or_box_count_as_violations_and_as_failures(ball):
    x_adv = moved(0.2, 0.2 + 5e-6, 0.21, 0.5 + 1e-3, np.nan)
    found = scoring.score(ball, X, x_adv, NONE, ALL, 0.2)
    assert found.broken.tolist() == [True, True, False, False, False]
    assert found.violations == 3
    assert found.norms == pytest.approx([0.2, 0.2, np.inf, np.inf, np.inf], abs=1e-5)
    free = scoring.score(ball, X, x_adv, NONE, ALL, np.inf)  # only box and finiteness are left
    assert free.broken.tolist() == [True, True, True, False, False]
    assert free.violations == 2


def test_wrong_without_attack_is_broken_at_norm_zero_and_what_does_not_fool_is_not():
    wrong = np.array([True, True, False, False, False])
    fooled = np.array([False, True, False, True, True])
    found = scoring.score(l2, X, moved(0.1, 0.1, 0.1, 0.1, 0.3), wrong, fooled, 0.2)
    assert found.broken.tolist() == [True, True, False, True, False]
    assert found.norms == pytest.approx([0, 0, np.inf, 0.1, np.inf], abs=1e-6)


def test_accuracy_within_radii_counts_a_norm_on_the_radius_as_broken():
    norms = np.array([0.0, 0.1, 0.2, np.inf])
    assert scoring.within(linf, norms, [0.05, 0.1, 0.3], 4).tolist() == [0.75, 0.5, 0.25]


def test_ours_is_judged_against_the_strongest_peer_at_each_radius():
    peers = [(0.90, 0.50), (0.80, 0.60)]
    same = scoring.judge((1, 2), (0.80, 0.50), peers)
    assert (same.points, same.weaker, str(same)) == (0.0, False, "+0.0 at 1")
    assert not scoring.judge((1, 2), (0.81, 0.40), peers).weaker
    weak = scoring.judge((1, 2), (0.70, 0.52), peers)
    assert weak.weaker
    assert str(weak) == "+2.0 at 2 WEAKER"


def test_several_runs_are_judged_by_their_mean_less_what_chance_explains():
    peer = [[0.50]] * 2
    noisy = scoring.judge((1,), [[0.53], [0.51]], [peer])
    assert (noisy.runs, noisy.weaker, str(noisy)) == (2, False, "+2.0 \u00b1 1.0 (2 runs) at 1")
    assert scoring.judge((1,), [[0.521], [0.519]], [peer]).weaker
    # Against the peer that is strongest on the whole, not the luckiest of each run.
    lucky = [[0.40], [0.60]]
    assert scoring.judge((1,), [[0.50], [0.50]], [peer, lucky]).points == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("median", "peers", "weaker"),
    [
        (1.02, [1.0, 2.0], False),
        (1.03, [1.0, 2.0], True),
        (0.0, [0.0], False),
        (0.1, [0.0], True),
        (np.inf, [np.inf], False),
        (np.inf, [5.0, np.inf], True),
        (0.5, [np.inf], False),
    ],
)
def test_medians_may_be_two_percent_above_the_best_peers(median, peers, weaker):
    assert scoring.judge((1,), (0.5,), [(0.5,)], median, peers).weaker == weaker


@pytest.mark.parametrize(
    ("model", "shape"), [(models.build("lenet5"), (16, 16, 2)),
                         (models.ResNet(blocks=(1, 2), width=2), (9, 9, 3))]
)  # fmt: skip
def test_a_twin_is_the_same_network(model, shape):
    torch = pytest.importorskip("torch")
    from experiments.benchmarks import twins

    variables = models.initialize(model, jax.random.key(0), shape)
    rng = np.random.default_rng(0)
    noisy = lambda leaf: np.asarray(leaf) + 0.1 * rng.random(leaf.shape, np.float32)
    net = Frozen(model, jax.tree.map(noisy, variables))
    x = rng.random((3, *shape), np.float32)
    twin = twins.twin(net)
    assert twins.check(twin, net, x) < 1e-6
    assert (twins.predict(twin, x) == np.asarray(net(x)).argmax(-1)).all()
    with pytest.raises(JaxdefenseError, match="another network"):
        twins.check(twin, net.replace(variables=variables), x)
    counted = twins.Counted(twin)
    images = twins.nchw(x)
    counted(images)  # three forward passes
    logits = counted(images.requires_grad_(True))  # belongs to the gradients that follow
    torch.autograd.grad(logits[:, 0].sum(), images, retain_graph=True)
    torch.autograd.grad(logits[:, 1].sum(), images)
    assert (counted.gradients, counted.forwards) == (6, 3)
    assert (twins.nhwc(twins.nchw(x)) == x).all()


def test_a_module_without_a_twin_is_refused_by_name():
    pytest.importorskip("torch")
    from experiments.benchmarks import twins

    with pytest.raises(UnknownNameError, match="twin"):
        twins.twin(Frozen(models.build("vgg8"), {}))


@pytest.mark.parametrize(("factor", "broken"), [(0.98, False), (1.1, True)])
def test_a_certificate_that_is_too_large_is_found_out(factor, broken):
    """A linear classifier, whose smallest perturbation has a closed form."""
    direction = np.linspace(-1.0, 1.0, 16, dtype=np.float32).reshape(1, 4, 4, 1)
    sign = lambda x: jnp.stack([s := (x * direction).sum((1, 2, 3)), -s], -1)
    x = np.random.default_rng(0).uniform(0.3, 0.7, (6, 4, 4, 1)).astype(np.float32)
    score = (x * direction).sum((1, 2, 3))
    y = (score < 0).astype(np.int32)
    ground = types.SimpleNamespace(x=x, y=y, key=jax.random.key(0))
    radius = factor * np.abs(score) / np.abs(direction).sum()
    radius[0] = -1.0  # nothing is claimed of this one
    proof = soundness.Proof(
        "planted", "linf", radius, (attacks.pgd(linf, 10),), sign, lambda x: sign(x).argmax(-1),
        tight=True,
    )  # fmt: skip
    config = soundness.Config(multiples=(2.0, 1e4))  # at most from black to white
    within, beyond, _ = soundness.rows_of(proof, ground, config)
    assert (within["at least"], beyond["at least"]) == (0, 2)
    assert within["broken"] == (5 if broken else 0)
    assert beyond["broken"] == within["certified"] == 5


def test_a_finished_planted_audit_is_not_measured_again(tmp_path, monkeypatch):
    def audited(ground, name, budget):
        seen.append((ground, name))
        case = types.SimpleNamespace(must="holds", claim="0.9@linf:0.1", fails=None)
        verdict = types.SimpleNamespace(outcome="holds", robust_accuracy=0.9, decided_by="PGD")
        found = {"verdicts": [verdict], "checks": [], "meta": {"seconds": 1.0}, "n": 4}
        return case, types.SimpleNamespace(**found)

    seen: list = []
    monkeypatch.setattr(planted, "examine", audited)
    monkeypatch.setattr(planted, "prepare", lambda config, seed: seed)
    monkeypatch.setattr(planted, "write_audit", lambda folder, found: None)
    config = planted_ground.Config(cases=("saturation", "quantisation"), output=str(tmp_path))
    planted.main(dataclasses.replace(config, seeds=(0,)))
    planted.main(dataclasses.replace(config, seeds=(0, 1)))
    assert seen == [(seed, name) for seed in (0, 1) for name in config.cases]
    planted.main(dataclasses.replace(config, seeds=(1,), n=100))
    assert len(seen) == 6, "other settings are another audit"


def test_planted_defences_are_made():
    """In small, where nothing is worth anything: that is what the benchmarks are for."""
    config = soundness.Config(dataset="digits", size=16, epochs=1, n_train=128, n=16)
    ground = planted_ground.prepare(config, 0)
    alike = {"adversarially trained", "oblivious-only autoencoder"}  # trained as others are
    for name in planted_cases.CASES.keys() - alike:
        case = planted_cases.CASES[name](ground)
        assert 0 <= case.claim.accuracy <= 1
        assert case.defence.train is not None
    assert soundness.layer(ground, config).tight
    proof = soundness.bounded(ground, config)
    assert proof.radius.shape == proof.answer(ground.x).shape == (16,)
