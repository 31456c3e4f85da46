"""Typeface digits: rendered digits of many fonts, jittered inside JAX, split by font family.

A small sibling of TMNIST that needs no files: 32 faces of 14 free font families shipped as
rendered masters (`assets/make_typeface_masters.py` makes them). White digit on black.
"""

from __future__ import annotations

import functools
import math
import zlib
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates
from jax.scipy.special import ndtr

from jaxdefense.data.dataset import Dataset, whole
from jaxdefense.data.fonts import CANVAS, Face, faces_in
from jaxdefense.data.readers.base import hashed_to_test
from jaxdefense.errors import InputError

MASTERS = Path(__file__).parent / "assets" / "typeface_masters.npz"
TEST_FAMILIES = frozenset(("DejaVuSerif", "CM-italic", "STIX-sans", "CM-oldstyle", "Aileron"))
BATCH = 128


def builtin_faces() -> list[Face]:
    """The 32 faces shipped with the package."""
    with np.load(MASTERS) as file:
        rows = zip(file["names"], file["families"], file["masters"], strict=True)
        return [Face(str(name), str(family), masters) for name, family, masters in rows]


def render_typeface(
    size: int = 28, *, per_face: int = 25, seed: int = 0, fonts: Path | None = None
) -> Dataset:
    """Digits drawn straight at ``size`` x ``size`` pixels, ``per_face`` of each face and digit.

    The test split holds whole font families: DejaVuSerif, CM-italic, STIX-sans, CM-oldstyle and
    Aileron, and of the families in ``fonts`` the one in five that a hash of its name picks. Every
    image depends only on the seed, its face, its digit and its number: more faces or a larger
    ``per_face`` change none of the others. Drawn on the CPU, for the same grey levels everywhere.

    Args:
        size: side in pixels, at least 8.
        per_face: jittered images of each face and digit.
        seed: of the jitter and of the order.
        fonts: folder of ttf, otf or woff2 files whose faces are added.

    Returns:
        uint8 images of one channel; groups are the font families.

    Raises:
        InputError: ``size`` or ``per_face`` is out of range.
        DataError: ``fonts`` holds no usable face.

    Example:
        >>> render_typeface(28, per_face=1).image_shape
        (28, 28, 1)
    """
    whole("size", size, 8)
    whole("per_face", per_face, 1)
    faces = builtin_faces()
    added = faces_in(fonts, faces) if fonts is not None else []
    images, labels, face_of = draw([*faces, *added], size, per_face, seed)
    families = np.array([face.family for face in (*faces, *added)])[face_of]
    test = np.array([in_test(face.family) for face in (*faces, *added)])[face_of]
    order = np.random.default_rng([seed, 6]).permutation(len(labels))
    held, kept = order[test[order]], order[~test[order]]
    counted = len({face.family for face in (*faces, *added)})
    more = f" ({len(faces)} built in, {len(added)} from {fonts})" if fonts is not None else ""
    return Dataset(
        "typeface",
        images[kept],
        labels[kept],
        images[held],
        labels[held],
        tuple(map(str, range(10))),
        f"typeface digits, {len(faces) + len(added)} faces of {counted} font families{more}, "
        f"split by family, drawn at {size}x{size} with {per_face} random jitters of each (seed "
        f"{seed})",
        synthetic=True,
        groups_train=families[kept],
        groups_test=families[held],
    )


def in_test(family: str) -> bool:
    """Whether a font family belongs to the test split."""
    return family in TEST_FAMILIES or (family not in _train_families() and hashed_to_test(family))


@functools.cache
def _train_families() -> frozenset[str]:
    return frozenset(face.family for face in builtin_faces()) - TEST_FAMILIES


