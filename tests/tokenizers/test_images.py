"""Pictures of every kind become the same floats, or are refused in one line."""

import numpy as np
import pytest
import torch
from PIL import Image
from unified.tokenizers.images import to_images, to_uint8

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
    grey = Image.fromarray(np.array([[0, 32768, 65535]], dtype=np.uint16))
    assert torch.allclose(to_images(grey)[0, 0, 0], torch.tensor([-1.0, 0.0, 1.0]), atol=1e-4)


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
        (Image.new("F", (4, 4)), "floating-point"),
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
