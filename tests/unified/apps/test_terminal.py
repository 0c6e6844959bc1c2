"""Pictures as characters: which protocol a terminal gets, and what the characters say."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from unified.apps.terminal import PROTOCOLS, blocks, iterm, kitty, protocol, render, sixel


class Terminal(io.StringIO):
    def __init__(self, tty=True):
        super().__init__()
        self.tty = tty

    def isatty(self):
        return self.tty


def picture():
    image = np.zeros((12, 8, 3), np.uint8)
    image[:6, :4] = (255, 0, 0)
    image[6:, 4:] = (0, 0, 255)
    return image


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, "iterm"),
        ({"TERM": "foot"}, "sixel"),
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, "blocks"),
        ({"TERM": "screen-256color", "KITTY_WINDOW_ID": "1", "COLORTERM": "truecolor"}, "blocks"),
        ({"TERM": "xterm"}, ""),
        ({"TERM": "dumb", "COLORTERM": "truecolor"}, ""),
        ({}, ""),
        ({"TERM": "xterm-kitty", "UNIFIED_IMAGES": "none"}, ""),
        ({"TERM": "xterm", "UNIFIED_IMAGES": "sixel"}, "sixel"),
    ],
)
def test_the_environment_decides(environment, found):
    assert protocol(environment, Terminal()) == found


def test_nothing_is_drawn_into_a_pipe():
    assert protocol({"TERM": "xterm-kitty"}, Terminal(tty=False)) == ""


@pytest.mark.parametrize("how", PROTOCOLS)
def test_every_protocol_renders_any_picture(how):
    for shape in ((64, 64), (1, 7), (7, 1), (200, 90)):
        image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
        assert render(image, how).endswith("\n")


def test_png_protocols_carry_the_picture():
    data = re.search(r":(.*)\a", iterm(picture()))[1]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))), picture())
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    parts = re.findall(r"\x1b_G[^;]*m=([01]);(.*?)\x1b\\", kitty(image))
    assert [more for more, _ in parts] == ["1"] * (len(parts) - 1) + ["0"]
    data = "".join(text for _, text in parts)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))), image)


def test_blocks_show_two_rows_a_line():
    lines = blocks(picture()).splitlines()
    assert len(lines) == 6
    assert lines[0].startswith("\x1b[38;2;255;0;0m\x1b[48;2;255;0;0m▀")
    assert lines[-1].count("▀") == 8


def test_sixel_bands_decode_to_the_picture():
    text = sixel(picture())
    table = {
        int(n): (int(r), int(g), int(b)) for n, r, g, b in re.findall(r"#(\d+);2;(\d+);(\d+);(\d+)", text)
    }
    body = text[: -len("\x1b\\")].split(";2;")[-1].split("#", 1)[1]
    found = np.zeros((12, 8, 3), np.int64)
    for band, lines in enumerate(("#" + body).rstrip("-").split("-")):
        for line in lines.split("$"):
            colour, runs = re.match(r"#(\d+)(.*)", line).groups()
            column = 0
            for count, letter in re.findall(r"!(\d+)(.)", runs):
                for bit in range(6):
                    if ord(letter) - 63 >> bit & 1:
                        found[band * 6 + bit, column : column + int(count)] = table[int(colour)]
                column += int(count)
    assert np.abs(found - picture().astype(int) * 100 // 255).max() <= 1
