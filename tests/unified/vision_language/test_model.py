"""What a session computes of an image-text model is what `transformers` computes."""

import image_text_families as families
import numpy as np
import pytest
import torch

from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.decoding.strategies import Speculative
from unified.decoding.strategies.drafts import PromptLookup, Shallow
from unified.decoding.text import allowed_ids
from unified.vision_language.generation import open_session, said

CLOSE = 1e-4
GREEDY = Sampler(temperature=0)
SIZES = {"text": [], "one": [(32, 24)], "two": [(16, 40), (24, 24)]}
LONG = "What is in the picture? Two red circles and a blue square are here. " * 2  # longer than a window
EVERY = pytest.mark.parametrize("name", families.FAMILIES)


def image(number, height, width):
    rng = np.random.default_rng(number)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def talk(sizes, text="Two red circles?"):
    images = [{"type": "image", "image": image(number, *size)} for number, size in enumerate(sizes)]
    return [{"role": "user", "content": [*images, {"type": "text", "text": text}]}]


def theirs(model, inputs):
    with torch.no_grad():
        return model.pretrained(**inputs).logits


@EVERY
@pytest.mark.parametrize("what", SIZES)
@pytest.mark.parametrize("text", ["and blue?", LONG], ids=["short", "long"])
def test_logits_are_those_of_transformers_cached_and_not(folders, name, what, text):
    model, processor = folders.load(name)
    prompt = processor.prompt(talk(SIZES[what], text))
    expected, values = theirs(model, prompt.inputs), model.values(prompt.inputs)
    whole = model.logits([prompt.ids], values)
    torch.testing.assert_close(whole, expected, atol=CLOSE, rtol=0)
    session = Session(model)
    session.feed(prompt.ids, values=values)
    torch.testing.assert_close(model.all_logits(session.last), expected[:, -1], atol=CLOSE, rtol=0)


@EVERY
def test_an_image_changes_what_follows(folders, name):
    model, processor = folders.load(name)
    one, other = (processor.prompt(talk([(24, 24)])) for _ in range(2))
    other.inputs["pixel_values"] = 1 - other.inputs["pixel_values"]
    found = [model.logits([prompt.ids], model.values(prompt.inputs))[0, -1] for prompt in (one, other)]
    assert (found[0] - found[1]).abs().max() > 0.01


@EVERY
@pytest.mark.parametrize("side", ["left", "right"])
def test_rows_of_different_lengths_are_those_of_a_padded_batch(folders, name, side):
    model, processor = folders.load(name)
    talks = [talk(SIZES["two"], LONG), talk(SIZES["two"]), talk([(24, 40), (16, 16)], "Where?")]
    padded = processor.processor.apply_chat_template(
        [[processor._message(message) for message in one] for one in talks],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        processor_kwargs={"return_tensors": "pt", "padding": True, "padding_side": side},
    )
    expected = theirs(model, padded)
    session = open_session(model, [processor.prompt(one) for one in talks], [0, 1, 2])
    found = model.all_logits(session.last)
    for row, mask in enumerate(padded["attention_mask"]):
        last = int(mask.nonzero()[-1])
        torch.testing.assert_close(found[row], expected[row, last], atol=CLOSE, rtol=0)


@EVERY
@pytest.mark.parametrize("what", SIZES)
def test_greedy_ids_are_those_of_generate(folders, name, what):
    model, processor = folders.load(name)
    prompt = processor.prompt(talk(SIZES[what], LONG))
    ids = model.pretrained.generate(**prompt.inputs, max_new_tokens=24, do_sample=False)[0].tolist()
    session = open_session(model, [prompt], 0)
    found = [ids[0] for ids in said(session, model, GREEDY, 24)]
    assert found == ids[len(prompt.ids) :]


@EVERY
def test_a_row_says_the_same_alone_and_in_a_batch(folders, name):
    model, processor = folders.load(name)
    prompts = [processor.prompt(talk(sizes, text)) for sizes in SIZES.values() for text in ("Where?", LONG)]
    sampler = Sampler(temperature=0.7, top_p=0.9)

    def answers(prompts, seeds):
        session = open_session(model, prompts, seeds)
        list(said(session, model, sampler, 8))
        return [ids[len(prompt.ids) :] for ids, prompt in zip(session.streams, prompts, strict=True)]

    alone = [answers([prompt], [number])[0] for number, prompt in enumerate(prompts)]
    assert answers(prompts, list(range(len(prompts)))) == alone


def test_windows_of_rows_that_read_on_by_different_lengths(folders):
    """The padding of one row is longer than its window, beside a row that reads much."""
    model, _ = folders.load("gemma3")
    first, second = [list(range(20, 50)), [20, 21]], [[33], list(range(30, 60))]
    session = Session(model, rows=2)
    session.feed(first)
    session.feed(second)
    for row in range(2):
        alone = model.logits([[*first[row], *second[row]]])[0, -1]
        torch.testing.assert_close(model.all_logits(session.last)[row], alone, atol=CLOSE, rtol=0)


@EVERY
@pytest.mark.parametrize("draft", [PromptLookup(), Shallow()], ids=["lookup", "shallow"])
def test_speculative_decoding_says_the_same(folders, name, draft):
    model, processor = folders.load(name)
    prompt = processor.prompt(talk(SIZES["two"], LONG))
    session = open_session(model, [prompt], 0)
    plain = [ids[0] for ids in said(session, model, GREEDY, 16)]
    session = open_session(model, [prompt], 0)
    session.strategy = Speculative(draft=draft)
    assert [ids[0] for ids in said(session, model, GREEDY, 16)] == plain


def test_the_model_itself_still_generates(folders):
    """`generate` of the library, on a model whose layers a session runs."""
    model, processor = folders.load("gemma3")
    prompt = processor.prompt(talk(SIZES["one"], LONG))
    assert model.pretrained.generate(**prompt.inputs, max_new_tokens=3).shape[1] == len(prompt.ids) + 3


def test_placeholders_without_features_are_refused(folders):
    model, processor = folders.load("qwen2_5_vl")
    prompt = processor.prompt(talk(SIZES["one"]))
    with pytest.raises(ValueError, match="placeholders"):
        Session(model).feed(prompt.ids)
    values = {name: tensor[1:] for name, tensor in model.values(prompt.inputs).items()}
    with pytest.raises(ValueError, match="placeholders"):
        Session(model).feed(prompt.ids, values=values)


def test_placeholders_are_never_said(folders):
    model, processor = folders.load("qwen2_5_vl")
    session = open_session(model, [processor.prompt(talk([]))], 0)
    assert not allowed_ids(session, True, True)[0, model.image]


def test_it_does_not_draw(folders):
    model, processor = folders.load("gemma3")
    session = open_session(model, [processor.prompt(talk([]))], 0)
    with pytest.raises(ValueError, match="order"):
        session.draw([4])
