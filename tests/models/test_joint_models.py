"""The autoencoder with pooling, the classifier on its encoder, and chains of two models."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxdefense import Frozen, Purified, models
from jaxdefense.models.pooling import PoolingEncoder
from tests.models.test_models import convolution, dense, random_images, random_variables, shapes_of


def pooling_parameters(widths, channels):
    first, second, third = widths
    sizes = [(channels, first), (first, second), (second, third)]  # encoder
    sizes += [(third, third), (third, second), (second, second), (second, first), (first, channels)]
    return sum(convolution(a, b, bias=True) for a, b in sizes)


@pytest.mark.parametrize(
    ("widths", "image"), [((16, 32, 32), (28, 28, 1)), ((32, 64, 128), (32, 32, 3))]
)
def test_pooling_autoencoder_has_three_and_two_layers_on_each_side(widths, image):
    variables = shapes_of(models.build("pooling_autoencoder", widths=widths), image)
    assert models.count_parameters(variables) == pooling_parameters(widths, image[-1])
    convolutions, transposed = (
        {"Conv_0", "Conv_1", "Conv_2"},
        {"ConvTranspose_0", "ConvTranspose_1"},
    )
    layers = {part: set(named) for part, named in variables["params"].items()}
    assert layers == {"encoder": convolutions, "decoder": convolutions | transposed}


@pytest.mark.parametrize("image", [(28, 28, 1), (32, 32, 3), (15, 9, 2), (1, 2, 1)])
def test_images_of_any_size_come_back_in_their_shape(image):
    model = models.build("encoder_classifier", widths=(2, 3, 4), num_classes=7)
    variables, x = shapes_of(model, image), jax.ShapeDtypeStruct((5, *image), jnp.float32)
    shape = lambda method: jax.eval_shape(
        lambda v, x: model.apply(v, x, method=method), variables, x
    )
    assert shape("__call__").shape == (5, 7)
    assert shape("reconstruct").shape == x.shape
    assert [part.shape for part in shape("both")] == [(5, 7), x.shape]
    purifier = models.build("pooling_autoencoder", widths=(2, 3, 4))
    assert jax.eval_shape(purifier.apply, shapes_of(purifier, image), x).shape == x.shape


def test_an_untrained_decoder_makes_images_of_its_brightness():
    black = jnp.zeros((1, 8, 8, 1))
    for name in ("pooling_autoencoder", "encoder_classifier"):
        model = models.build(name, widths=(2, 4, 4), brightness=0.13)
        variables = model.init(jax.random.key(0), black)
        method = "reconstruct" if name == "encoder_classifier" else "__call__"
        made = model.apply(variables, black, method=method)
        np.testing.assert_allclose(made, 0.13, rtol=1e-5)


def test_the_code_is_what_two_poolings_leave():
    encoder = PoolingEncoder(widths=(2, 3, 4))
    for side, expected in ((28, 7), (32, 8), (15, 4)):
        x = jax.ShapeDtypeStruct((1, side, side, 1), jnp.float32)
        code = jax.eval_shape(encoder.apply, shapes_of(encoder, (side, side, 1)), x)
        assert code.shape == (1, expected, expected, 4)


def test_pooling_autoencoder_stays_in_the_box_even_with_huge_weights():
    model = models.build("pooling_autoencoder", widths=(4, 4, 4))
    image = (7, 10, 2)
    variables = random_variables(model, image, scale=10)
    y = np.asarray(jax.jit(model.apply)(variables, random_images(3, image)))
    assert (y.min(), y.max()) == (0, 1)


def test_encoder_classifier_shares_its_encoder_with_the_decoder_only():
    image = (8, 8, 1)
    model = models.build("encoder_classifier", widths=(2, 3, 4), hidden=(5,), num_classes=3)
    variables = random_variables(model, image)
    params = variables["params"]
    alone = models.count_parameters(variables) - pooling_parameters((2, 3, 4), 1)
    assert alone == dense(2 * 2 * 4, 5) + dense(5, 3)
    x = random_images(4, image)

    @jax.jit
    def gradients(params):
        logits = lambda p: model.apply({"params": p}, x).var()
        images = lambda p: model.apply({"params": p}, x, method="reconstruct").var()
        return jax.grad(logits)(params), jax.grad(images)(params)

    moved = [
        {part for part in params if any(g.any() for g in jax.tree.leaves(gradient[part]))}
        for gradient in gradients(params)
    ]
    assert moved == [{"encoder", "head_0", "head_1"}, {"encoder", "decoder"}]


def test_encoder_classifier_computes_both_from_one_code():
    image = (8, 8, 1)
    model = models.build("encoder_classifier", widths=(2, 3, 4))
    variables, x = random_variables(model, image), random_images(4, image)
    run = lambda method: jax.jit(lambda x: model.apply(variables, x, method=method))(x)
    logits, restored = run("both")
    np.testing.assert_allclose(logits, run("__call__"), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(restored, run("reconstruct"), atol=1e-5)
    autoencoder = models.build("pooling_autoencoder", widths=(2, 3, 4))
    parts = {part: variables["params"][part] for part in ("encoder", "decoder")}
    np.testing.assert_allclose(autoencoder.apply({"params": parts}, x), restored, atol=1e-5)


class Shrink(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        return nn.sigmoid(nn.Dense(x.shape[-1])(x))


class Net(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x.reshape(len(x), -1))
        return nn.Dense(3)(x)


IMAGE = (4, 4, 2)
CHAIN = models.Chain(purifier=Shrink(), classifier=Net())


def test_a_chain_is_the_classifier_behind_the_purifier():
    variables, x = random_variables(CHAIN, IMAGE), random_images(5, IMAGE)
    variables["batch_stats"] = jax.tree.map(np.abs, variables["batch_stats"])
    purifier, classifier = models.part_variables(variables)
    deployed = Purified(Frozen(Shrink(), purifier), Frozen(Net(), classifier))
    np.testing.assert_allclose(CHAIN.apply(variables, x), deployed(x), rtol=1e-5)
    logits, restored = CHAIN.apply(variables, x, method="both")
    np.testing.assert_allclose(logits, deployed(x), rtol=1e-5)
    np.testing.assert_allclose(restored, deployed.purifier(x), rtol=1e-6)
    np.testing.assert_array_equal(CHAIN.apply(variables, x, method="reconstruct"), restored)


def test_a_chain_in_training_updates_the_statistics_of_its_parts():
    variables, x = random_variables(CHAIN, IMAGE), random_images(5, IMAGE)
    _, state = CHAIN.apply(variables, x, train=True, mutable=["batch_stats"])
    old, new = (v["batch_stats"]["classifier"]["BatchNorm_0"]["mean"] for v in (variables, state))
    _, restored = CHAIN.apply(variables, x, method="both")
    expected = 0.9 * old + 0.1 * np.asarray(restored).reshape(5, -1).mean(0)
    np.testing.assert_allclose(new, expected, rtol=1e-4, atol=1e-6)


def test_chains_compare_by_their_parts_and_variables_go_back_and_forth():
    assert models.Chain(purifier=Shrink(), classifier=Net()) == CHAIN
    assert hash(models.Chain(purifier=Shrink(), classifier=Net())) == hash(CHAIN)
    assert models.Chain(purifier=Net(), classifier=Net()) != CHAIN
    variables = random_variables(CHAIN, IMAGE)
    again = models.chain_variables(*models.part_variables(variables))
    assert jax.tree.structure(again) == jax.tree.structure(dict(variables))
    jax.tree.map(np.testing.assert_array_equal, again, dict(variables))
