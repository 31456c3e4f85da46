"""The script of Mandal 2023 from end to end in its smallest setting, and what it is made of."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from experiments import coverage, measuring, studies
from experiments import mandal2023_convolutional_autoencoder as mandal2023
from experiments.mandal2023_functions import (
    Nearness,
    code_spread,
    deployed,
    dropping,
    fixed_noise,
    made,
    minus_logit,
    silent_share,
    stepping,
    within,
    without_noise,
)
from experiments.mandal2023_parts import AUTOENCODERS, DEFENSE_GAN, PUVAE
from experiments.mandal2023_view import GAIN
from jaxdefense import Frozen, Purified, attacks, defenses, linf, models
from jaxdefense.classifiers import is_random
from jaxdefense.evaluation import store
from jaxdefense.evaluation.identity import identity
from jaxdefense.reporting import read_json
from jaxdefense.training import loop

# One run serves all tests of the script, so they belong to one worker.
end_to_end = pytest.mark.xdist_group("mandal2023")
KEYS = jax.random.split(jax.random.key(3), 4)
X = np.random.default_rng(0).uniform(size=(4, 16, 16, 1)).astype(np.float32)
Y = np.arange(4, dtype=np.int32) % 3


# ----------------------------------------------------------------------------- the whole script


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    output = str(tmp_path_factory.mktemp("runs"))
    return dataclasses.replace(mandal2023.PRESETS["smoke"], output=output)


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    mandal2023.main(config)
    name = "mandal2023_convolutional_autoencoder-smoke"
    return tmp_path_factory.getbasetemp() / config.output / name


@end_to_end
def test_every_printed_number_has_an_answer_or_a_reason(finished, capsys):
    assert coverage.main(["--papers", "2", "--results", str(finished)]) == 0
    # Fashion-MNIST is not in this preset.
    assert "69 numbers: 35 answered, 34 with a reason" in capsys.readouterr().out


@end_to_end
def test_the_page_shows_what_was_measured_and_says_that_data_stand_in(finished):
    page = (finished / "results" / "README.md").read_text()
    assert "ON STAND-IN DATA" in page
    for name in ("curves", "figure-2-mnist", "figure-3-mnist", "figure-4-mnist", "figure-6-mnist"):
        assert f"{name}.png" in page
        image = (finished / "results" / f"{name}.png").read_bytes()
        assert image.startswith(b"\x89PNG")
    for title in (
        "as its public code attacks", "Table 1a", "Table 1b", "grey-image bound",
        "Every autoencoder", "Noise on the code", "Table 3 on the same", "Latency",
    ):  # fmt: skip
        assert title in page


@end_to_end
def test_answers_name_the_faults_of_the_code_and_the_attacker_who_knows(finished):
    told = json.loads((finished / "results" / "answers.json").read_text())["answers"]
    defended = [a for a in told if a["number"]["table"] == "2" and a["cells"]
                and a["number"]["defence"] == "convAE"]  # fmt: skip
    assert len(defended) == 2
    for answer in defended:
        cells = answer["cells"]
        shown = {"as attacked", "corrected", "white-box", "strongest", "control"}
        assert set(cells) == shown | {"clean"}
        # Of the classifier in evaluation mode; as attacked, its dropout is on.
        least = min(cells[name]["value"] for name in ("corrected", "white-box"))
        assert cells["strongest"]["value"] <= least
        assert "eot" in cells["white-box"]["what"]
    seconds = [a for a in told if a["number"]["metric"] == "latency"]
    assert all(a["cells"]["as attacked"]["value"] > 0 for a in seconds)


@end_to_end
def test_both_other_defences_are_attacked_by_what_is_right_for_them(finished):
    records, _ = read_json(finished / "results" / "results.json")
    known = {r.defence: set() for r in records}
    for record in records:
        if record.knowledge == "white-box" and record.metric == "accuracy":
            known[record.defence].add(record.attack)
    latent = {"latent-2", "latent-2-nearest"}
    assert known[DEFENSE_GAN] == {"pgd-2-bpda", "pgd-2-unrolled", *latent}
    assert known[PUVAE] == {"fgsm-eot-2", "pgd-2-eot-2", "pgd-2-noiseless", "pgd-2-choice"}
    gains = [r for r in records if r.metric == GAIN]
    assert {r.defence for r in gains} == set(AUTOENCODERS.values())


@end_to_end
def test_a_second_run_only_draws(config, finished, monkeypatch):
    before = (finished / "results" / "results.json").read_text()
    spent = []
    make_step, sweep, craft = loop.make_step, store.sweep, measuring.craft

    def counting(*args, **kwargs):
        step = make_step(*args, **kwargs)
        return lambda *a: spent.append("step") or step(*a)

    monkeypatch.setattr(loop, "make_step", counting)
    monkeypatch.setattr(store, "sweep", lambda *a, **k: spent.append("sweep") or sweep(*a, **k))
    monkeypatch.setattr(measuring, "craft", lambda *a, **k: spent.append("craft") or craft(*a, **k))
    mandal2023.main(config)
    assert not spent
    assert (finished / "results" / "results.json").read_text() == before


# -------------------------------------------------------------------------------------- attacks


def test_the_codes_fgsm_lowers_the_true_logit_and_looks_at_no_other(linear):
    weights = linear.weights()
    classifier, (x, y) = linear.classifier(weights), linear.data(low=0.3, high=0.7)
    attack = attacks.fgsm(linf, loss=minus_logit)
    found = np.asarray(attack(jax.random.key(0), classifier, x, y, 0.1))
    own = np.asarray(weights).T[np.asarray(y)].reshape(x.shape)
    np.testing.assert_allclose(found - x, -0.1 * np.sign(own), atol=1e-6)


@pytest.mark.parametrize(("eps", "reached"), [(0.05, 0.05), (0.3, 0.07)])
def test_seven_steps_of_a_hundredth_get_no_further_than_that(linear, eps, reached):
    classifier, (x, y) = linear.classifier(linear.weights()), linear.data(low=0.4, high=0.6)
    attack = stepping(7, 0.01)
    found = np.asarray(attack(jax.random.key(0), classifier, x, y, eps))
    assert attack.name == "pgd-7-step-0.01"
    assert attack.cost.gradients == 7
    np.testing.assert_allclose(np.abs(found - x).max((1, 2, 3)), reached, atol=1e-6)


# ------------------------------------------------------------------------------------- functions


def drawn(model, *inputs):
    shapes = jax.eval_shape(model.init, jax.random.key(0), *inputs)
    rng = np.random.default_rng(2)
    draw = lambda leaf: np.abs(0.3 * rng.normal(size=leaf.shape)).astype(np.float32)
    signs = lambda leaf: leaf * rng.choice([-1, 1], size=leaf.shape).astype(np.float32)
    found = jax.tree.map(draw, shapes)
    return Frozen(model, found | {"params": jax.tree.map(signs, found["params"])})


def test_dropout_that_stays_on_is_right_on_average_and_each_examples_own():
    net = drawn(models.VGG(convolutions=(1,), widths=(2,), hidden=(6,), dropout=0.65), X)
    noisy = dropping(net)
    assert is_random(noisy)
    answer = jax.jit(lambda keys, x: noisy(keys, x))
    once = np.asarray(answer(KEYS, X))
    np.testing.assert_allclose(answer(KEYS[::-1], X[::-1].copy())[::-1], once, atol=1e-4)
    many = jax.random.split(jax.random.key(5), 3000)
    draws = np.asarray(answer(many, np.repeat(X[:1], len(many), 0)))
    expected = np.asarray(net(X[:1]))[0]
    error = draws.std(0) / np.sqrt(len(many))
    assert (error > 0).all()
    assert (np.abs(draws.mean(0) - expected) < 5 * error).all()


def test_without_dropout_it_is_the_classifier_itself():
    net = drawn(models.VGG(convolutions=(1,), widths=(2,), hidden=(6,), dropout=0.0), X)
    np.testing.assert_allclose(dropping(net)(KEYS, X), net(X), rtol=1e-5, atol=1e-5)


NOISY = models.LatentNoiseAutoencoder(features=(2, 2, 3), hidden=5, code=2)


def test_an_autoencoder_is_deployed_with_the_noise_that_it_has():
    autoencoder = drawn(NOISY, X)
    assert is_random(deployed(autoencoder))
    assert not is_random(deployed(drawn(NOISY.clone(sigma=0.0), X)))
    fixed = fixed_noise(autoencoder, jax.random.key(7))
    noise = np.broadcast_to(fixed.noise, (4, 2))
    expected = NOISY.apply(autoencoder.variables, X, noise=noise)
    np.testing.assert_allclose(fixed(X), expected, atol=1e-6)


def test_the_code_and_the_silent_units_are_read_off_the_layers():
    class Plain(nn.Module):
        sigma = 1.0

        @nn.compact
        def __call__(self, x):
            x = nn.Dense(3)(x.reshape(len(x), -1))
            return nn.Dense(2)(x)

    kernel = np.zeros((256, 3), np.float32)
    kernel[0] = (1, -1, 0)  # the first pixel, its negative, nothing
    code = np.array([[1, 0], [0, 0], [0, 0]], np.float32)
    params = {
        "Dense_0": {"kernel": kernel, "bias": np.zeros(3, np.float32)},
        "Dense_1": {"kernel": code, "bias": np.zeros(2, np.float32)},
    }
    autoencoder = Frozen(Plain(), {"params": params})
    assert code_spread(autoencoder, X) == pytest.approx(X[:, 0, 0, 0].std() / 2, rel=1e-5)
    assert silent_share(autoencoder, X) == pytest.approx(2 / 3)


def test_the_choice_of_a_class_is_what_puvae_takes():
    shape = {"image_shape": (16, 16, 1), "num_classes": 3, "latent": 4, "features": 4}
    vae = drawn(models.ConditionalVAE(**shape, layers=1, kernel=3, hidden=8), X, Y)
    quiet = without_noise(made(PUVAE, vae))
    assert (jax.tree.leaves(quiet(KEYS, X)) == np.asarray(quiet(KEYS[::-1], X))).all()
    chosen = np.asarray(Nearness(vae.module, vae.variables)(X)).argmax(-1)
    assert len(set(chosen)) > 1
    code, _ = vae.module.apply(vae.variables, X, chosen, method="encode")
    expected = vae.module.apply(vae.variables, code, chosen, method="decode")
    np.testing.assert_allclose(quiet(KEYS, X), expected, atol=1e-5)


def test_random_functions_are_told_apart_on_disk():
    one, other = drawn(NOISY, X), drawn(NOISY.clone(sigma=2.0), X)
    gan = drawn(models.Generator(image_shape=(16, 16, 1), features=2), np.zeros((1, 128)))
    vae = models.ConditionalVAE(
        image_shape=(16, 16, 1), num_classes=3, latent=2, features=2, layers=1, kernel=3, hidden=4
    )
    purifiers = [
        deployed(one), deployed(other), made(PUVAE, drawn(vae, X, Y)),
        made(DEFENSE_GAN, gan, restarts=1, steps=2), made(DEFENSE_GAN, gan, restarts=1, steps=3),
    ]  # fmt: skip
    net = drawn(models.VGG(convolutions=(1,), widths=(2,), num_classes=3), X)
    latent, nearest = within(gan, 2, "weights"), defenses.invert(gan, restarts=1, steps=2)
    name = lambda attack, function: identity(
        attack, function, X, Y, [0.1], jax.random.key(0), None, "nested"
    )
    names = [name(latent, Purified(purifier, net)) for purifier in purifiers]
    assert len(set(names)) == len(names)
    assert names[0] == name(latent, Purified(deployed(one), net))
    for other in (within(gan, 2, "others"), within(gan, 2, "weights", nearest)):
        assert names[0] != name(other, Purified(deployed(one), net))


# ------------------------------------------------------------------------------------- measuring


class Bright(nn.Module):
    """Class 1 where the image's mean is above a half."""

    def __call__(self, x):
        mean = x.mean((1, 2, 3))
        return jnp.stack([0.5 - mean, mean - 0.5], -1)


class Negative(nn.Module):
    """White for black."""

    def __call__(self, x):
        return 1 - x


def test_what_papers_report_counts_attacked_images_by_themselves(tmp_path):
    """A defence that errs on clean images may be right on those attacked."""
    study = studies.prepare(
        mandal2023.PRESETS["smoke"], "mnist", "digits", 0, tmp_path, size=8, channels=1
    )
    study.__dict__["examples"] = (np.full((4, 8, 8, 1), 0.55, np.float32), np.ones(4, np.int32))
    net = Frozen(Bright(), {})
    shown = {"negative": Purified(Frozen(Negative(), {}), net)}
    given = (study, "net", attacks.fgsm(linf), net, shown, (0.0, 0.1))
    assert [r.value for r in measuring.static(*given)] == [0, 0]
    assert [r.value for r in measuring.static(*given, alone=3)] == [0, 1]
