"""Pictures of every kind become the same floats, or are refused in one line."""

import numpy as np
import pytest
import torch
from PIL import Image
from unified.tokenizers.images import bounded, resized, to_images, to_uint8

COLOURS = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)


def test_uint8_round_trip_is_exact():
    assert np.array_equal(to_uint8(to_images(COLOURS))[0], COLOURS)


def test_all_holders_of_the_same_picture_agree():
    want = to_images(COLOURS)
    channels_first = torch.from_numpy(COLOURS).permute(2, 0, 1)
    for picture in (
        Image.fromarray(COLOURS),
        COLOURS[None],
        COLOURS.astype(np.float64) / 255,
        channels_first,
        channels_first[None].float() / 127.5 - 1,
        COLOURS.astype(np.uint16) * 257,
    ):
        assert torch.allclose(to_images(picture), want, atol=1e-6)
    assert want.shape == (1, 3, 8, 12)
    assert want.dtype == torch.float32


@pytest.mark.parametrize(
    "mode", ["1", "L", "P", "RGB", "RGBA", "LA", "PA", "CMYK", "YCbCr", "HSV", "I", "I;16"]
)
def test_every_pil_mode_is_converted(mode):
    if mode == "I;16":
        picture = Image.fromarray(COLOURS[..., 0].astype(np.uint16) * 257)
    elif mode == "I":
        picture = Image.fromarray(COLOURS[..., 0].astype(np.int32) * 257)
    elif mode == "PA":
        picture = Image.fromarray(COLOURS).convert("P").convert("PA")
    else:
        picture = Image.fromarray(COLOURS).convert(mode)
    images = to_images(picture, 4)
    assert images.shape == (1, 3, 8, 12)
    assert -1 <= images.min() <= images.max() <= 1


def test_sixteen_bit_grey_keeps_its_range():
    levels = np.array([[0, 32768, 65535]], dtype=np.uint16)
    for grey in (levels, Image.fromarray(levels)):
        assert to_uint8(to_images(grey))[0, 0, :, 0].tolist() == [0, 128, 255]


def test_floats_of_pillow_lie_in_0_to_1():
    grey = Image.fromarray(np.array([[0, 0.5, 1]], np.float32))
    assert to_uint8(to_images(grey))[0, 0, :, 0].tolist() == [0, 128, 255]


def test_transparency_lies_over_white():
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert torch.equal(to_images(clear), torch.ones(1, 3, 4, 4))
    palette = Image.new("P", (4, 4), 0)
    palette.info["transparency"] = 0
    assert torch.equal(to_images(palette), torch.ones(1, 3, 4, 4))


def test_sizes_are_refused_or_resized():
    with pytest.raises(ValueError, match="12 x 8 pixels: both sides must be multiples of 5"):
        to_images(COLOURS, 5)
    resized = to_images(COLOURS, 5, resize=True)
    assert resized.shape == (1, 3, 10, 10)
    assert resized.abs().max() <= 1


@pytest.mark.parametrize(
    ("picture", "reason"),
    [
        (np.zeros((4, 4, 3), np.int64), "uint8, uint16 or float, got int64"),
        (np.zeros((4, 4, 2), np.uint8), "channels"),
        (np.zeros((0, 4, 3), np.uint8), "at least one pixel"),
        (np.full((4, 4, 3), 2.0), r"in \[0, 1\], got 2 to 2"),
        (np.full((4, 4, 3), np.nan), "finite"),
        (torch.zeros(3, 4, 4, dtype=torch.int32), "uint8 or float, got torch.int32"),
        (torch.full((3, 4, 4), 200.0), r"in \[-1, 1\], got 200"),
        (torch.zeros(4, 4), "torch image is"),
        (Image.new("F", (4, 4), 300.0), "floating-point image must lie in 0 to 1, got 300"),
        (Image.new("F", (4, 4), np.nan), "floating-point image must be finite"),
        (Image.fromarray(np.full((2, 2), 70000, np.int32)), "32-bit"),
        ("picture.png", "got str"),
        (None, "got NoneType"),
    ],
)
def test_what_is_no_image_is_refused_in_one_line(picture, reason):
    with pytest.raises(ValueError, match=reason) as error:
        to_images(picture)
    assert "\n" not in str(error.value)


def test_to_uint8_clamps_and_rounds():
    values = torch.tensor([-3.0, -1.0, 0.0, 1.0, 3.0]).view(1, 1, 1, 5)
    assert to_uint8(values).ravel().tolist() == [0, 0, 128, 255, 255]


@pytest.mark.parametrize(
    ("height", "width", "limits", "size"),
    [
        (33, 50, {}, (32, 48)),
        (3, 1, {}, (8, 8)),
        (2000, 3000, {"most_side": 512}, (344, 512)),
        (2000, 3000, {"max_pixels": 64 * 64}, (56, 72)),
        (10, 10_000, {"max_pixels": 64 * 64}, (8, 512)),
        (10, 10_000, {"max_pixels": 64 * 64, "most_side": 128}, (8, 128)),
        (100, 100, {"max_pixels": 64}, (8, 8)),
    ],
)
def test_sizes_are_bounded_by_side_and_by_pixels(height, width, limits, size):
    assert bounded(height, width, 8, **limits) == size


@pytest.mark.parametrize("side", [1000, 1600])  # in floats, and in 8 bits
def test_large_pictures_are_resized_as_small_ones_are(side):
    y, x = np.mgrid[:side, :side] / side
    smooth = np.stack([x, y, (x + y) / 2], axis=2)
    small = (np.mgrid[:16, :16] + 0.5) / 16
    want = np.stack([small[1], small[0], small.mean(axis=0)], axis=2) * 255
    whole = np.rint(smooth * 255).astype(np.uint8)
    channels_first = torch.from_numpy(whole).permute(2, 0, 1)
    for picture in (whole, smooth, Image.fromarray(whole), channels_first, channels_first / 127.5 - 1):
        found = to_uint8(resized(picture, lambda height, width: (16, 16)))[0]
        assert np.abs(found[2:-2, 2:-2] - want[2:-2, 2:-2]).max() <= 1.5
