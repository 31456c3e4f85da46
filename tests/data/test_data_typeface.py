"""Typeface digits: masters, jitter, the split by family, added fonts."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxdefense.data import load
from jaxdefense.data.assets import make_typeface_masters
from jaxdefense.data.fonts import Face, faces_in, family_of
from jaxdefense.data.typeface import (
    MASTERS,
    TEST_FAMILIES,
    builtin_faces,
    draw,
    in_test,
    render_typeface,
)
from jaxdefense.errors import DataError, InputError


def matplotlib_fonts() -> Path:
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf"


def copy_fonts(folder, *names):
    folder.mkdir()
    for name in names:
        shutil.copy(matplotlib_fonts() / name, folder)
    return folder


@pytest.fixture(scope="module")
def drawn():
    return render_typeface(16, per_face=2)


def test_masters():
    faces = builtin_faces()
    assert len(faces) == 32
    assert len({face.family for face in faces}) == 14
    assert {face.family for face in faces} >= TEST_FAMILIES
    assert {face.masters.shape for face in faces} == {(10, 64, 64)}
    assert len({glyph.tobytes() for face in faces for glyph in face.masters}) > 300
    assert MASTERS.stat().st_size < 250_000


def test_the_script_makes_the_same_faces(tmp_path, capsys):
    target = tmp_path / "again.npz"
    make_typeface_masters.main([str(target)])
    assert "32 faces of 14 families" in capsys.readouterr().out
    with np.load(MASTERS) as old, np.load(target) as new:
        np.testing.assert_array_equal(old["names"], new["names"])
        np.testing.assert_array_equal(old["families"], new["families"])
        # FreeType versions draw slightly different grey levels, not other glyphs.
        gap = np.abs(old["masters"].astype(int) - new["masters"]).mean((1, 2, 3))
        assert gap.max() < 8
    with pytest.raises(SystemExit, match="Usage"):
        make_typeface_masters.main([])


def test_shapes_and_labels(drawn):
    assert drawn.x_train.shape == (22 * 20, 16, 16, 1)
    assert drawn.x_test.shape == (10 * 20, 16, 16, 1)
    assert drawn.synthetic
    np.testing.assert_array_equal(np.bincount(drawn.y_train), [44] * 10)
    np.testing.assert_array_equal(np.bincount(drawn.y_test), [20] * 10)
    assert drawn.x_train.max((1, 2, 3)).min() > 60  # no blank image
    assert (drawn.x_train[:, 0, 0] == 0).mean() > 0.99  # white on black


def test_split_by_family(drawn):
    assert set(drawn.groups_test) == TEST_FAMILIES
    assert not set(drawn.groups_train) & set(drawn.groups_test)
    assert len(set(drawn.groups_train)) == 9


def test_deterministic_in_the_seed(drawn):
    again, other = render_typeface(16, per_face=2), render_typeface(16, per_face=2, seed=1)
    np.testing.assert_array_equal(drawn.x_train, again.x_train)
    np.testing.assert_array_equal(drawn.y_test, again.y_test)
    assert not np.array_equal(drawn.x_train, other.x_train)


def test_an_image_depends_on_nothing_but_itself():
    faces = builtin_faces()[:3]
    few, labels, face_of = draw(faces, 16, 2, seed=0)
    more, more_labels, more_face = draw([*faces[1:], *faces[:1]], 16, 3, seed=0)
    few = few.reshape(3, 10, 2, 16, 16)
    more = np.roll(more.reshape(3, 10, 3, 16, 16), 1, axis=0)
    np.testing.assert_array_equal(few, more[:, :, :2])
    np.testing.assert_array_equal(labels.reshape(3, 10, 2)[1, :, 0], np.arange(10))
    assert set(more_labels) == set(range(10))
    assert list(np.unique(face_of)) == list(np.unique(more_face)) == [0, 1, 2]


def test_the_jitter_moves_but_keeps_the_digit():
    images, _, _ = draw(builtin_faces()[5:6], 16, 8, seed=0)
    zeros = images[:8, ..., 0].astype(float)
    assert len({image.tobytes() for image in zeros}) == 8
    assert zeros.sum((1, 2)).std() / zeros.sum((1, 2)).mean() > 0.05  # thickness and contrast
    masters = builtin_faces()[5].masters
    still = [np.asarray(Image.fromarray(glyph).resize((16, 16))).ravel() for glyph in masters]
    mean = images.reshape(10, 8, -1).mean(1)
    likeness = np.corrcoef(mean, np.stack(still))[:10, 10:]
    np.testing.assert_array_equal(likeness.argmax(1), np.arange(10))


@pytest.mark.parametrize("size", [8, 16, 96])
def test_drawn_straight_at_every_size(size):
    images, _, _ = draw(builtin_faces()[:1], size, 1, seed=0)
    assert images.shape == (10, size, size, 1)
    assert images.max() > 150
    # Ink covers the same share of the picture at every size.
    assert 0.1 < images.mean() / 255 < 0.3


def test_load_caches_by_its_settings(tmp_path):
    first = load("typeface", size=16, channels=3, per_face=1)
    assert first.image_shape == (16, 16, 3)
    assert first.title == "typeface digits"
    again = load("typeface", size=16, channels=3, per_face=1)
    np.testing.assert_array_equal(first.x_train, again.x_train)
    assert len(list((tmp_path / "cache").glob("typeface-*.npz"))) == 1
    assert not np.array_equal(load("typeface", size=16, per_face=1, seed=1).x_test, first.x_test)
    assert len(list((tmp_path / "cache").glob("typeface-*.npz"))) == 2


def test_a_prepared_file_replaces_it_only_when_named(tmp_path, monkeypatch):
    x = np.full((4, 28, 28, 1), 9, np.uint8)
    y = np.arange(4)
    np.savez(tmp_path / "typeface_9.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    assert load("typeface", data_dir=tmp_path).x_train.max() == 9
    monkeypatch.setenv("JAXDEFENSE_DATA", str(tmp_path))
    assert load("typeface", size=16, per_face=1).x_train.max() > 100
    assert load("typeface_9").x_train.max() == 9


def test_bad_arguments():
    with pytest.raises(InputError, match="size"):
        load("typeface", size=4)
    with pytest.raises(InputError, match="per_face"):
        load("typeface", per_face=0)
    with pytest.raises(InputError, match="seed"):
        draw(builtin_faces()[:1], 16, 1, seed=-1)


def test_added_fonts(tmp_path, monkeypatch):
    folder = copy_fonts(tmp_path / "fonts", "DejaVuSerif.ttf", "cmtt10.ttf", "cmsy10.ttf")
    (folder / "broken.ttf").write_bytes(b"not a font")
    # Known faces are not added twice; symbol fonts and broken files are left out.
    assert faces_in(folder, builtin_faces()) == []
    assert {face.family for face in faces_in(folder)} == {"DejaVuSerif", "CM-mono"}
    # With only one face built in, the others of the folder are new.
    one = [face for face in builtin_faces() if face.name == "DejaVuSans"]
    monkeypatch.setattr("jaxdefense.data.typeface.builtin_faces", lambda: one)
    data = load("typeface", size=16, per_face=1, fonts=folder)
    assert "3 faces of 3 font families (1 built in, 2 from" in data.provenance
    assert set(data.groups_test) == {"DejaVuSerif"}  # the built-in family's side, not a hash
    assert set(data.groups_train) == {"DejaVuSans", "CM-mono"}


def test_fonts_that_do_not_help(tmp_path):
    with pytest.raises(DataError, match="is not a folder"):
        load("typeface", fonts=tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no font files"):
        load("typeface", fonts=tmp_path / "empty")
    folder = copy_fonts(tmp_path / "odd", "cmsy10.ttf", "STIXSizOneSymReg.ttf")
    with pytest.raises(DataError, match="none of its 2 font files"):
        load("typeface", fonts=folder)


def test_faces_without_usable_digits(tmp_path):
    """`DejaVuSansDisplay` has no digits: every one of them is drawn as the same box."""
    folder = copy_fonts(tmp_path / "fonts", "DejaVuSansDisplay.ttf", "DejaVuSans.ttf")
    (face,) = faces_in(folder)
    assert isinstance(face, Face)
    assert face.name == "DejaVu Sans Book (DejaVuSans.ttf)"


def test_families():
    assert family_of("DejaVu Sans Mono") == family_of("DejaVuSansMono-Bold") == "DejaVuSansMono"
    assert family_of("STIX Two Text") == "STIX"
    assert family_of("Comic Neue") == "Comic Neue"
    assert in_test("Aileron")
    assert not in_test("DejaVuSans")
    share = np.mean([in_test(f"family {i}") for i in range(500)])
    assert 0.14 < share < 0.26
