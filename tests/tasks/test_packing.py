"""Rows hold everything and refuse what is not data."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from unified.tasks.packing import digest, pack, unpack
from unified.tasks.sample import Sample

images = arrays.arrays(np.uint8, st.tuples(st.integers(1, 5), st.integers(1, 5), st.just(3)))
cameras = st.tuples(*[st.floats(-180, 180, width=32)] * 2)
contents = st.lists(
    st.one_of(
        st.text(st.characters(exclude_categories=["Cs"])).map(lambda text: {"type": "text", "text": text}),
        images.map(lambda image: {"type": "image", "image": image}),
        cameras.map(lambda camera: {"type": "action", "action": {"jump": 1, "camera": camera}}),
    )
)


def sample_of(*content, meta=None):
    return Sample(task="t", messages=[{"role": "user", "content": list(content)}], meta=meta or {})


@settings(max_examples=60, deadline=None)
@given(contents)
def test_packing_loses_nothing(content):
    sample = sample_of(*content)
    assert digest(unpack(pack(sample))) == digest(sample)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"type": "image", "image": np.zeros((4, 4), np.uint8)}, r"uint8 \[H, W, 3\], got uint8 \[4, 4\]"),
        ({"type": "image", "image": np.zeros((4, 4, 3))}, "got float64"),
        ({"type": "image", "image": np.zeros((0, 4, 3), np.uint8)}, r"\[0, 4, 3\]"),
        ({"type": "image", "image": [[1]]}, "got list"),
        ({"type": "action", "action": {"camera": [float("nan"), 0]}}, "camera must be finite"),
        ({"type": "action", "action": {"dance": 1}}, "unknown action key 'dance'"),
        ({"type": "sound", "sound": 1}, "got type 'sound'"),
        ({"type": "text"}, "got type 'text'"),
    ],
)
def test_bad_items_are_refused_with_their_place(item, message):
    with pytest.raises(ValueError, match=message) as error:
        pack(sample_of({"type": "text", "text": "a"}, item))
    assert "t: message 0, item 1" in str(error.value)
    assert "\n" not in str(error.value)


def test_meta_must_be_plain_data():
    for meta in ({"x": np.zeros(2)}, {"x": float("nan")}):
        with pytest.raises(ValueError, match="meta is not plain JSON"):
            pack(sample_of(meta=meta))


def test_digests_tell_samples_apart():
    black, white = np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 255, np.uint8)
    shown = [sample_of({"type": "image", "image": image}) for image in (black, white, black.reshape(1, 4, 3))]
    assert len({digest(sample) for sample in shown}) == 3
