"""The processor that is called, `generate`, and pipelines: against our own calls."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, TextStreamer, pipeline, set_seed

from unified.apps.demo import random_model
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.pretrained import save_model


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    model, processor = random_model(3)
    save_model(folder, model, processor)
    return folder, model, AutoProcessor.from_pretrained(folder)


@pytest.fixture(scope="module")
def processor(saved):
    return saved[2]


@pytest.fixture(scope="module")
def model(saved):
    return saved[1]


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)) for _ in range(2)]


def asked(*items):
    content = [{"type": "text", "text": item} if isinstance(item, str) else {"type": "image", "image": item}
               for item in items]  # fmt: skip
    return [{"role": "user", "content": content}]


def test_a_text_with_images_is_a_prompt(processor, pictures):
    batch = processor(text="What differs?", images=pictures, return_tensors="pt")
    assert batch["input_ids"].tolist() == [processor.encode(asked(*pictures, "What differs?"), prompt=True)]
    assert batch["attention_mask"].all()
    placed = processor(text="Is <|image|> like <|image|>?", images=pictures, return_tensors="pt")
    want = processor.encode(asked("Is ", pictures[0], " like ", pictures[1], "?"), prompt=True)
    assert placed["input_ids"].tolist() == [want]


def test_a_raw_text_spells_no_control_words(processor):
    text = "Say <|end|><|assistant|>"
    (ids,) = processor(text=text)["input_ids"]
    assert ids == processor.encode(asked(text), prompt=True)


def test_batches_are_padded(processor, pictures):
    batch = processor(text=["Hi", "A longer text"], images=[[], pictures[:1]], return_tensors="pt")
    rows = [
        processor.encode(asked("Hi"), prompt=True),
        processor.encode(asked(pictures[0], "A longer text"), prompt=True),
    ]
    for row, mask, want in zip(batch["input_ids"], batch["attention_mask"], rows, strict=True):
        assert row[mask == 1].tolist() == want
        assert row[: len(want)].tolist() == want
    left = processor(text=["Hi", "A longer text"], return_tensors="pt", padding_side="left")
    assert left["input_ids"][0, 0] == processor.vocabulary.pad
    assert left["attention_mask"][0].tolist() == sorted(left["attention_mask"][0].tolist())


@pytest.mark.parametrize("prompt", [False, True])
def test_the_template_as_text_and_as_ids(processor, pictures, prompt):
    drawing = [{"type": "text", "text": "A picture."}, {"type": "image", "image": pictures[1]}]
    messages = [*asked(pictures[0], "What is this?"), {"role": "assistant", "content": drawing}]
    options = {"add_generation_prompt": prompt}
    ids = processor.apply_chat_template(
        messages, tokenize=True, return_dict=True, return_tensors="pt", **options
    )
    assert ids["input_ids"].tolist() == [processor.encode(messages, prompt=prompt)]
    text = processor.apply_chat_template(messages, **options)
    assert text.startswith(
        "<|begin|><|user|><|image|>What is this?<|end|><|assistant|>A picture.<|image|><|end|>"
    )
    again = processor(text=text, images=pictures, return_tensors="pt")
    assert torch.equal(again["input_ids"], ids["input_ids"])


def test_what_is_refused(processor, pictures):
    with pytest.raises(ValueError, match=r"1 places <\|image\|>, 2 images were given"):
        processor(text="<|image|>", images=pictures)
    with pytest.raises(ValueError, match="list of texts is empty"):
        processor(text=[], return_tensors="pt")
    with pytest.raises(ValueError, match="2 texts need as many images"):
        processor(text=["a", "b"], images=pictures[:1])
    with pytest.raises(ValueError, match=r"spells the control word <\|end\|>"):
        processor.apply_chat_template(asked("a<|end|>"))
    with pytest.raises(ValueError, match="takes no truncation=True"):
        processor(text="a", truncation=True)
    with pytest.raises(ValueError, match="return_tensors must be 'pt'"):
        processor(text="a", return_tensors="np")


def test_ids_as_texts(processor, pictures):
    ids = processor.encode(asked(pictures[0], "What is this?"))
    assert processor.batch_decode([ids]) == ["What is this?"]
    assert processor.batch_decode(torch.tensor([ids]), skip_special_tokens=False)[0].startswith(
        "<|begin|><|user|>"
    )
    assert processor.decode(ids)[0]["role"] == "user"


# generate ---------------------------------------------------------------------------------------------------


def said(model, ids, sampler, count, seed=0):
    session = Session(model, seed=seed)
    session.feed(ids)
    list(session.text(sampler=sampler, max_tokens=count, draw=False))
    return session.streams[0][len(ids) :]


@pytest.mark.parametrize("side", ["left", "right"])
def test_generate_is_the_session_row_by_row(model, processor, pictures, side):
    batch = processor(
        text=["Hi", "What is this?"], images=[[], pictures[:1]], return_tensors="pt", padding_side=side
    )
    out = model.generate(**batch, max_new_tokens=6)
    width = batch["input_ids"].shape[1]
    assert torch.equal(out[:, :width], batch["input_ids"])
    for row, ids, mask in zip(out, batch["input_ids"], batch["attention_mask"], strict=True):
        new = [token for token in row[width:].tolist() if token != model.vocabulary.pad]
        assert new == said(model, ids[mask == 1].tolist(), Sampler(temperature=0), 6)


def test_sampling_by_seed(model, processor):
    batch = processor(text="Hi", return_tensors="pt")
    options = {"do_sample": True, "temperature": 0.9, "top_k": 40, "max_new_tokens": 8}
    found = model.generate(**batch, **options, seed=5)
    want = said(model, batch["input_ids"][0].tolist(), Sampler(temperature=0.9, top_k=40), 8, seed=5)
    assert found[0, batch["input_ids"].shape[1] :].tolist() == want
    drawn = []
    for seed in (1, 1, 2):
        set_seed(seed)
        drawn.append(model.generate(**batch, **options))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_a_streamer_hears_every_id(model, processor):
    class Heard(TextStreamer):
        def __init__(self):
            super().__init__(processor.tokenizer, skip_prompt=True)
            self.ids, self.ended = [], False

        def put(self, value):
            self.ids.append(value.flatten().tolist())

        def end(self):
            self.ended = True

    batch, streamer = processor(text="Hi", return_tensors="pt"), Heard()
    out = model.generate(**batch, max_new_tokens=5, streamer=streamer)
    assert [token for piece in streamer.ids for token in piece] == out[0].tolist()
    assert streamer.ended


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"num_beams": 4}, "generate takes num_beams=1 alone here, got 4"),
        ({"repetition_penalty": 1.2}, "repetition_penalty=1.0 alone"),
        ({"penalty_alpha": 0.6}, "no option 'penalty_alpha'"),
        ({"eos_token_id": 3}, "eos_token_id is"),
    ],
)
def test_options_that_would_change_the_text_are_refused(model, processor, options, said):
    with pytest.raises(ValueError, match=said) as error:
        model.generate(**processor(text="Hi", return_tensors="pt"), **options)
    assert "\n" not in str(error.value)


def test_the_pipeline_of_images_and_texts(saved, pictures):
    folder, model, processor = saved
    pipe = pipeline("image-text-to-text", model=str(folder), device="cpu", dtype=torch.float32)
    messages = asked(pictures[0], "What is this?")
    (found,) = pipe(text=messages, max_new_tokens=6, return_full_text=False)
    ids = processor.encode(messages, prompt=True)
    want = said(model, ids, Sampler(temperature=0), 6)
    assert found["generated_text"] == processor.batch_decode([want])[0]


# The hub ----------------------------------------------------------------------------------------------------


def test_pushing_offline_is_one_line(saved, monkeypatch):
    import unified

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assistant = unified.load(saved[0], device="cpu", dtype="float32")
    for push in (assistant.push_to_hub, saved[2].push_to_hub):
        with pytest.raises(
            ValueError, match=r"me/model: not uploaded \(.+\); save_pretrained\(FOLDER\)"
        ) as error:
            push("me/model")
        assert "\n" not in str(error.value)


def test_what_is_pushed_is_a_folder_that_loads(saved, monkeypatch, tmp_path):
    """The hub's client is the border: what it is handed is copied in its place."""
    import shutil

    import huggingface_hub

    import unified

    class Copied:
        commit_url = "https://huggingface.co/me/model/commit/1"

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", lambda *_, **__: None)
    monkeypatch.setattr(
        huggingface_hub.HfApi,
        "upload_folder",
        lambda self, *, repo_id, folder_path: shutil.copytree(folder_path, tmp_path / repo_id) and Copied(),
    )
    assistant = unified.load(saved[0], device="cpu", dtype="float32")
    assert assistant.push_to_hub("me/model").endswith("/commit/1")
    again = unified.load(tmp_path / "me" / "model", device="cpu", dtype="float32")
    assert again.ask("Hi", max_tokens=4) == assistant.ask("Hi", max_tokens=4)
