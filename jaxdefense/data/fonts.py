"""Digits rendered from font files with Pillow: usable faces and the family each belongs to."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from jaxdefense.errors import DataError

CANVAS = 64  # side of a master in pixels
MARGIN = 10
POINT_SIZE = 96
ENDINGS = frozenset((".ttf", ".otf", ".woff2", ".woff", ".pfb", ".ttc"))
ASCII_ZERO = 0x30
# These have symbols where digits should be and pass every automatic check.
NOT_DIGITS = re.compile(
    r"lastresort|stixnonuni|stixsiz|cmex|cmsy|d050000l|biolinum.*keyboard|dingbat"
)
# Faces of one design go to one side of the split, whatever their files call them.
FAMILIES = (
    (r"dejavu.*dblstruck", "DejaVu-dblstruck"),
    (r"dejavusansmono", "DejaVuSansMono"),
    (r"dejavusans", "DejaVuSans"),
    (r"dejavuserif", "DejaVuSerif"),
    (r"stix.*dblstruck", "STIX-dblstruck"),
    (r"stix.*sans", "STIX-sans"),
    (r"stix.*mono", "STIX-mono"),
    (r"stix", "STIX"),
    (r"cmss", "CM-sans"),
    (r"cmtt", "CM-mono"),
    (r"cmti", "CM-italic"),
    (r"cmmi", "CM-oldstyle"),
    (r"cm[rb]\d", "CM-roman"),
    (r"aileron", "Aileron"),
)


class Face(NamedTuple):
    """Ten digit masters, uint8 ``[10, 64, 64]`` white on black, of one face."""

    name: str
    family: str
    masters: np.ndarray


def family_of(name: str) -> str:
    """The family a face or a font's own family name belongs to; its own name when not known.

    Example:
        >>> family_of("DejaVu Serif"), family_of("Lobster")
        ('DejaVuSerif', 'Lobster')
    """
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    return next((family for pattern, family in FAMILIES if re.match(pattern, plain)), name)


def render(font: ImageFont.FreeTypeFont, zero: int = ASCII_ZERO) -> np.ndarray | None:
    """The ten digits of a font as masters, or None where the font has none that can be used.

    Usable means: every digit has ink, no two are equal (a font without digits draws the same box
    for all of them), and none is the box drawn for a character the font cannot have.

    Args:
        font: a font opened at `POINT_SIZE`.
        zero: code point of its digit zero (mathematical alphabets lie elsewhere than ASCII).

    Returns:
        uint8 ``[10, 64, 64]`` or None.
    """
    glyphs = [_glyph(font, chr(zero + digit)) for digit in range(10)]
    if any(glyph is None for glyph in glyphs):
        return None
    masters = np.stack([glyph for glyph in glyphs if glyph is not None])
    seen = {glyph.tobytes() for glyph in masters}
    missing = _glyph(font, "\U0010fffd")
    if masters.mean((1, 2)).min() < 2 or len(seen) < 10:
        return None
    if missing is not None and missing.tobytes() in seen:
        return None
    return masters


def _glyph(font: ImageFont.FreeTypeFont, character: str) -> np.ndarray | None:
    left, top, right, bottom = (round(edge) for edge in font.getbbox(character))
    if right <= left or bottom <= top:
        return None
    sheet = Image.new("L", (right - left + 8, bottom - top + 8), 0)
    ImageDraw.Draw(sheet).text((4 - left, 4 - top), character, font=font, fill=255)
    box = sheet.getbbox()
    if box is None:
        return None
    ink = sheet.crop(box)
    scale = (CANVAS - 2 * MARGIN) / max(ink.size)
    width, height = (max(1, round(side * scale)) for side in ink.size)
    ink = ink.resize((width, height), Image.Resampling.LANCZOS)
    master = Image.new("L", (CANVAS, CANVAS), 0)
    master.paste(ink, ((CANVAS - width) // 2, (CANVAS - height) // 2))
    return np.asarray(master)


def open_font(path: Path) -> ImageFont.FreeTypeFont:
    """A font file at `POINT_SIZE`; plain layout, so that shaping libraries change nothing."""
    return ImageFont.truetype(path, POINT_SIZE, layout_engine=ImageFont.Layout.BASIC)


def font_files(folder: Path) -> tuple[Path, ...]:
    """All font files below ``folder``, sorted."""
    found = folder.rglob("*") if folder.is_dir() else ()
    return tuple(sorted(path for path in found if path.suffix.lower() in ENDINGS))


def faces_in(folder: Path, known: Iterable[Face] = ()) -> list[Face]:
    """The usable digit faces of a folder of fonts that are not among ``known`` already.

    Args:
        folder: searched with all its subfolders.
        known: faces to leave out when a file has exactly the same glyphs.

    Raises:
        DataError: no such folder, no font files, or none with ten usable digits.
    """
    files = font_files(folder)
    if not files:
        raise DataError(
            f"{folder} {'holds no font files' if folder.is_dir() else 'is not a folder'}; name a "
            f"folder with {', '.join(sorted(ENDINGS))} files"
        )
    seen = {_digest(face.masters) for face in known}
    already = len(seen)
    faces: list[Face] = []
    duplicates = 0
    for path in files:
        try:
            font = open_font(path)
            family, style = (part or "" for part in font.getname())
            masters = None
            if not NOT_DIGITS.search(re.sub(r"[^a-z0-9]", "", f"{path.stem}{family}".lower())):
                masters = render(font)
        except (OSError, ValueError):
            continue  # not a font, or one that FreeType cannot draw
        if masters is None:
            continue
        if _digest(masters) in seen:
            duplicates += 1
            continue
        seen.add(_digest(masters))
        name = f"{family} {style}".strip() or path.stem
        faces.append(Face(f"{name} ({path.name})", family_of(family or path.stem), masters))
    if not faces and not (duplicates and already):
        raise DataError(
            f"{folder}: none of its {len(files)} font files has ten usable digits (blank, missing "
            "or equal glyphs, or a damaged file)"
        )
    return faces


def _digest(masters: np.ndarray) -> bytes:
    return hashlib.sha256(masters.tobytes()).digest()
