"""Pairs of other projects as rows of ids, and what is said of bad ones."""

import json

import numpy as np
import pytest
from PIL import Image

from unified.apps.demo import random_model

datasets = pytest.importorskip("datasets", reason="datasets comes with the extra `train`")

from unified.train.preference.data import read_pairs, tokenizer_digest  # noqa: E402


@pytest.fixture(scope="module")
def processor():
    return random_model()[1]


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png", "c.png"):
        Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(tmp_path / name)
    return tmp_path


def write(folder, *found, name="pairs.jsonl"):
    (folder / name).write_text("".join(json.dumps(record) + "\n" for record in found))
    return folder / name


def said(processor, row, side):
    """Messages of a row's reply."""
    return processor.stream.decode([*row["prompt_ids"], *row[f"{side}_ids"]])


USER, GOOD, BAD = ({"role": role, "content": text} for role, text in (("user", "Hi"), ("assistant", "Hello.")
                   , ("assistant", "Go away.")))  # fmt: skip
CONVERSATION = {
    "today": {"prompt": "Hi", "chosen": "Hello.", "rejected": "Go away."},
    "conversational": {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]},
    "implicit prompt": {"chosen": [USER, GOOD], "rejected": [USER, BAD]},
    "content items": {
        "prompt": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
        "chosen": [GOOD],
        "rejected": [BAD],
    },
    "LLaMA-Factory": {"messages": [USER], "chosen": GOOD, "rejected": BAD},
    "ShareGPT": {
        "conversations": [{"from": "human", "value": "Hi"}],
        "chosen": {"from": "gpt", "value": "Hello."},
        "rejected": {"from": "gpt", "value": "Go away."},
    },
}


@pytest.mark.parametrize("record", CONVERSATION.values(), ids=CONVERSATION.keys())
def test_every_spelling_gives_the_same_ids(record, processor, folder):
    found = read_pairs([write(folder, record)], processor)[0]
    expected = read_pairs([write(folder, CONVERSATION["today"])], processor)[0]
    assert found == expected
    assert said(processor, found, "chosen")[-1]["content"] == [{"type": "text", "text": "Hello."}]


def test_a_system_turn_comes_first(processor, folder):
    record = {"messages": [USER], "system": "Be kind.", "chosen": GOOD, "rejected": BAD}
    row = read_pairs([write(folder, record)], processor)[0]
    assert [message["role"] for message in said(processor, row, "chosen")] == ["system", "user", "assistant"]


DRAWN = {
    "today": {
        "prompt": "Draw. <image>",
        "chosen_image": "b.png",
        "rejected_image": "c.png",
        "images": ["a.png"],
    },
    "in order": {
        "messages": [{"role": "user", "content": "Draw. <image>"}],
        "chosen": {"role": "assistant", "content": "<image_gen>"},
        "rejected": {"role": "assistant", "content": "<image_gen>"},
        "images": ["a.png", "b.png", "c.png"],
    },
    "two lists": {
        "messages": [{"role": "user", "content": "Draw. <image>"}],
        "chosen": {"role": "assistant", "content": "<image_gen>"},
        "rejected": {"role": "assistant", "content": "<image_gen>"},
        "images": ["a.png"],
        "images_gen": ["b.png", "c.png"],
    },
    "content items": {
        "prompt": [
            {
                "role": "user",
                "content": [{"type": "text", "text": "Draw. "}, {"type": "image", "image": "a.png"}],
            }
        ],
        "chosen": [{"role": "assistant", "content": [{"type": "image", "image": "b.png"}]}],
        "rejected": [{"role": "assistant", "content": [{"type": "image", "image": "c.png"}]}],
    },
}


@pytest.mark.parametrize("record", DRAWN.values(), ids=DRAWN.keys())
def test_pictures_are_read_in_prompts_and_drawn_in_replies(record, processor, folder):
    row = read_pairs([write(folder, record)], processor)[0]
    prompt, reply = said(processor, row, "chosen")
    assert "order" not in prompt["content"][1]
    drawn = processor.image_item(np.asarray(Image.open(folder / "b.png")), drawn=True)
    assert reply["content"] == [drawn]
    other = processor.image_item(np.asarray(Image.open(folder / "c.png")), drawn=True)
    assert said(processor, row, "rejected")[1]["content"] == [other]


def test_datasets_on_disk_hold_pairs_too(processor, folder):
    expected = read_pairs([write(folder, CONVERSATION["today"])], processor)[0]
    table = datasets.Dataset.from_list([CONVERSATION["conversational"]])
    table.save_to_disk(folder / "saved")
    assert read_pairs([folder / "saved"], processor)[0] == expected
    datasets.DatasetDict({"train": table}).save_to_disk(folder / "split")
    assert read_pairs([folder / "split"], processor)[0] == expected
    (folder / "parquet" / "data").mkdir(parents=True)
    table.to_parquet(folder / "parquet" / "data" / "0.parquet")
    assert read_pairs([folder / "parquet"], processor)[0] == expected


