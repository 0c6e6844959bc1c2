"""Data sets of Hugging Face on disk as a task: every set of columns, and what is wrong with a row."""

import io
import json

import numpy as np
import pytest
from datasets import Dataset, DatasetDict, Features, Image, List, Value
from PIL import Image as Picture
from unified.tasks.build import build
from unified.tasks.mixture import MixtureConfig, Part
from unified.tasks.outside.faults import Faults
from unified.tasks.outside.stored import is_stored, read_stored
from unified.tasks.packing import content_digest
from unified.tasks.registry import make

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
TALK = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]
TEXT = Value("string")


def png():
    file = io.BytesIO()
    Picture.fromarray(PIXELS).save(file, format="PNG")
    return {"bytes": file.getvalue(), "path": None}


def saved(folder, rows, features=None):
    Dataset.from_list(rows, features=features and Features(features)).save_to_disk(str(folder))
    assert is_stored(folder)
    return folder


def only(folder, **options):
    """The messages of the one row."""
    (record,) = read_stored(folder, **options)
    return record.messages()


def test_what_build_writes_comes_back_pixel_by_pixel(tmp_path):
    config = MixtureConfig(size=6, parts=(Part(task="scene_draw"), Part(task="world_frames")))
    build(config, tmp_path / "built")
    from unified.tasks.dataset import read_samples

    found = make("dataset", path=str(tmp_path / "built"), validation=0.0, test=0.0)
    expected = list(read_samples(tmp_path / "built"))
    assert found.count("train") == 6
    for number, sample in enumerate(expected):
        assert content_digest(found.sample(number)) == content_digest(sample)


def test_messages_with_images_of_chat_templates(tmp_path):
    turns = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "Noise."}]},
    ]
    rows = [{"messages": json.dumps(turns), "images": [png()]}]
    found = only(saved(tmp_path / "a", rows, {"messages": TEXT, "images": List(Image())}))
    assert np.array_equal(found[0]["content"][0]["image"], PIXELS)
    assert found[1]["content"] == [{"type": "text", "text": "Noise."}]


def test_placeholders_in_plain_texts_are_the_images(tmp_path):
    turns = [{"role": "user", "content": "Draw."}, {"role": "assistant", "content": "Here:<image>"}]
    rows = [{"messages": turns, "image": png()}]
    row = {"role": TEXT, "content": TEXT}
    found = only(saved(tmp_path / "a", rows, {"messages": List(row), "image": Image()}))
    assert [item["type"] for item in found[1]["content"]] == ["text", "image"]


@pytest.mark.parametrize("turns", [False, True])
def test_prompts_and_completions(turns, tmp_path):
    row = {"prompt": TALK[:1], "completion": TALK[1:]} if turns else {"prompt": "Hi.", "completion": "Hello."}
    found = only(saved(tmp_path / "a", [row]))
    assert [turn["content"][0]["text"] for turn in found] == ["Hi.", "Hello."]
    assert [turn["role"] for turn in found] == ["user", "assistant"]


def test_an_image_with_a_caption_is_described_or_drawn(tmp_path):
    folder = saved(
        tmp_path / "a", [{"image": png(), "caption": "Noise."}], {"image": Image(), "caption": TEXT}
    )
    read, draw = only(folder), only(folder, form="draw")
    assert [item["type"] for item in read[0]["content"]] == ["image", "text"]
    assert np.array_equal(draw[1]["content"][0]["image"], PIXELS)


def test_one_of_several_splits_is_chosen(tmp_path):
    rows = {
        "train": Dataset.from_list([{"messages": TALK}] * 2),
        "test": Dataset.from_list([{"messages": TALK}]),
    }
    DatasetDict(rows).save_to_disk(str(tmp_path))
    assert len(list(read_stored(tmp_path))) == 2
    assert len(list(read_stored(tmp_path, rows="test"))) == 1
    with pytest.raises(ValueError, match="no split 'valid': it has train, test"):
        list(read_stored(tmp_path, rows="valid"))


def test_parquet_files_alone_are_a_data_set(tmp_path):
    Dataset.from_list([{"messages": TALK}]).to_parquet(str(tmp_path / "train-00000.parquet"))
    assert is_stored(tmp_path)
    assert only(tmp_path)[1]["content"] == [{"type": "text", "text": "Hello."}]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"messages": TALK[:1]}, "row 0: messages must end with a turn of the assistant"),
        ({"messages": []}, "must be a list of turns"),
        ({"messages": "{"}, "not JSON"),
        ({"messages": json.dumps([{"role": "bot", "content": "x"}])}, "a turn has a role"),
        ({"messages": json.dumps([{"role": "assistant", "content": ""}])}, "the content is empty"),
        ({"messages": json.dumps([{"role": "assistant", "content": "<image>"}])}, "more image items"),
        (
            {"messages": json.dumps([{"role": "assistant", "content": [{"type": "sound"}]}])},
            "an item is text",
        ),
        ({"number": 3}, "columns number: what is read are"),
    ],
)
def test_a_bad_row_is_one_line_that_names_it(row, words, tmp_path):
    folder = saved(tmp_path / "a", [row])
    with pytest.raises(ValueError, match=words) as error:
        list(read_stored(folder))
    assert len(str(error.value).splitlines()) == 1


def test_bad_rows_are_left_out_if_asked(tmp_path):
    folder = saved(tmp_path / "a", [{"messages": TALK}, {"messages": TALK[:1]}])
    with pytest.warns(UserWarning, match="left out: a row 1"):
        assert len(list(read_stored(folder, faults=Faults("skip")))) == 1
