"""Architectures: parameter counts against hand-computed formulas, shapes, dtypes, registry."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdefense import models
from jaxdefense.errors import InputError, UnknownNameError
from jaxdefense.models.efficientnet import Stage


def shapes_of(model, image_shape):
    """Variables as shapes only: nothing is compiled, so large models cost nothing."""
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    return jax.eval_shape(model.init, jax.random.key(0), images)


def convolution(inputs, outputs, size=3, bias=False):
    return inputs * outputs * size * size + bias * outputs


def dense(inputs, outputs):
    return inputs * outputs + outputs


def resnet_parameters(blocks, width, classes, channels=3):
    norm = lambda features: 2 * features
    total = convolution(channels, width) + norm(width)
    inputs = width
    for stage, count in enumerate(blocks):
        features = width * 2**stage
        for _ in range(count):
            total += convolution(inputs, features) + norm(features)
            total += convolution(features, features) + norm(features)
            if inputs != features:
                total += convolution(inputs, features, size=1) + norm(features)
            inputs = features
    return total + dense(inputs, classes)


def vgg_parameters(convolutions, widths, hidden, classes, side, channels=3):
    total, inputs = 0, channels
    for count, features in zip(convolutions, widths, strict=True):
        for _ in range(count):
            total += convolution(inputs, features, bias=True) + 2 * features
            inputs = features
    inputs *= (side // 2 ** len(widths)) ** 2
    for size in (*hidden, classes):
        total += dense(inputs, size)
        inputs = size
    return total


def autoencoder_parameters(widths, channels, concat=False):
    sizes = (channels, *widths)
    total = sum(convolution(a, b, bias=True) for a, b in itertools.pairwise(sizes))
    for level in range(len(widths), 0, -1):
        joined = 2 if concat and level < len(widths) else 1
        total += convolution(joined * sizes[level], sizes[level - 1], bias=True)
    return total


LENET28 = (
    convolution(1, 6, 5, bias=True)
    + convolution(6, 16, 5, bias=True)
    + dense(400, 120)
    + dense(120, 84)
    + dense(84, 10)
)
LENET32 = LENET28 - dense(400, 120) + dense(576, 120)
VGG16 = (2, 2, 3, 3, 3), (64, 128, 256, 512, 512)
VGG8 = (2, 2, 2, 2), (64, 128, 256, 512)


@pytest.mark.parametrize(
    ("name", "settings", "image", "expected"),
    [
        ("lenet5", {}, (28, 28, 1), LENET28),
        ("lenet5", {}, (32, 32, 1), LENET32),
        ("resnet18", {}, (32, 32, 3), 11_173_962),
        ("resnet18", {}, (32, 32, 3), resnet_parameters((2, 2, 2, 2), 64, 10)),
        (
            "resnet18",
            {"num_classes": 43, "width": 8},
            (32, 32, 1),
            resnet_parameters((2, 2, 2, 2), 8, 43, channels=1),
        ),
        ("resnet20", {}, (32, 32, 3), 272_474),  # Gilbert 2020
        ("resnet56", {}, (32, 32, 3), resnet_parameters((9, 9, 9), 16, 10)),
        ("resnet110", {}, (32, 32, 3), resnet_parameters((18, 18, 18), 16, 10)),
        # As pytorchcv and tf2cv print them; Gilbert 2020 took its networks from these.
        ("seresnet20", {}, (32, 32, 3), 274_847),
        ("seresnet56", {}, (32, 32, 3), 862_889),
        ("seresnet110", {}, (32, 32, 3), 1_744_952),
        ("preresnet20", {}, (32, 32, 3), 272_282),
        ("preresnet56", {}, (32, 32, 3), 855_578),
        ("preresnet110", {}, (32, 32, 3), 1_730_522),
        ("sepreresnet20", {}, (32, 32, 3), 274_559),
        ("sepreresnet56", {}, (32, 32, 3), 862_601),  # Gilbert 2020
        ("sepreresnet110", {}, (32, 32, 3), 1_744_664),
        ("pyramidnet110_a48", {}, (32, 32, 3), 1_772_706),
        ("pyramidnet110_a84", {}, (32, 32, 3), 3_904_446),
        ("efficientnet_b0", {"num_classes": 1000}, (32, 32, 3), 5_288_548),
        ("efficientnet_b0", {}, (32, 32, 3), 4_020_358),
        ("denoising_autoencoder", {}, (32, 32, 3), 3_795),  # Gilbert 2020
        ("latent_noise_autoencoder", {}, (32, 32, 1), 88_667),  # Mandal 2023
        ("vgg16", {}, (32, 32, 3), 14_728_266),
        ("vgg16", {}, (32, 32, 3), vgg_parameters(*VGG16, (), 10, 32)),
        (
            "vgg16",
            {"width": 4},
            (32, 32, 3),
            vgg_parameters(VGG16[0], (4, 8, 16, 32, 32), (), 10, 32),
        ),
        ("vgg8", {}, (32, 32, 1), vgg_parameters(*VGG8, (4096, 4096), 10, 32, channels=1)),
        ("pooled_cnn", {"num_classes": 2}, (128, 128, 1), 257_378),
        ("autoencoder", {}, (32, 32, 3), autoencoder_parameters((32, 64), 3)),
        ("autoencoder", {"width": 4, "depth": 3}, (28, 28, 1), None),
        ("autoencoder", {"widths": (16, 32, 32)}, (28, 28, 1), None),
        ("u_autoencoder", {}, (32, 32, 3), autoencoder_parameters((32, 64), 3)),
        ("u_autoencoder", {"skips": "add_input"}, (32, 32, 3), None),
        ("u_autoencoder", {"skips": "concat", "width": 4, "depth": 3}, (32, 32, 3), None),
    ],
)
def test_parameter_counts(name, settings, image, expected):
    if expected is None:
        depth, width = settings.get("depth", 2), settings.get("width", 32)
        widths = settings.get("widths", tuple(width * 2**i for i in range(depth)))
        concat = settings.get("skips") == "concat"
        expected = autoencoder_parameters(widths, image[-1], concat)
    variables = shapes_of(models.build(name, **settings), image)
    assert models.count_parameters(variables) == expected


SMALL = {
    "lenet5": {},
    "resnet8": {"width": 4},
    "resnet18": {"width": 4},
    "resnet20": {"width": 4},
    "resnet56": {"width": 2, "blocks": (1, 1, 1)},
    "resnet110": {"width": 2, "blocks": (1, 1, 1)},
    **{
        f"{kind}{depth}": {"width": 2, "blocks": (1, 1, 1)}
        for kind in ("preresnet", "seresnet", "sepreresnet")
        for depth in (20, 56, 110)
    },
    "pyramidnet110_a48": {"width": 2, "depth": 8, "alpha": 6},
    "pyramidnet110_a84": {"width": 2, "depth": 8, "alpha": 6},
    "efficientnet_b0": {"stages": (Stage(6, 4, 2, 2, 3),), "stem": 4, "head": 8},
    "vgg16": {"width": 2},
    "vgg8": {"width": 2, "hidden": (8, 8)},
    "pooled_cnn": {"widths": (2, 4), "hidden": 3},
    "autoencoder": {"width": 2},
    "u_autoencoder": {"width": 2},
    "pooling_autoencoder": {"widths": (2, 3, 4)},
    "denoising_autoencoder": {"widths": (3, 2)},
    "latent_noise_autoencoder": {"features": (2, 2, 3), "hidden": 5, "code": 2},
    "encoder_classifier": {"widths": (2, 3, 4), "hidden": (5,)},
}
NORMALIZED = ("resnet", "vgg", "pooled_cnn", "pyramidnet", "efficientnet", "latent_noise")


def test_every_model_has_a_small_setting_here():
    assert set(SMALL) == set(models.names())


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("name", sorted(SMALL))
def test_parameters_and_output_are_float32_in_every_compute_dtype(name, dtype):
    model = models.build(name, num_classes=7, dtype=dtype, **SMALL[name])
    variables = shapes_of(model, (32, 32, 3))
    images = jax.ShapeDtypeStruct((5, 32, 32, 3), jnp.float32)
    jaxpr = str(jax.make_jaxpr(model.apply)(variables, images))
    output = jax.eval_shape(model.apply, variables, images)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype(np.float32)}
    assert output.dtype == jnp.float32
    assert output.shape == ((5, 32, 32, 3) if "autoencoder" in name else (5, 7))
    assert ("bf16" in jaxpr) == (dtype == jnp.bfloat16)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_training_mode_updates_batch_statistics_only_where_there_are_some(name):
    model = models.build(name, **SMALL[name])
    variables = shapes_of(model, (32, 32, 3))
    images = jax.ShapeDtypeStruct((5, 32, 32, 3), jnp.float32)
    _, state = jax.eval_shape(
        lambda v, x: model.apply(
            v, x, train=True, mutable=["batch_stats"], rngs={"dropout": jax.random.key(0)}
        ),
        variables,
        images,
    )
    assert bool(state) == any(part in name for part in NORMALIZED)
    rest = {name: value for name, value in variables.items() if name != "params"}
    assert jax.tree.structure(dict(state)) == jax.tree.structure(rest)


AUTOENCODERS = [
    ("autoencoder", {}),
    ("u_autoencoder", {"skips": "add"}),
    ("u_autoencoder", {"skips": "add_input"}),
    ("u_autoencoder", {"skips": "concat"}),
]


def random_variables(model, image, scale=1.0):
    """Normal numbers in place of the initialiser, whose compilation is the slow part."""
    leaves, structure = jax.tree.flatten(shapes_of(model, image))
    rng = np.random.default_rng(0)
    arrays = [scale * rng.normal(size=leaf.shape).astype(np.float32) for leaf in leaves]
    return jax.tree.unflatten(structure, arrays)


def random_images(count, image):
    return np.random.default_rng(1).uniform(size=(count, *image)).astype(np.float32)


@pytest.mark.parametrize(("name", "settings"), AUTOENCODERS)
def test_autoencoders_stay_in_the_box_even_with_huge_weights(name, settings):
    image = (7, 10, 2)  # odd at one level or another, so that the decoder has to crop
    model = models.build(name, width=4, depth=2, **settings)
    y = np.asarray(
        jax.jit(model.apply)(random_variables(model, image, scale=10), random_images(3, image))
    )
    assert y.shape == (3, *image)
    assert y.min() == 0
    assert y.max() == 1


@pytest.mark.parametrize("image", [(28, 28, 1), (32, 32, 3), (15, 9, 2)])
def test_the_denoising_autoencoder_gives_images_of_the_same_shape(image):
    model = models.build("denoising_autoencoder")
    x = jax.ShapeDtypeStruct((2, *image), jnp.float32)
    assert jax.eval_shape(model.apply, shapes_of(model, image), x).shape == x.shape


@pytest.mark.parametrize("image", [(28, 28, 1), (32, 32, 3), (15, 9, 2)])
@pytest.mark.parametrize(("name", "settings"), AUTOENCODERS)
def test_autoencoders_give_images_of_the_same_shape(name, settings, image):
    model = models.build(name, width=4, depth=3, **settings)
    x = jax.ShapeDtypeStruct((2, *image), jnp.float32)
    assert jax.eval_shape(model.apply, shapes_of(model, image), x).shape == x.shape


def test_add_input_with_a_decoder_of_zero_is_the_identity():
    model = models.build("u_autoencoder", width=2, skips="add_input")
    zero = random_variables(model, (8, 8, 1), scale=0)
    x = random_images(2, (8, 8, 1))
    np.testing.assert_array_equal(jax.jit(model.apply)(zero, x), x)


@pytest.mark.parametrize(
    ("name", "settings", "depends"),
    [
        ("autoencoder", {}, False),
        ("u_autoencoder", {"skips": "add"}, True),
        ("u_autoencoder", {"skips": "concat"}, True),
    ],
)
def test_only_skips_carry_features_past_a_dead_bottleneck(name, settings, depends):
    model = models.build(name, width=4, depth=2, **settings)
    variables = random_variables(model, (8, 8, 1), scale=0.2)
    bottleneck = variables["params"]["Conv_1"]
    variables["params"]["Conv_1"] = jax.tree.map(np.zeros_like, bottleneck)
    y = jax.jit(model.apply)(variables, random_images(2, (8, 8, 1)))
    assert bool(jnp.abs(y[0] - y[1]).max() > 1e-4) == depends


def test_dropout_acts_in_training_only():
    model = models.build("vgg8", width=2, hidden=(64,), convolutions=(1,), widths=(2,))
    variables = random_variables(model, (8, 8, 1))
    x = random_images(2, (8, 8, 1))

    @jax.jit
    def train(key):
        rngs = {"dropout": key}
        return model.apply(variables, x, train=True, mutable=["batch_stats"], rngs=rngs)[0]

    assert not np.array_equal(train(jax.random.key(0)), train(jax.random.key(1)))
    assert "random_bits" in str(jax.make_jaxpr(train)(jax.random.key(0)))
    assert "random_bits" not in str(jax.make_jaxpr(model.apply)(variables, x))


def test_initialize_is_a_function_of_the_key():
    model = models.build("lenet5")
    first, again, other = (
        models.initialize(model, jax.random.key(seed), (28, 28, 1)) for seed in (0, 0, 1)
    )
    equal = lambda a, b: jax.tree.all(jax.tree.map(lambda x, y: bool((x == y).all()), a, b))
    assert equal(first, again)
    assert not equal(first, other)
    # The scale of the weights is what the initialiser promises (lecun: 1 / fan in).
    kernel = np.asarray(first["params"]["Dense_0"]["kernel"])
    assert kernel.std() == pytest.approx(1 / np.sqrt(400), rel=0.1)


def test_unknown_model_names_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'resnet18'"):
        models.build("resnet_18")


def test_unknown_setting_is_an_input_error():
    with pytest.raises(InputError, match=r"resnet18.*widht=8"):
        models.build("resnet18", widht=8)


def test_no_classes_is_an_input_error():
    with pytest.raises(InputError, match="num_classes is 0"):
        models.build("lenet5", num_classes=0)


def test_unknown_skips_name_the_known_ones():
    model = models.build("u_autoencoder", skips="sum")
    with pytest.raises(UnknownNameError, match="add, add_input, concat"):
        shapes_of(model, (8, 8, 1))


def test_vgg_says_when_images_are_too_small():
    with pytest.raises(InputError, match=r"at least 32 pixels.*28 x 28"):
        shapes_of(models.build("vgg16"), (28, 28, 1))


def test_images_too_small_for_the_pooling_are_refused():
    with pytest.raises(InputError, match=r"8x8 are too small for LeNet5.*resize"):
        models.initialize(models.build("lenet5"), jax.random.key(0), (8, 8, 1))