def draw(
    faces: Sequence[Face], size: int, per_face: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Jittered digits of every face.

    Returns:
        uint8 ``[n, size, size, 1]``, int32 digits ``[n]`` and the index of each image's face
        ``[n]``, where n is faces x 10 x ``per_face``.
    """
    if seed < 0:
        raise InputError(f"seed must not be negative, not {seed}")
    grid = np.indices((len(faces), 10, per_face)).reshape(3, -1).astype(np.int32)
    total = grid.shape[1]
    # By name, so that adding a face leaves the jitter of all the others as it was.
    salts = np.array([zlib.crc32(face.name.encode()) for face in faces], np.uint32)
    codes = salts[grid[0]] + np.uint32(1_000_003) * (10 * grid[2] + grid[1]).astype(np.uint32)
    # Batches of one shape, whatever the number of images and faces: one compilation per size.
    filled = math.ceil(total / BATCH) * BATCH
    rows = np.arange(filled) % total
    masters = np.stack([face.masters for face in faces])
    with jax.default_device(_cpu()):
        key = jax.random.key(seed, impl="threefry2x32")
        out = np.concatenate(
            [
                np.asarray(_batch(key, codes[part], masters[grid[0][part], grid[1][part]], size))
                for part in np.split(rows, filled // BATCH)
            ]
        )
    return out[:total, ..., None], grid[1], grid[0]


@functools.partial(jax.jit, static_argnames="size")
def _batch(key: jax.Array, codes: jax.Array, masters: jax.Array, size: int) -> jax.Array:
    def one(code: jax.Array, master: jax.Array) -> jax.Array:
        own = jax.random.fold_in(key, code)
        return _jitter(own, master.astype(jnp.float32) / 255, size)

    return jnp.rint(jax.vmap(one)(codes, masters) * 255).astype(jnp.uint8)


def _jitter(key: jax.Array, master: jax.Array, size: int) -> jax.Array:
    """One master ``[64, 64]``, thinned or thickened, bent and re-lit, as ``[size, size]``."""
    # One draw for all: each call of the generator costs half a second of compilation.
    normal = jax.random.normal(key, (9,), jnp.float32)
    uniform = ndtr(normal[5:])
    inked = _thickness(master, 1.2 * uniform[0] - 0.4)
    angle, shear = 0.105 * normal[0], 0.1 * normal[1]  # 0.105 is 6 degrees
    scale = 0.85 + 0.27 * uniform[1:3]
    shift = CANVAS * jnp.clip(0.035 * normal[2:4], -0.08, 0.08)
    turn = jnp.array([[jnp.cos(angle), -jnp.sin(angle)], [jnp.sin(angle), jnp.cos(angle)]])
    affine = turn @ jnp.array([[1.0, shear], [0.0, 1.0]]) @ jnp.diag(scale)
    a, b, c, d = affine.ravel()
    inverse = jnp.array([[d, -b], [-c, a]]) / (a * d - b * c)
    # Sampled finer than the masters and averaged: no aliasing at small sizes.
    fine = max(1, math.ceil(CANVAS / size))
    ticks = (jnp.arange(size * fine, dtype=jnp.float32) + 0.5) * (CANVAS / (size * fine)) - 0.5
    y, x = jnp.meshgrid(ticks, ticks, indexing="ij")
    middle = (CANVAS - 1) / 2
    points = jnp.stack([x.ravel(), y.ravel()]) - middle - shift[:, None]
    at = inverse @ points + middle
    drawn = map_coordinates(inked, [at[1], at[0]], order=1)
    drawn = drawn.reshape(size, fine, size, fine).mean((1, 3))
    gamma, brightness = jnp.exp(0.25 * normal[4]), 0.8 + 0.2 * uniform[3]
    return jnp.clip(brightness * drawn**gamma, 0, 1)


def _thickness(master: jax.Array, amount: jax.Array) -> jax.Array:
    """Blend towards the 3 x 3 dilation (amount up to 1) or erosion (down to -1)."""
    window = ((3, 3), (1, 1), "SAME")
    wide = jax.lax.reduce_window(master, -jnp.inf, jax.lax.max, *window)
    thin = jax.lax.reduce_window(master, jnp.inf, jax.lax.min, *window)
    return master + jnp.where(amount > 0, amount * (wide - master), -amount * (thin - master))


def _cpu() -> jax.Device | None:
    try:
        return jax.devices("cpu")[0]
    except RuntimeError:  # JAX_PLATFORMS leaves only another device
        return None
