"""Render the digit masters of the typeface set.

Usage: ``python -m jaxdefense.data.assets.make_typeface_masters OUT.npz``

Fonts: those matplotlib brings (DejaVu, STIX, Computer Modern), with the digits of the mathematical
alphabets inside them as faces of their own, and Aileron, which is built into Pillow. The masters
are shipped because the bytes depend on the FreeType version: another version gives the same faces
with slightly different grey levels.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import ImageFont

from jaxdefense.data.fonts import (
    ASCII_ZERO,
    NOT_DIGITS,
    POINT_SIZE,
    Face,
    family_of,
    font_files,
    open_font,
    render,
)
from jaxdefense.errors import InputError

MATHEMATICAL_ZEROS = {
    "": ASCII_ZERO,
    "+bold": 0x1D7CE,
    "+dblstruck": 0x1D7D8,
    "+sans": 0x1D7E2,
    "+sansbold": 0x1D7EC,
    "+mono": 0x1D7F6,
}


def make_faces() -> list[Face]:
    """All distinct usable faces, in the order of their file names."""
    import matplotlib  # only for where its font files lie

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    faces: dict[bytes, Face] = {}
    for path in font_files(folder):
        if NOT_DIGITS.match(path.stem.lower()):
            continue
        font = open_font(path)
        for tag, zero in MATHEMATICAL_ZEROS.items():
            masters = render(font, zero)
            if masters is not None:
                name = path.stem + tag
                faces.setdefault(masters.tobytes(), Face(name, family_of(name), masters))
    aileron = ImageFont.load_default(POINT_SIZE)
    masters = render(aileron) if isinstance(aileron, ImageFont.FreeTypeFont) else None
    if masters is None:
        raise InputError("this Pillow is built without FreeType; install one with it")
    faces.setdefault(masters.tobytes(), Face("Aileron", family_of("Aileron"), masters))
    return list(faces.values())


def main(arguments: list[str]) -> None:
    """Write the masters to the one path given."""
    if len(arguments) != 1:
        raise SystemExit(__doc__)
    faces = make_faces()
    target = Path(arguments[0])
    with target.open("wb") as file:
        np.savez_compressed(
            file,
            masters=np.stack([face.masters for face in faces]),
            names=np.array([face.name for face in faces]),
            families=np.array([face.family for face in faces]),
        )
    families = sorted({face.family for face in faces})
    print(f"{target}: {len(faces)} faces of {len(families)} families: {', '.join(families)}")


if __name__ == "__main__":
    main(sys.argv[1:])
