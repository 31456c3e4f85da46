"""TRADES against its definition, with attacks that are known and with PGD."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_training import TinyNet, data, train, variables

from jaxdefense import Frozen, Purified, attacks, linf, losses
from jaxdefense.classifiers import split
from jaxdefense.errors import InputError
from jaxdefense.training import supervised, trades

MODEL, EPS = TinyNet(), 0.2
PGD = attacks.pgd(linf, 3, loss=losses.kl)
X, Y = data(16)
IMAGES = X.astype(np.float32) / 255


@functools.cache
def compiled(objective):
    return jax.jit(jax.value_and_grad(objective, has_aux=True))


def evaluated(objective, key=0, model=MODEL):
    state = variables(model)
    params = state.pop("params")
    return compiled(objective)(params, state, jax.random.key(key), IMAGES, Y)


def brighter(key, classifier, x, y, eps):
    return x + eps


def nothing(key, classifier, x, y, eps):
    return x


class Plain(TinyNet):
    """Without dropout, and with the same batch statistics whatever the batch: a known function."""

    def __call__(self, x, train=False):
        return TinyNet.__call__(self, x, False)


def test_trades_is_cross_entropy_plus_the_divergence():
    (value, (_, metrics)), gradient = evaluated(trades(Plain(), brighter, EPS, 3.0), model=Plain())
    made = variables(Plain())
    state = {k: v for k, v in made.items() if k != "params"}

    def expected(params):
        answer = lambda x: Plain().apply({"params": params, **state}, x)
        p, q = (jax.nn.log_softmax(answer(x)) for x in (IMAGES, IMAGES + EPS))
        divergence = (jnp.exp(p) * (p - q)).sum(-1).mean()
        return -p[jnp.arange(16), Y].mean() + 3.0 * divergence, divergence

    (total, divergence), slope = jax.value_and_grad(expected, has_aux=True)(made["params"])
    assert float(value) == pytest.approx(float(total), rel=1e-5)
    assert float(metrics["loss"]) == float(value)
    assert float(metrics["divergence"]) == pytest.approx(float(divergence), rel=1e-3)
    assert float(divergence) > 1e-4
    # Both sides of the divergence are differentiated, as in the authors' code.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), gradient, slope)


def test_all_radii_and_weights_share_a_program():
    one, other = (split(trades(MODEL, PGD, eps, beta))[1] for eps, beta in ((0.1, 1), (0.2, 6)))
    assert one == other


def test_without_perturbation_or_weight_it_is_cross_entropy():
    (plain, _), _ = evaluated(supervised(Plain()), model=Plain())
    (still, (_, metrics)), _ = evaluated(trades(Plain(), nothing, EPS, 6.0), model=Plain())
    assert float(metrics["divergence"]) == pytest.approx(0, abs=1e-6)
    assert float(still) == pytest.approx(float(plain), rel=1e-5)
    (unweighted, _), _ = evaluated(trades(Plain(), brighter, EPS, 0.0), model=Plain())
    assert float(unweighted) == pytest.approx(float(plain), rel=1e-5)


def test_the_attack_gets_the_clean_prediction_of_the_current_parameters():
    seen = {}

    def spy(key, classifier, x, y, eps):
        seen.update(key=key, classifier=classifier, x=x, y=y, eps=eps)
        return x

    made = variables(MODEL)
    state = {k: v for k, v in made.items() if k != "params"}
    halve = Halve()
    objective = trades(MODEL, spy, EPS, preprocess=halve)
    objective(made["params"], state, jax.random.key(3), IMAGES, Y)
    deployed = Purified(halve, Frozen(MODEL, made))
    np.testing.assert_allclose(seen["y"], jax.nn.softmax(deployed(IMAGES)), rtol=1e-5)
    np.testing.assert_allclose(seen["classifier"](IMAGES), deployed(IMAGES), rtol=1e-5)
    np.testing.assert_array_equal(seen["x"], IMAGES)  # what is attacked is not purified yet
    assert seen["eps"] == EPS


class Halve:
    def __call__(self, x):
        return 0.5 * x


def test_the_classifier_is_trained_on_purified_images():
    model = Plain()
    (behind, _), _ = evaluated(trades(model, brighter, EPS, 2.0, preprocess=Halve()), model=model)
    made = variables(model)
    answer = lambda x: model.apply(made, 0.5 * x)
    clean = losses.cross_entropy(answer(IMAGES), Y).mean()
    gap = losses.kl(answer(IMAGES + EPS), jax.nn.softmax(answer(IMAGES))).mean()
    assert float(behind) == pytest.approx(float(clean + 2.0 * gap), rel=1e-4)


def test_pgd_on_the_divergence_finds_more_of_it_than_noise():
    deployed = Frozen(MODEL, variables(MODEL))
    p = jax.nn.softmax(deployed(IMAGES))
    found = PGD(jax.random.key(0), deployed, IMAGES, p, EPS)
    assert float(jnp.abs(found - IMAGES).max()) <= EPS + 1e-6
    noise = attacks.gaussian(EPS)(jax.random.key(0), deployed, IMAGES, p, EPS)
    gap = lambda x: float(losses.kl(deployed(x), p).mean())
    assert gap(found) > 2 * gap(noise) > 0


def test_trades_with_pgd_is_finite_and_its_attack_carries_no_gradient():
    objective = trades(MODEL, PGD, EPS, 6.0)
    (value, (_, metrics)), gradient = evaluated(objective)
    assert jnp.isfinite(value)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    assert float(metrics["divergence"]) > 0
    assert float(metrics["adversarial_accuracy"]) <= float(metrics["accuracy"])
    assert float(evaluated(objective)[0][0]) == float(value) != float(evaluated(objective, 1)[0][0])


class Scale:
    """One weight on both pixels; in training mode it returns its state as well, as linen does."""

    def apply(self, variables, x, mutable=None, **_):
        logits = variables["params"]["w"] * x[:, 0, 0]
        return logits if mutable is None else (logits, {})


def test_no_gradient_flows_through_the_attack():
    def drift(key, classifier, x, y, eps):
        return (
            x + eps * classifier.variables["params"]["w"] * jnp.array([1.0, 0.0])[None, None, None]
        )

    x, y = jnp.array([0.2, 0.7]).reshape(1, 1, 1, 2), jnp.array([1])
    objective = trades(Scale(), drift, 0.5, 1.0)
    slope = jax.grad(lambda w: objective({"w": w}, {}, jax.random.key(0), x, y)[0])(2.0)

    def held(w):
        """The loss at what the attack found at w = 2."""
        clean, found = w * x[:, 0, 0], w * jnp.array([[0.2 + 0.5 * 2.0, 0.7]])
        return (losses.cross_entropy(clean, y) + losses.kl(found, jax.nn.softmax(clean))).mean()

    assert float(slope) == pytest.approx(float(jax.grad(held)(2.0)), rel=1e-5)


def test_training_by_trades_lowers_its_loss():
    rows = train(objective=trades(MODEL, attacks.fgsm(linf, loss=losses.kl), 0.05, 1.0)).history
    assert rows[-1]["loss"] < 0.9 * rows[0]["loss"]


@pytest.mark.parametrize("beta", [-1, float("nan"), float("inf")])
def test_a_weight_out_of_range_is_refused(beta):
    with pytest.raises(InputError, match="weight of the divergence"):
        trades(MODEL, PGD, EPS, beta)
