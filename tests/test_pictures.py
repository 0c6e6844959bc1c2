"""One picture file means the same pixels at every entrance; its size is looked at before memory is taken."""

import io
import json
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from unified.tasks.mazes.records import read_images
from unified.tasks.outside.images import read_image
from unified.tasks.packing import unpack
from unified.tokenizers.images import to_uint8
from unified.tokenizers.picture_files import open_picture

from unified.apps.assistant import Assistant
from unified.apps.demo import random_model

SIDE = 32
COLOURS = np.random.default_rng(5).integers(0, 256, (16, SIDE, 3), dtype=np.uint8)
ALPHA = np.random.default_rng(6).integers(0, 256, (16, SIDE), dtype=np.uint8)


@pytest.fixture(scope="module")
def assistant():
    return Assistant(*random_model(), side=SIDE)


def on_white(image):
    image = image.astype(float)
    alpha = image[..., 3:] / 255
    return np.rint(image[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)


def grey(levels):
    return np.repeat(np.rint(levels).astype(np.uint8)[..., None], 3, axis=2)


def converted(image):
    return np.asarray(image.convert("RGB"))


def palette_with_clear_entries():
    image = Image.fromarray(COLOURS).quantize(8)
    clear = bytes([0, 128, 255])  # of the first three of its colours
    seen = np.asarray(image.convert("RGB"))
    alpha = np.array([*clear, *[255] * 253], np.uint8)[np.asarray(image)]
    return image, "PNG", {"transparency": clear}, on_white(np.dstack([seen, alpha]))


def forms():
    """By name: the image, the format it is saved in, options, and the pixels that are expected."""
    whole, sixteen = Image.fromarray(COLOURS), (COLOURS[..., 0].astype(np.uint16) << 8) + ALPHA
    clear, pair = np.dstack([COLOURS, ALPHA]), np.dstack([COLOURS[..., 0], ALPHA])
    unit = np.linspace(0, 1, 16 * SIDE, dtype=np.float32).reshape(16, SIDE)
    found = {
        "palette": palette_with_clear_entries(),
        "rgba": (Image.fromarray(clear), "PNG", {}, on_white(clear)),
        "la": (
            Image.fromarray(pair, "LA"),
            "PNG",
            {},
            on_white(np.dstack([pair[..., :1]] * 3 + [pair[..., 1:]])),
        ),
        "16-bit png": (Image.fromarray(sixteen), "PNG", {}, grey(sixteen / 257)),
        "16-bit tiff": (Image.fromarray(sixteen), "TIFF", {}, grey(sixteen / 257)),
        "32-bit": (Image.fromarray(sixteen.astype(np.int32)), "TIFF", {}, grey(sixteen / 257)),
        "float": (Image.fromarray(unit), "TIFF", {}, grey(unit * 255)),
        "1-bit": (whole.convert("1"), "PNG", {}, converted(whole.convert("1"))),
        "animated": (whole, "GIF", {"save_all": True, "append_images": [whole.rotate(180)]}, None),
        "cmyk": (whole.convert("CMYK"), "TIFF", {}, converted(whole.convert("CMYK"))),
        "jpeg": (whole, "JPEG", {}, None),
        "cmyk jpeg": (whole.convert("CMYK"), "JPEG", {}, None),
        "one pixel": (whole.crop((0, 0, 1, 1)), "PNG", {}, COLOURS[:1, :1]),
        "line": (whole.resize((900, 1)), "PNG", {}, converted(whole.resize((900, 1)))),
    }
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        for kind in ("PNG", "TIFF"):
            found[f"exif {orientation} {kind}"] = (whole, kind, {"exif": exif}, "turned")
    return found


def rows(*images):
    """A packed row of one message with these images."""
    content = [{"type": "image"} for _ in images]
    message = [{"role": "user", "content": content}]
    return {"messages": json.dumps(message), "images": images, "task": "t", "meta": "{}"}


@pytest.mark.parametrize("name", list(forms()))
def test_a_file_means_the_same_at_every_entrance(name, assistant, tmp_path):
    image, kind, options, want = forms()[name]
    path = tmp_path / f"picture.{kind.lower()}"
    image.save(path, kind, **options)
    data = path.read_bytes()
    if want is None:
        want = converted(Image.open(path))
    elif isinstance(want, str):
        want = converted(ImageOps.exif_transpose(Image.open(path)))
    content = unpack(
        rows(data, {"bytes": data, "path": None}, {"bytes": None, "path": str(path)}, Image.open(path))
    )
    found = [
        open_picture(path).image,
        open_picture(data).image,
        read_image(path),
        *read_images(tmp_path, [path.name]),
        *[item["image"] for item in content.messages[0]["content"]],
    ]
    for image in found:
        assert image.dtype == np.uint8
        assert image.shape == want.shape
        assert np.array_equal(image, want)
    seen = [assistant.picture(source) for source in (path, str(path), Image.open(path), want)]
    assert all(np.array_equal(image, seen[0]) for image in seen)
    coded = [assistant.processor.pixels(source) for source in (want, Image.open(path), path, data)]
    assert all((pixels == coded[0]).all() for pixels in coded)
    asked = [
        assistant.processor.encode([{"role": "user", "content": [{"type": "image", key: source}]}])
        for key, source in (
            ("image", want),
            ("path", str(path)),
            ("bytes", data),
            ("image", Image.open(path)),
        )
    ]
    assert all(ids == asked[0] for ids in asked)
    if want.shape[0] % 8 == want.shape[1] % 8 == 0:
        assert np.array_equal(to_uint8(coded[0])[0], want)


def test_an_animation_is_its_first_frame_and_says_so(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "green")]
    for kind in ("GIF", "PNG", "WEBP", "TIFF"):
        frames[0].save(tmp_path / "a", kind, save_all=True, append_images=frames[1:])
        opened = open_picture(tmp_path / "a")
        assert opened.image[0, 0, 0] > 240
        assert opened.note == "a: the first of 3 frames"


