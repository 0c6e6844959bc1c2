"""Messages as other libraries write them give the ids of the project's own form, or one clear sentence."""

import base64
import io
import warnings

import numpy as np
import pytest
from PIL import Image

from unified.apps.demo import random_model
from unified.stream.message_forms import plain_messages, read_picture


@pytest.fixture(scope="module")
def processor():
    return random_model()[1]


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    """A file, and its pixels [24, 32, 3]."""
    path = tmp_path_factory.mktemp("pictures") / "two halves.PNG"
    pixels = np.zeros((24, 32, 3), np.uint8)
    pixels[:, :16] = 200, 30, 90
    Image.fromarray(pixels).save(path)
    return path, pixels


def url(path):
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


FORMS = {
    "path": lambda path: {"type": "image", "path": str(path)},
    "pathlib": lambda path: {"type": "image", "image": path},
    "string": lambda path: {"type": "image", "image": str(path)},
    "no type": lambda path: {"image": str(path)},
    "file URL": lambda path: {"type": "image", "url": path.as_uri()},
    "data URL": lambda path: {"type": "image", "url": url(path)},
    "bytes": lambda path: {"type": "image", "image": path.read_bytes()},
    "base64": lambda path: {"type": "image", "base64": url(path).partition(",")[2]},
    "of datasets": lambda path: {"type": "image", "image": {"bytes": path.read_bytes(), "path": None}},
    "image_url": lambda path: {"type": "image_url", "image_url": {"url": url(path)}},
    "image_url string": lambda path: {"type": "image_url", "image_url": url(path)},
    "input_image": lambda path: {"type": "input_image", "image_url": url(path)},
    "source": lambda path: {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": url(path).partition(",")[2]},
    },
    "nulls": lambda path: {"type": "image", "image": None, "path": str(path), "text": None},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_an_image_gives_the_same_ids(processor, picture, form):
    path, pixels = picture
    want = processor.encode([{"role": "user", "content": [{"type": "image", "image": pixels}]}])
    assert processor.encode([{"role": "user", "content": [FORMS[form](path)]}]) == want


def test_texts_and_nulls_of_others(processor):
    want = processor.encode([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}])
    found = processor.encode(
        [
            {"role": "user", "content": [{"type": "input_text", "text": "Hi"}], "name": None},
            {"role": "assistant", "content": ({"text": "Ho", "type": "output_text"},), "tool_calls": None},
        ]
    )
    assert found == want


def test_unknown_keys_are_passed_over_with_one_warning(processor):
    message = {"role": "user", "id": "m1", "content": [{"type": "text", "text": "Hi", "cache": {"a": 1}}]}
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("default")
        found = [processor.encode([message]) for _ in range(3)]
    assert found[0] == processor.encode([{"role": "user", "content": "Hi"}])
    assert sorted(str(one.message).rpartition(": ")[2] for one in said) == ["cache", "id"]


USER = {"role": "user", "content": "Hi"}


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        (None, "messages must be a list"),
        ({"role": "user", "content": "x"}, "messages must be a list"),
        (["x"], "message 0 must be a dict"),
        ([{"content": "x"}], "message 0 has no 'role'"),
        ([USER, {"role": "user", "content": None}], "message 1 has no 'content'"),
        ([{"role": "tool", "content": "3"}], "message 0 has role 'tool': the model calls no tools"),
        ([{"role": "developer", "content": "3"}], "use system"),
        ([{"role": "human", "content": "3"}], "use user"),
        ([{"role": ["user"], "content": "3"}], "the roles are system, user, assistant"),
        ([{"role": "assistant", "tool_calls": [{"id": 1}], "content": None}], "calls no tools"),
        ([{"role": "user", "content": 3}], "content is a str or a list of items, got int"),
        ([{"role": "user", "content": ["x"]}], "item 0 is a str: give a dict"),
        ([{"role": "user", "content": [{"type": "image"}]}], "item 0 .image. has no picture: give 'image'"),
        ([{"role": "user", "content": [{"type": "text"}]}], "has no text: give 'text'"),
        ([{"role": "user", "content": [{"type": "video", "video": "a.mp4"}]}], "has type 'video': use text"),
        ([{"role": "user", "content": [{}]}], "has type None"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(processor, messages, reason):
    with pytest.raises(ValueError, match=reason) as error:
        processor.encode(messages)
    assert "\n" not in str(error.value)
    assert "codes" not in str(error.value)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("https://example.org/cat.png", "not downloaded"),
        ({"url": "HTTP://example.org/cat.png"}, "not downloaded"),
        ("no/such.png", "no such file"),
        ("data:image/png;base64,@@@", "not base64"),
        ("data:image/png;base64", "comma"),
        ("data:image/png;base64," + base64.b64encode(b"text").decode(), "not a picture"),
        (b"", "not a picture"),
        ({"detail": "low"}, "needs a 'url', 'path' or 'bytes', got detail"),
        ({"url": {"url": "x"}}, "needs a 'url'"),
        ("x" * 5000, "not base64|not a picture"),
        ("a\0b", "no such file"),
    ],
)
def test_what_is_no_picture_is_one_sentence(source, reason):
    with pytest.raises(ValueError, match=reason) as error:
        read_picture(source)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 200


def test_a_cut_file_names_its_item(processor, picture, tmp_path):
    whole = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(whole, "PNG")
    (tmp_path / "cut.png").write_bytes(whole.getvalue()[:2000])
    with pytest.raises(ValueError, match="message 0, item 1: "):
        processor.encode(
            [{"role": "user", "content": [{"type": "text", "text": "x"}, {"image": tmp_path / "cut.png"}]}]
        )


def test_an_image_of_the_stream_is_left_as_it_is():
    item = {"type": "image", "codes": [1], "shapes": [[1, 1]], "order": "raster"}
    assert plain_messages([{"role": "assistant", "content": [item]}])[0]["content"] == [item]
