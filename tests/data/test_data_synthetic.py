"""Synthetic stand-ins: what is drawn, how hard it is, what decides it, how it loads."""

import dataclasses

import numpy as np
import pytest

from jaxdefense.data import load
from jaxdefense.data.synthetic import STAND_INS, canvas, ct, fingers, render_stand_in, signs
from jaxdefense.errors import DataError, InputError, UnknownNameError

SIGNS, FINGERS, CT = STAND_INS
CHANNELS = {SIGNS: 3, FINGERS: 1, CT: 1}


@pytest.fixture(scope="module")
def drawn():
    """240 + 60 small images of each set."""
    return {name: render_stand_in(name, 24, n_train=240, n_test=60) for name in STAND_INS}


@pytest.fixture
def few(monkeypatch):
    """`load` draws 40 + 20 images."""
    for name, one in STAND_INS.items():
        monkeypatch.setitem(STAND_INS, name, dataclasses.replace(one, counts=(40, 20)))


@pytest.mark.parametrize("name", STAND_INS)
def test_shapes_labels_and_marks(drawn, name):
    data, one = drawn[name], STAND_INS[name]
    assert data.x_train.shape == (240, 24, 24, CHANNELS[name])
    assert data.x_test.shape == (60, 24, 24, CHANNELS[name])
    classes = len(one.class_names)
    np.testing.assert_array_equal(np.bincount(data.y_train), [240 // classes] * classes)
    np.testing.assert_array_equal(np.bincount(data.y_test), [60 // classes] * classes)
    assert data.synthetic
    assert data.title == f"synthetic stand-in for {one.original}"
    assert f"drawn by jaxdefense.data.synthetic.{name.split('_')[1]} (seed 0)" in data.provenance


@pytest.mark.parametrize("name", STAND_INS)
def test_no_image_is_blank_or_burnt_out(drawn, name):
    pixels = drawn[name].x_train.reshape(240, -1).astype(float)
    assert pixels.std(1).min() > 8
    assert ((pixels == 0) | (pixels == 255)).mean() < 0.45  # the window of a CT cuts off
    assert 60 < pixels.mean() < 150
    assert pixels.mean(1).std() > 5  # light varies


@pytest.mark.parametrize("name", STAND_INS)
def test_the_seed_decides_every_image(drawn, name):
    data = drawn[name]
    again = render_stand_in(name, 24, n_train=30, n_test=60)
    np.testing.assert_array_equal(again.x_train, data.x_train[:30])
    np.testing.assert_array_equal(again.x_test, data.x_test)
    other = render_stand_in(name, 24, n_train=60, n_test=30, seed=1)
    every = [data.x_train, data.x_test, other.x_train, other.x_test]
    seen = [image.tobytes() for images in every for image in images]
    assert len(set(seen)) == len(seen) == 240 + 60 + 60 + 30  # no image twice, in no split


@pytest.mark.parametrize(("name", "least", "most"), [(SIGNS, 0.25, 0.8), (FINGERS, 0.25, 0.7)])
def test_neighbours_tell_something_and_not_all(drawn, name, least, most):
    data = drawn[name]
    x, z = (part.reshape(len(part), -1).astype(float) for part in (data.x_train, data.x_test))
    nearest = ((z**2).sum(1)[:, None] - 2 * z @ x.T + (x**2).sum(1)).argmin(1)
    assert least < (data.y_train[nearest] == data.y_test).mean() < most


@pytest.mark.parametrize("name", STAND_INS)
def test_brightness_does_not_give_the_class_away(drawn, name):
    data = drawn[name]
    level = data.x_train.mean((1, 2, 3))
    means = np.array([level[data.y_train == k].mean() for k in range(data.num_classes)])
    guess = np.abs(level[:, None] - means).argmin(1)
    assert (guess == data.y_train).mean() < 1 / data.num_classes + 0.2


def test_clean_signs_all_differ_and_pairs_are_mirror_images():
    x, y = canvas.grid(32)
    clean = {}
    for name, layers in signs.SIGNS.items():
        clean[name] = np.full((3, 1, 32, 32), 0.5, np.float32)
        for distance, colour in layers(1.1 * x, 1.1 * y):
            canvas.paint(clean[name], colour, canvas.cover(distance, 0.06))
    assert len(clean) == 20
    flat = np.stack([picture.ravel() for picture in clean.values()])
    apart = np.abs(flat[:, None] - flat).mean(-1) + np.eye(20)
    assert apart.min() > 0.02
    for one, other in (("bend left", "bend right"), ("keep left", "keep right")):
        np.testing.assert_allclose(clean[one], clean[other][..., ::-1], atol=1e-5)


def test_a_label_is_the_number_of_raised_fingers():
    labels = np.arange(60, dtype=np.int32) % 6
    dice = canvas.Dice(np.random.default_rng(0), 60)
    raised = fingers._raised(dice, labels)
    np.testing.assert_array_equal(raised.sum((0, 2, 3)), labels)
    assert len({pose.tobytes() for pose in np.moveaxis(raised, 1, 0)}) > 10  # many ways of each


def test_left_and_right_hands():
    dice = canvas.Dice(np.random.default_rng(0), 40)
    five = fingers.draw_fingers(dice, np.full(40, 5), 32)[0]
    # Right of the middle and left of it, at the height of the thumb.
    lean = five[:, 14:20, 22:].mean((1, 2)) - five[:, 14:20, :10].mean((1, 2))
    assert 10 < (lean > 0).sum() < 30


def test_opacities_are_all_that_tells_the_classes_of_ct_apart():
    def slices(label):
        dice = canvas.Dice(np.random.default_rng(0), 20)
        return ct.draw_ct(dice, np.full(20, label), 48)[0].clip(0, 1)

    clear, veiled = slices(0), slices(1)
    added = veiled - clear
    assert added.min() > -1e-3  # only ever brighter
    assert (added > 0.05).mean((1, 2)).min() > 0.003  # in every image
    assert (added > 0.05).mean() < 0.2
    assert (clear[added > 0.05] < 0.9).mean() > 0.98  # never in the bright body wall
    np.testing.assert_array_equal(added[:, :4], 0)


def test_drawn_straight_at_every_size():
    for name in STAND_INS:
        small = render_stand_in(name, 16, n_train=20, n_test=1)
        large = render_stand_in(name, 48, n_train=20, n_test=1)
        assert large.image_shape == (48, 48, CHANNELS[name])
        assert abs(small.x_train.mean() - large.x_train.mean()) < 25


def test_distances():
    x, y = np.array([[[0.0, 3.0, 0.0]]]), np.array([[[0.0, 4.0, -1.0]]])
    near = lambda distance, want: np.testing.assert_allclose(distance.ravel(), want, atol=1e-6)
    near(canvas.disc(x, y, 2), [-2, 3, -1])
    near(canvas.box(x, y, 1, 2), [-1, 2, -1])
    near(canvas.ellipse(x, y, 5, 5), [-5, 0, -4])
    near(canvas.ellipse(x, y, 3, 2, square=1), [-2, 2 * (17**0.25 - 1), -1])
    near(canvas.polygon(x, y, 4, 2**0.5), [-1, 3, 0])  # a square of side 2
    distance, right, down = canvas.segment(x, y, (1.0, 0.0), (3.0, 0.0))
    near(distance, [1, 4, 2**0.5])
    near(right, [-1, 0, -1])
    near(down, [0, 4, -1])
    near(canvas.stroke(x, y, [(3, 0), (3, 4), (0, 4)], 1), [2.5, -0.5, 2.662278])
    near(canvas.cover(np.array([-1.0, 0.0, 0.25, 1.0]), 1.0), [1, 0.5, 0.25, 0])
    near(np.stack(canvas.turned(1.0, 0.0, np.array(np.pi / 2))), [0, -1])


def test_dice():
    dice = canvas.Dice(np.random.default_rng(0), 400)
    assert dice.uniform(2, 3).shape == dice.chance(0.5).shape == (400, 1, 1)
    assert dice.uniform(2, 3, planes=3).shape == (3, 400, 1, 1)
    assert np.ptp(dice.normal(1, 2)) <= 10
    assert set(dice.sign().ravel()) == {-1, 1}
    assert dice.chance(0.25).mean() == pytest.approx(0.25, abs=0.1)
    for cells in (2, 7, 40):
        clouds = dice.clouds(16, cells)
        np.testing.assert_allclose(clouds.std(0), 1, atol=0.2)
        assert clouds.dtype == np.float32
    smooth, rough = (np.abs(np.diff(dice.clouds(32, cells))).mean() for cells in (2, 16))
    assert rough > 4 * smooth


@pytest.mark.parametrize("name", STAND_INS)
def test_load_keeps_what_it_drew(few, tmp_path, monkeypatch, name):
    first = load(name, size=16, channels=3, seed=2)
    assert first.image_shape == (16, 16, 3)
    assert (len(first.y_train), len(first.y_test)) == (40, 20)
    assert "(seed 2)" in first.provenance
    monkeypatch.setattr("jaxdefense.data.synthetic.canvas.render", None)
    again = load(name, size=16, channels=3, seed=2)
    np.testing.assert_array_equal(first.x_train, again.x_train)
    assert (again.synthetic, again.provenance) == (True, first.provenance)
    assert len(list((tmp_path / "cache").glob(f"{name}-*.npz"))) == 1


def test_a_default_size_of_each(few):
    shapes = {name: load(name).image_shape for name in STAND_INS}
    assert shapes == {SIGNS: (32, 32, 3), FINGERS: (32, 32, 1), CT: (128, 128, 1)}


def test_a_prepared_file_stays_synthetic(tmp_path):
    x, y = np.full((2, 16, 16, 1), 9, np.uint8), np.arange(2)
    np.savez(tmp_path / f"{CT}.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    data = load(CT, data_dir=tmp_path)
    assert data.x_train.max() == 9
    assert data.synthetic
    assert data.title == "synthetic stand-in for SARS-CoV-2 CT"


@pytest.mark.parametrize(
    ("original", "name"), [("gtsrb", SIGNS), ("fingers", FINGERS), ("sars_cov2_ct", CT)]
)
def test_the_missing_original_names_its_stand_in(original, name):
    with pytest.raises(DataError, match=f"stand-in needs no files: '{name}'"):
        load(original)


def test_bad_arguments():
    with pytest.raises(InputError, match="size"):
        load(SIGNS, size=15)
    for wrong in ({"n_train": 0}, {"n_test": True}, {"seed": -1}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            render_stand_in(CT, **wrong)
    with pytest.raises(UnknownNameError, match="synthetic_signs"):
        render_stand_in("synthetic_sings")
