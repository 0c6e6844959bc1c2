"""The tour as a GIF: what was given on the left, the output as it comes on the right, the verdict below."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from unified.eval.media.tour import Shot

WIDTH, HEIGHT, TILE, TOP, LEFT = 520, 288, 192, 56, (48, 280)
INK, FAINT, PAPER = (30, 30, 34), (120, 120, 128), (255, 255, 255)
VERDICTS = {True: ("right", (24, 128, 56)), False: ("wrong", (190, 30, 40))}
STEP, WALK, READ, LAST = (
    350,
    200,
    1200,
    2200,
)  # milliseconds a picture, a frame of a walk, a request, a verdict
FEW = 4  # pictures that are shown at the pace of steps


def frames(shot: Shot) -> Iterator[tuple[Image.Image, int]]:
    """Canvases of one shot, each with its milliseconds."""
    yield canvas(shot, None), READ
    pace = WALK if shot.verb == "imagine" else STEP if len(shot.made) > FEW else 2 * STEP
    for number, picture in enumerate(shot.made, 1):
        right = shot.rights[number - 1] if shot.rights else None
        yield canvas(shot, picture, f"{number} of {len(shot.made)}", right), pace
    last = shot.made[-1] if shot.made else None
    yield canvas(shot, last, shot.said, shot.rights[-1] if shot.rights else shot.right, shot.rule), LAST


def canvas(
    shot: Shot, picture: np.ndarray | None, note: str = "", right: bool | None = None, rule: str = ""
) -> Image.Image:
    """One canvas: `note` under the output, `right` as its frame, and the shot's verdict by its `rule`."""
    image = Image.new("RGB", (WIDTH, HEIGHT), PAPER)
    draw = ImageDraw.Draw(image)
    for row, line in enumerate(textwrap.wrap(f"{shot.verb}: {shot.words}", 66)[:2]):
        draw.text((12, 6 + 17 * row), line, fill=INK, font=ImageFont.load_default(14))
    small = ImageFont.load_default(12)
    if shot.given is not None:
        draw.text((LEFT[0], TOP - 14), "given", fill=FAINT, font=small)
        image.paste(_tile(shot.given), (LEFT[0], TOP))
    place = LEFT[1] if shot.given is not None else (WIDTH - TILE) // 2
    colour = FAINT if right is None else VERDICTS[right][1]
    if picture is not None:
        draw.text((place, TOP - 14), "output", fill=FAINT, font=small)
        image.paste(_tile(picture), (place, TOP))
        draw.rectangle((place - 3, TOP - 1, place + TILE + 2, TOP + TILE), outline=colour, width=2)
    elif note:
        for row, line in enumerate(textwrap.wrap(f'"{note}"', 26)[:6]):
            draw.text((place, TOP + 70 + 20 * row), line, fill=INK, font=ImageFont.load_default(17))
    note = "" if picture is None else textwrap.shorten(note, 88, placeholder=" ...")
    draw.text((12, TOP + TILE + 4), note, fill=INK, font=small)
    if rule:
        verdict, ink = ("", FAINT) if shot.right is None else VERDICTS[shot.right]
        draw.text((12, TOP + TILE + 20), f"{verdict}: {rule}" if verdict else rule, fill=ink, font=small)
    return image


def save_film(shots: Sequence[Shot], path: Path) -> None:
    """Write the GIF; every canvas has a palette of its own, so that colours stay what they are."""
    pairs = [pair for shot in shots for pair in frames(shot)]
    flat = [image.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE) for image, _ in pairs]
    durations = [milliseconds for _, milliseconds in pairs]
    flat[0].save(path, save_all=True, append_images=flat[1:], duration=durations, loop=0)


def _tile(picture: np.ndarray) -> Image.Image:
    return Image.fromarray(picture).resize((TILE, TILE), Image.Resampling.NEAREST)
