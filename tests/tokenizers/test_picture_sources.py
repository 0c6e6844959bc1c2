"""One reader of where a picture is, for messages and data sets alike."""

import base64
import io
from pathlib import Path

import pytest
from PIL import Image
from unified.tasks.outside.sources import read_source
from unified.tokenizers.picture_files import open_picture
from unified.tokenizers.picture_sources import kind_of, named_or_held

from unified.stream.message_forms import read_picture

FILE = io.BytesIO()
Image.new("RGB", (3, 2), "red").save(FILE, "PNG")
CONTENT = FILE.getvalue()
TEXT = base64.b64encode(CONTENT).decode()
HELD = [
    CONTENT,
    bytearray(CONTENT),
    f"data:image/png;base64,{TEXT}",
    f"DATA:image/png;name=a;BASE64,{TEXT.replace('+', '%2B').replace('=', '%3D')}",
    {"bytes": CONTENT, "path": "a.png"},
    {"bytes": TEXT},
    {"base64": f"{TEXT[:20]}\n{TEXT[20:]}"},
    {"image_url": {"url": f"data:image/png;base64,{TEXT}", "detail": "low"}},
    {"source": {"type": "base64", "media_type": "image/png", "data": TEXT}},
]
NAMED = [
    "a.png",
    {"path": "a.png"},
    {"bytes": None, "path": "a.png"},
    {"image": {"path": "a.png"}},
    {"image_url": "a.png"},
    "file:a.png",
    {"url": "file://localhost/a.png"},
]


@pytest.mark.parametrize("source", HELD)
def test_bytes_mean_the_same_in_messages_and_data_sets(source, tmp_path):
    assert read_picture(source) == read_source(source, tmp_path, "image").read_bytes() == CONTENT


@pytest.mark.parametrize("source", NAMED)
def test_names_mean_the_same_in_messages_and_data_sets(source, tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(CONTENT)
    monkeypatch.chdir(tmp_path)
    assert named_or_held(source) in ("a.png", "/a.png")
    if named_or_held(source) == "a.png":
        assert read_picture(source).read_bytes() == CONTENT
        assert read_source(source, tmp_path, "image").read_bytes() == CONTENT


def test_a_drive_is_no_scheme_and_a_windows_file_url_keeps_it():
    assert named_or_held("C:\\Users\\a.png") == "C:\\Users\\a.png"
    assert named_or_held("file:///C:/Users/a%20b.png") == "C:/Users/a b.png"


def test_backslashes_of_windows_are_found_inside_the_folder_alone(tmp_path):
    (tmp_path / "data/sub").mkdir(parents=True)
    for name in ("secret.png", "data/sub/a.png"):
        (tmp_path / name).write_bytes(CONTENT)
    assert read_source("sub\\a.png", tmp_path / "data", "image").read_bytes() == CONTENT
    with pytest.raises(ValueError, match="lies outside"):
        read_source("..\\secret.png", tmp_path / "data", "image")


@pytest.mark.parametrize("source", ["https://x/a.png", "S3://x/a.png", "ftp://x/a", {"url": "gs://x/a"}])
def test_nothing_is_downloaded(source, tmp_path):
    for read in (read_picture, lambda given: read_source(given, tmp_path, "image")):
        with pytest.raises(ValueError, match="pictures are not downloaded"):
            read(source)


def test_a_mapping_around_itself_ends():
    around: dict = {}
    around["image"] = around
    with pytest.raises(ValueError, match="needs a 'url'"):
        named_or_held(around)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "a Git LFS pointer"),
        (b"<!DOCTYPE html><title>404</title>", "a web page"),
        (b"nothing", "not a picture of a known kind"),
    ],
)
def test_what_stands_in_a_pictures_place_is_named(content, reason, tmp_path):
    (tmp_path / "a.png").write_bytes(content)
    for source in (tmp_path / "a.png", content):
        with pytest.raises(ValueError, match=reason):
            open_picture(source)


def test_an_address_given_as_a_path_is_named():
    with pytest.raises(ValueError, match="pictures are not downloaded"):
        open_picture(Path("https://example.org/a.png"))


def test_kinds_of_others():
    items = ({"type": "input_image"}, {"text": "a"}, {"image": 1}, {}, {"type": [1]})
    assert [kind_of(item) for item in items] == ["image", "text", "image", None, [1]]
