"""JPEG against Pillow's, and its own laws."""

import io

import numpy as np
import pytest
from PIL import Image

from jaxdefense import defenses
from jaxdefense.defenses.jpeg import tables
from jaxdefense.errors import InputError


def pictures(height, width, channels, count=3):
    """Smooth shapes with a hard edge and some noise, as multiples of 1/255."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:height, :width]
    made = []
    for _ in range(count):
        planes = [
            0.5 + 0.4 * np.sin(rng.uniform(0.1, 0.6) * rows + rng.uniform(0.1, 0.6) * columns)
            for _ in range(channels)
        ]
        picture = np.stack(planes, -1) + 0.05 * rng.normal(size=(height, width, channels))
        picture[: height // 2, width // 3 :] = rng.uniform(size=channels)
        made.append(np.clip(picture, 0, 1))
    return (np.round(255 * np.stack(made)) / 255).astype(np.float32)


def pillow(x, quality):
    restored = []
    for picture in np.round(255 * x).astype(np.uint8):
        file = io.BytesIO()
        image = Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture)
        image.save(file, "JPEG", quality=quality, subsampling=0)
        read = np.asarray(Image.open(file), np.float32) / 255
        restored.append(read.reshape(picture.shape))
    return np.stack(restored)


@pytest.mark.parametrize("quality", [10, 50, 75, 95])
@pytest.mark.parametrize("shape", [(32, 32, 3), (28, 28, 1), (13, 21, 3)])
def test_jpeg_is_pillows(shape, quality):
    x = pictures(*shape)
    ours, theirs = np.asarray(defenses.jpeg(quality)(x)), pillow(x, quality)
    error, loss = np.abs(ours - theirs), np.abs(theirs - x)
    # libjpeg computes in integers, so that single coefficients and pixels round the other way.
    assert error.mean() < 0.4 / 255
    assert error.mean() < 0.15 * loss.mean()


def test_worse_quality_loses_more():
    x = pictures(32, 32, 3)
    losses = [float(np.abs(defenses.jpeg(q)(x) - x).mean()) for q in (100, 90, 75, 50, 20, 5)]
    assert losses == sorted(losses)
    assert losses[0] < 1.5 / 255


def test_flat_blocks_survive_any_quality():
    x = np.full((1, 16, 16, 1), 128 / 255, np.float32)
    np.testing.assert_allclose(defenses.jpeg(1)(x), x, atol=1e-6)


def test_tables_follow_libjpegs_rule():
    assert tables(50)[..., 0][7].tolist() == [72, 92, 95, 98, 112, 100, 103, 99]
    assert tables(50)[3, 3, 1] == tables(50)[7, 7, 2] == 99
    assert tables(75)[0, 0].tolist() == [8, 9, 9]  # (16 * 50 + 50) // 100, (17 * 50 + 50) // 100
    assert tables(25)[0, 1].tolist() == [22, 36, 36]
    assert (tables(1) == 255).all()  # as far as one byte goes


def test_jpeg_of_other_channels_says_so():
    with pytest.raises(InputError, match="2 channels"):
        defenses.jpeg(75)(np.zeros((1, 8, 8, 2), np.float32))