def test_pictures_of_a_dataset_are_read(processor, folder):
    names = ["a.png", "b.png", "c.png"]
    record = {**DRAWN["in order"], "images": [str(folder / name) for name in names]}
    features = datasets.Features(
        {
            "messages": [{"role": datasets.Value("string"), "content": datasets.Value("string")}],
            "chosen": {"role": datasets.Value("string"), "content": datasets.Value("string")},
            "rejected": {"role": datasets.Value("string"), "content": datasets.Value("string")},
            "images": datasets.List(datasets.Image()),
        }
    )
    datasets.Dataset.from_list([record], features=features).save_to_disk(folder / "pictures")
    expected = read_pairs([write(folder, DRAWN["in order"])], processor)[0]
    assert read_pairs([folder / "pictures"], processor)[0] == expected


def ids_of(processor, folder, **changed):
    row = read_pairs([write(folder, CONVERSATION["today"], name="text.jsonl")], processor)[0]
    return {**row, "tokenizer": tokenizer_digest(processor), **changed}


def test_records_of_ids_are_taken_as_they_are(processor, folder):
    row = ids_of(processor, folder, scores=[1.0, 0.25], task="scene_draw", index=3)
    found = read_pairs([write(folder, row)], processor)[0]
    assert found == {name: row[name] for name in ("prompt_ids", "chosen_ids", "rejected_ids")}


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({**CONVERSATION["today"], "rejected": "Hello."}, "chosen and rejected are equal"),
        (
            {"prompt": "Draw.", "chosen_image": "a.png", "rejected_image": "a.png"},
            "chosen and rejected are equal",
        ),
        ({"chosen": [USER, GOOD], "rejected": [USER, GOOD]}, "chosen and rejected are equal"),
        ({"chosen": [USER, GOOD], "rejected": [BAD]}, "the key 'prompt' is missing"),
        (
            {"prompt": "Draw.", "chosen_image": "gone.png", "rejected_image": "a.png"},
            "no such image 'gone.png'",
        ),
        ({**CONVERSATION["today"], "chosen": " "}, "chosen must be a text"),
        (
            {**DRAWN["two lists"], "images_gen": ["b.png"]},
            "2 <image_gen> in the texts, but 1 images for them",
        ),
        ({"messages": [USER], "prompt": "Hi", "chosen": GOOD, "rejected": BAD}, "give the prompt once"),
    ],
)
def test_a_bad_row_is_named(record, message, processor, folder):
    with pytest.raises(ValueError, match=r"1 bad row: pairs\.jsonl:2: ") as error:
        read_pairs([write(folder, CONVERSATION["today"], record)], processor)
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"tokenizer": "0123456789ab"}, "its ids are of the tokenizers 0123456789ab, the model's are "),
        ({"chosen_ids": [10**6]}, "chosen: id 1000000 at position"),
        ({"chosen_ids": ["a"]}, "chosen_ids must be a list of whole numbers"),
        ({"prompt_ids": []}, "the prompt must end where the assistant's turn begins"),
        ({"beta": 1}, "unknown key 'beta'"),
    ],
)
def test_bad_ids_are_named(changed, message, processor, folder):
    with pytest.raises(ValueError, match=r"pairs\.jsonl:1: ") as error:
        read_pairs([write(folder, ids_of(processor, folder, **changed))], processor)
    assert message in str(error.value)


def test_an_empty_reply_is_named(processor, folder):
    end = [processor.vocabulary.end]
    with pytest.raises(ValueError, match=r"pairs\.jsonl:1: rejected is empty"):
        read_pairs([write(folder, ids_of(processor, folder, rejected_ids=end))], processor)


def test_all_bad_rows_are_named_at_once_or_left_out(processor, folder):
    bad = {**CONVERSATION["today"], "rejected": "Hello."}
    path = write(folder, bad, CONVERSATION["today"], bad)
    with pytest.raises(ValueError, match=r"2 bad rows: pairs\.jsonl:1: .*; pairs\.jsonl:3: "):
        read_pairs([path], processor)
    with pytest.warns(UserWarning, match="left out: pairs.jsonl:1"):
        assert len(read_pairs([path], processor, skip=True)) == 1


def test_a_folder_without_data_is_refused(processor, tmp_path):
    with pytest.raises(ValueError, match="no dataset of Hugging Face"):
        read_pairs([tmp_path], processor)