@pytest.mark.parametrize(
    ("levels", "reason"),
    [
        (np.float32([[0.0, 255.0]]), "must lie in 0 to 1, got 0 to 255"),
        (np.float32([[0.0, np.nan]]), "must be finite"),
        (np.int32([[0, 70_000]]), "must lie in 0 to 65535, got 0 to 70000"),
    ],
)
def test_values_without_a_defined_range_are_refused_everywhere(levels, reason, assistant, tmp_path):
    path = tmp_path / "a.tiff"
    Image.fromarray(levels).save(path)
    for read in (
        open_picture,
        read_image,
        lambda path: read_images(tmp_path, [path.name]),
        lambda path: unpack(rows(path.read_bytes())),
        assistant.picture,
        lambda path: assistant.picture(Image.open(path)),
        lambda path: assistant.processor.pixels(Image.open(path)),
    ):
        with pytest.raises(ValueError, match=reason) as refusal:
            read(path)
        assert "\n" not in str(refusal.value)


# Sizes ----------------------------------------------------------------------------------------------------


def png(width, height, depth, colour, rows=None):
    """A PNG of zeros, written row by row: bits a channel, and 0 grey or 2 RGB."""
    packer, row = zlib.compressobj(1), bytes(1 + (width * depth * (1 if colour == 0 else 3) + 7) // 8)
    lines = height if rows is None else rows
    data = b"".join(packer.compress(row) for _ in range(lines)) + packer.flush()
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)),
        (b"IDAT", data),
        (b"IEND", b""),
    ]
    chunks = [
        struct.pack(">I", len(body)) + tag + body + struct.pack(">I", zlib.crc32(tag + body))
        for tag, body in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def test_a_header_of_too_many_pixels_is_refused_before_anything_is_decoded(assistant, tmp_path):
    for width, height, depth, colour in ((60_000, 60_000, 1, 0), (13_000, 13_000, 8, 2)):
        path = tmp_path / "a.png"
        path.write_bytes(png(width, height, depth, colour, rows=4))
        for read in (open_picture, read_image, assistant.picture):
            with pytest.raises(ValueError, match="scale it down") as refusal:
                read(path)
            assert "\n" not in str(refusal.value)
    Image.MAX_IMAGE_PIXELS, before = None, Image.MAX_IMAGE_PIXELS
    try:
        path.write_bytes(png(60_000, 60_000, 1, 0, rows=4))
        lazy = Image.open(path)
        for read in (
            open_picture,
            lambda _: assistant.picture(lazy),
            lambda _: assistant.processor.pixels(lazy),
        ):
            with pytest.raises(ValueError, match="3600 million, PNG 1"):
                read(path)
    finally:
        Image.MAX_IMAGE_PIXELS = before


def test_a_large_photo_is_read_at_reduced_size_and_says_so(tmp_path):
    photo = np.full((3000, 6000, 3), 60, np.uint8)
    photo[..., 0] = np.arange(6000) // 24
    photo[..., 1] = np.arange(3000)[:, None] // 12
    exif = Image.Exif()
    exif[0x0112] = 6
    for name, options in (("a.jpg", {}), ("a.png", {"compress_level": 1})):
        Image.fromarray(photo).save(tmp_path / name, exif=exif, **options)
        opened = open_picture(tmp_path / name)
        assert opened.image.shape == (3000, 1500, 3)
        assert opened.note == f"{name}: read at reduced size, it has 6000 x 3000 pixels"
        want = np.rot90(photo, -1)[::2, ::2].astype(np.int16)
        assert np.abs(opened.image - want)[8:-8, 8:-8].max() <= 4


MEASURED = """
import re, sys
from PIL import Image
from unified.apps.assistant import Assistant
from unified.apps.demo import random_model

def memory(kind):
    return int(re.search(kind + r":\\s+(\\d+)", open("/proc/self/status").read())[1]) // 1024

assistant = Assistant(*random_model(), side=64)
photo = {"role": "user", "content": [{"type": "image", "image": Image.new("RGB", (64, 64))}]}
assistant.processor.encode([photo])
before = memory("VmRSS")
for path in sys.argv[1:]:
    assistant.picture(path)
    if path.endswith("photo.jpg"):
        photo["content"][0]["image"] = Image.open(path)
        assistant.processor.encode([photo])
    print(path.rsplit("/")[-1], memory("VmHWM") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from /proc")
@pytest.mark.slow
def test_no_accepted_picture_takes_400_mb(tmp_path):
    """RGB, progressive, TIFF and WebP pictures of about the largest size that is read."""
    (tmp_path / "bits.png").write_bytes(png(9990, 9990, 1, 0))
    (tmp_path / "rgb.png").write_bytes(png(8400, 8400, 8, 2))
    (tmp_path / "sixteen.png").write_bytes(png(8000, 8000, 16, 0))
    Image.new("RGB", (3000, 2000), "red").save(tmp_path / "photo.jpg")
    Image.new("RGB", (9000, 7000)).save(tmp_path / "progressive.jpg", progressive=True)
    Image.new("RGB", (4800, 4800)).save(tmp_path / "a.tiff", compression="tiff_deflate")
    Image.new("P", (5000, 5000)).save(tmp_path / "a.gif")
    Image.new("RGB", (4096, 4096)).save(tmp_path / "a.webp", method=0, quality=10)
    paths = sorted(map(str, tmp_path.iterdir()))
    run = subprocess.run(
        [sys.executable, "-c", MEASURED, *paths], capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stderr[-500:]
    peaks = {name: int(peak) for name, peak in re.findall(r"(\S+) (\d+)\n", run.stdout)}
    assert len(peaks) == len(paths)
    assert max(peaks.values()) < 400 * 10**6 // 2**20, peaks


def test_an_image_in_memory_is_bounded_by_the_processor(assistant):
    processor = assistant.processor
    most = processor.vocabulary.max_side * processor.visual.stride
    large = np.broadcast_to(np.uint8([200, 30, 40]), (2000, 3000, 3))
    for picture in (large, Image.fromarray(large), large[..., :1].astype(np.uint16)):
        item = processor.image_item(picture)
        assert max(item["shapes"][-1]) * processor.visual.stride <= most


def test_max_pixels_bounds_what_the_model_reads(tmp_path):
    model, processor = random_model()
    stride = processor.visual.stride
    limited = type(processor)(
        processor.vocabulary,
        processor.stream.text,
        processor.visual,
        processor.action,
        max_pixels=16 * stride**2,
    )
    picture = np.zeros((8 * stride, 4 * stride, 3), np.uint8)
    assert processor.image_item(picture)["shapes"][-1] == [8, 4]
    assert limited.image_item(picture)["shapes"][-1] == [5, 3]
    assert Assistant(model, limited, side=8 * stride).picture(picture).shape == (5 * stride, 3 * stride, 3)
    limited.save_pretrained(tmp_path)
    assert type(processor).from_pretrained(tmp_path).max_pixels == 16 * stride**2
    assert limited.extended(processor.vocabulary).max_pixels == 16 * stride**2
    for wrong in (stride**2 - 1, 2.5, True, "many"):
        with pytest.raises(ValueError, match="max_pixels must be none or a whole number of at least"):
            type(processor)(processor.vocabulary, processor.stream.text, processor.visual, max_pixels=wrong)


def test_bytes_that_are_no_picture_are_refused_in_one_line():
    whole = io.BytesIO()
    Image.fromarray(COLOURS).save(whole, "PNG")
    for data, reason in (
        (b"", "not a picture"),
        (b"words", "not a picture"),
        (whole.getvalue()[:300], "truncated"),
    ):
        with pytest.raises(ValueError, match=f"the picture: .*{reason}"):
            open_picture(data)
