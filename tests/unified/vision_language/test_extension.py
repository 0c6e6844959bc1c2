"""A pretrained image-text model with a pen computes what it computed, bit for bit, and draws."""

import json
import shutil

import image_text_families as families
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer
from unified.tokenizers.text import load_text_tokenizer

from unified.apps.cli import main
from unified.backbone.extended_tables import is_pretrained
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.layout.layout import IGNORED, Layout
from unified.pretrained import load_model, save_model
from unified.stream.base_words import with_marks
from unified.stream.segments import Kind
from unified.vision_language.chat_frames import chat_frames
from unified.vision_language.extension import fingerprint, pretrained_state
from unified.vision_language.generation import open_session

CLOSE = 1e-4
FAMILIES = [*families.FAMILIES, "qwen3_vl_tied", "word_piece"]
EVERY = pytest.mark.parametrize("name", FAMILIES)
SIZES = {"text": [], "one": [(32, 24)], "two": [(16, 40), (24, 24)]}
LONG = "What is in the picture? Two red circles and a blue square are here. " * 2  # longer than a window
SHAPES = [(1, 1), (2, 2), (4, 4)]


def picture(number, height=24, width=24):
    return np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)


def talk(sizes, text=LONG):
    images = [{"type": "image", "image": picture(number, *size)} for number, size in enumerate(sizes)]
    return [{"role": "user", "content": [*images, {"type": "text", "text": text}]}]


def understood(model, ids, values):
    """Logits [T, V] of one pass, of the ids that the pretrained model has."""
    with torch.no_grad():
        states = model.states(torch.tensor([ids]), Layout.of([ids], model.vocabulary, values=values), values)
        return model.text_logits(states[0])[0, :, : model.vocabulary.text]


# Understanding ----------------------------------------------------------------------------------------------


@EVERY
@pytest.mark.parametrize("what", SIZES)
def test_logits_are_those_of_the_pretrained_model_bit_for_bit(folders, name, what):
    base, words = folders.load(name)
    model, _ = folders.load_extended(name)
    prompt = words.prompt(talk(SIZES[what]))
    values, own = base.values(prompt.inputs), model.values(prompt.inputs)
    assert values.keys() == own.keys()
    assert all(torch.equal(values[key], own[key]) for key in values)
    found = understood(model, prompt.ids, own)
    assert torch.equal(found, base.logits([prompt.ids], values)[0])
    with torch.no_grad():
        theirs = base.pretrained(**prompt.tensors()).logits[0]
    torch.testing.assert_close(found, theirs, atol=CLOSE, rtol=0)


@EVERY
def test_cached_logits_are_those_of_the_pretrained_model_bit_for_bit(folders, name):
    base, words = folders.load(name)
    model, _ = folders.load_extended(name)
    prompts = [words.prompt(talk(sizes, text)) for sizes in SIZES.values() for text in ("Where?", LONG)]
    one, other = (open_session(reader, prompts, 0) for reader in (base, model))
    for _ in range(3):  # and some ids that follow
        found = model.text_logits(other.last)[:, : model.vocabulary.text]
        assert torch.equal(found, base.all_logits(one.last).float())
        for session in (one, other):
            session.feed([[token] for token in found.argmax(dim=-1).tolist()])


@EVERY
def test_what_is_new_is_never_the_likeliest(folders, name):
    model, _ = folders.load_extended(name)
    logits = model.text_logits(torch.randn(64, model.config.hidden_size))
    border = model.vocabulary.text
    assert (logits[:, border:].amax(dim=1) < logits[:, :border].amax(dim=1)).all()


def test_half_precision_changes_nothing_either(folders):
    from unified.vision_language.files import load_pretrained

    base, words = load_pretrained(folders.folder("qwen3_vl"), dtype=torch.bfloat16)
    model, _ = load_model(folders.extended("qwen3_vl"), dtype=torch.bfloat16)
    prompt = words.prompt(talk(SIZES["two"]))
    found = understood(model, prompt.ids, model.values(prompt.inputs))
    assert torch.equal(found, base.logits([prompt.ids], base.values(prompt.inputs))[0].float())


# Files ------------------------------------------------------------------------------------------------------


@EVERY
def test_only_what_is_new_is_saved(folders, name):
    stored = load_file(folders.extended(name) / "model.safetensors")
    assert stored
    assert not any(is_pretrained(key) for key in stored)


@EVERY
def test_saved_again_it_is_the_same_model(folders, name, tmp_path):
    model, processor = folders.load_extended(name)
    save_model(tmp_path, model, processor)
    again, other = load_model(tmp_path)
    state = again.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert other.vocabulary == processor.vocabulary
    assert not any(is_pretrained(key) for key in load_file(tmp_path / "model.safetensors"))


def test_tables_that_are_tied_stay_tied(folders):
    base, _ = folders.load("qwen3_vl_tied")
    model, _ = folders.load_extended("qwen3_vl_tied")
    assert base.pretrained.lm_head.weight is base.embed.weight
    assert model.text_head.base.weight is model.get_input_embeddings().base.weight
    untied, _ = folders.load_extended("qwen3_vl")
    assert untied.text_head.base.weight is not untied.get_input_embeddings().base.weight


def test_weights_that_were_changed_are_saved_too(folders, tmp_path):
    model, processor = load_model(folders.extended("gemma3"))
    name = "backbone.layers.1.self_attn.q_proj.weight"
    with torch.no_grad():
        model.get_parameter(name).add_(0.5)
    save_model(tmp_path, model, processor)
    stored = load_file(tmp_path / "model.safetensors")
    assert [key for key in stored if is_pretrained(key)] == [name]
    again, _ = load_model(tmp_path)
    assert torch.equal(again.get_parameter(name), model.get_parameter(name))


def test_a_fingerprint_is_that_of_the_values_in_any_type(folders):
    state = pretrained_state(folders.load("qwen2_5_vl")[0])
    known = fingerprint(state)
    assert fingerprint({name: value.bfloat16() for name, value in state.items()}) == known
    name = next(iter(state))
    assert fingerprint({**state, name: state[name] + 1}) != known


# The stream -------------------------------------------------------------------------------------------------


@EVERY
def test_a_stream_spells_what_the_chat_template_writes(folders, name):
    _, words = folders.load(name)
    model, processor = folders.load_extended(name)
    turns = [("user", "two red circles"), ("assistant", "a blue square"), ("user", "what is here")]
    for spoken in (turns, [("system", "model"), *turns]):
        messages = [{"role": role, "content": text} for role, text in spoken]
        ids = processor.encode(messages, prompt=True)
        marks = model.vocabulary.marks
        assert [token for token in ids if token not in marks] == words.prompt(messages).ids
        assert with_marks(words.prompt(messages).ids, model.vocabulary) == ids
        said = processor.decode(ids)[:-1]
        assert [message["role"] for message in said] == [role for role, _ in spoken]


def test_marks_take_no_position_and_change_nothing(folders):
    model, _ = folders.load_extended("gemma3")
    _base, words = folders.load("gemma3")
    prompt = words.prompt(talk(SIZES["two"]))
    values, marks = model.values(prompt.inputs), model.vocabulary.marks
    ids = with_marks(prompt.ids, model.vocabulary)
    real = [number for number, token in enumerate(ids) if token not in marks]
    assert len(real) == len(prompt.ids) < len(ids)
    found, plain = understood(model, ids, values)[real], understood(model, prompt.ids, values)
    torch.testing.assert_close(found, plain, atol=CLOSE, rtol=0)
    layout = Layout.of([ids], model.vocabulary, values=values)
    bare = Layout.of([prompt.ids], model.vocabulary, values=values)
    assert torch.equal(layout.positions[:, 0, real], bare.positions[:, 0])
    session = Session(model)
    session.feed(ids, values=values)
    assert session.context.cache.length == len(prompt.ids)


def test_targets_are_what_the_assistant_says(folders):
    model, processor = folders.load_extended("qwen2_5_vl")
    messages = [{"role": "user", "content": "red"}, {"role": "assistant", "content": "blue"}]
    ids = torch.tensor([processor.encode(messages)])
    layout = Layout.of(ids, model.vocabulary)
    targets = (layout.labels(ids)[0] != IGNORED).nonzero()[:, 0].tolist()
    said = [*processor.stream.text.encode("blue"), model.vocabulary.end]
    assert ids[0, targets].tolist() == said
    first = targets[0]
    assert ids[0, first - 1] == model.vocabulary.assistant
    assert layout.source[0, first] == first - 2, "predicted from the last id that the backbone reads"


@EVERY
@pytest.mark.parametrize("order", ["next_scale", "raster"])
def test_drawing_step_by_step_is_one_pass(folders, name, order):
    """After a prompt with images that the tower has read, and text after the drawing."""
    _, words = folders.load(name)
    model, _ = folders.load_extended(name)
    prompt = words.prompt(talk(SIZES["two"]))
    values, vocabulary = model.values(prompt.inputs), model.vocabulary
    session = Session(model, seed=3).record_log_probs()
    session.feed(with_marks(prompt.ids, vocabulary), values=values)
    session.draw(SHAPES if order == "next_scale" else SHAPES[-1:], order=order, sampler=Sampler())
    for _ in session.text(sampler=Sampler(), max_tokens=12, draw=False, end=False):
        pass
    ids = torch.tensor(session.streams)
    with torch.no_grad():
        out = model(ids, values=values)
    drawn = torch.tensor(session.log_probs)
    known = ~drawn.isnan()
    assert int(known.sum()) == (21 if order == "next_scale" else 16) + 12
    torch.testing.assert_close(out.log_probs[known], drawn[known], atol=1e-3, rtol=0)


def test_packed_samples_do_not_see_one_another(folders):
    model, processor = folders.load_extended("gemma3")
    samples = [
        processor.encode([{"role": "user", "content": LONG}, {"role": "assistant", "content": text}])
        for text in ("red circles", "blue squares are here")
    ]
    with torch.no_grad():
        alone = [model(torch.tensor([ids])).log_probs[0] for ids in samples]
        together = model(torch.tensor([[*samples[0], *samples[1]]])).log_probs[0]
    torch.testing.assert_close(together, torch.cat(alone), atol=CLOSE, rtol=0)


def test_an_image_may_be_read_by_tower_and_codes(folders):
    _, words = folders.load("qwen3_vl")
    model, processor = folders.load_extended("qwen3_vl")
    prompt = words.prompt(talk(SIZES["one"]))
    ids = with_marks(prompt.ids, model.vocabulary)
    place = ids.index(model.vocabulary.user) + 1
    coded = processor.stream.content([processor.image_item(picture(0, 32, 32))])
    both = [*ids[:place], *coded, *ids[place:]]
    values = model.values(prompt.inputs)
    kinds = Layout.of([both], model.vocabulary, values=values).index.kind[0]
    assert int((kinds == Kind.READ).sum()) == len(coded) + ids.count(model.vocabulary.image)
    last = [understood(model, row, values)[-1] for row in (ids, both)]
    assert (last[0] - last[1]).abs().max() > 0.01
    named = [item["type"] for item in processor.decode(both)[0]["content"]]
    assert named.count("image") == 1
    assert named.count("features") == 1


# Tokenizers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["qwen2_5_vl", "gemma3", "word_piece"])
def test_the_tokenizer_comes_back_as_it_was(folders, name):
    """Byte-level, with a metaspace, and words with their pieces."""
    own = AutoTokenizer.from_pretrained(folders.folder(name))
    _, processor = folders.load_extended(name)
    saved = load_text_tokenizer(folders.extended(name) / "text_tokenizer.json")
    for text in ("two red circles are here.", "what is in the square?", "Two red\ncircles  and "):
        ids = own.encode(text, add_special_tokens=False)
        assert processor.stream.text.encode(text, add_special_tokens=False) == ids
        assert saved.encode(text, add_special_tokens=False) == ids
        decoded = saved.decode(ids)
        assert decoded == own.decode(ids, clean_up_tokenization_spaces=False)
        assert name == "word_piece" or decoded == text
        message = {"role": "user", "content": text}
        content = processor.decode(processor.encode([message]))[0]["content"]
        assert content == [{"type": "text", "text": decoded}]


def test_special_tokens_in_a_text_are_text(folders):
    model, processor = folders.load_extended("qwen2_5_vl")
    said = "<|image_pad|> and <|end|>"
    ids = processor.encode([{"role": "user", "content": said}])
    assert ids.count(model.vocabulary.image) == 0
    assert ids.count(model.vocabulary.end) == 1
    assert processor.decode(ids)[0]["content"] == [{"type": "text", "text": said}]


# What cannot be done ----------------------------------------------------------------------------------------


@pytest.fixture
def copy(folders, tmp_path):
    """A copy of a family's folder."""
    return lambda name: shutil.copytree(folders.folder(name), tmp_path / name)


@pytest.fixture
def refusal(folders, tmp_path, capsys):
    """What the command says of a folder: one line, with exit status 2, and nothing is written."""

    def refused(folder, visual=None):
        out = tmp_path / "out"
        options = ["--visual", str(visual or folders.pen()), "--out", str(out)]
        assert main(["extend", str(folder), *options]) == 2
        assert not out.exists()
        lines = [line for line in capsys.readouterr().err.splitlines() if line and "%|" not in line]
        assert len(lines) == 1, lines  # beside the library's progress bars
        return lines[0]

    return refused


def test_wrong_folders(refusal, folders, tmp_path):
    assert "no such model folder" in refusal(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "config.json" in refusal(tmp_path / "empty")
    assert "visual_config.json" in refusal(folders.folder("gemma3"), visual=tmp_path / "empty")
    assert "names no image-text model" in refusal(folders.extended("gemma3"))


def test_missing_shards(refusal, copy):
    folder = copy("qwen2_5_vl")
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    save_file(state, folder / "model-00001-of-00002.safetensors", metadata={"format": "pt"})
    weight_map = dict.fromkeys(state, "model-00001-of-00002.safetensors")
    weight_map[next(iter(state))] = "model-00002-of-00002.safetensors"
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "model-00002-of-00002.safetensors" in refusal(folder)


def test_a_tokenizer_that_does_not_fit(refusal, copy):
    folder = copy("qwen2_5_vl")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([f"word{n}" for n in range(50)])
    tokenizer.save_pretrained(folder)
    assert "the text tokenizer has" in refusal(folder)


def test_a_model_of_text_alone(refusal, tmp_path, capsys):
    from transformers import LlamaConfig, LlamaForCausalLM

    family = families.Family({}, "", lambda _: ([], None))
    words = families.tokenizer(family)
    words.chat_template = families.template(family)
    words.save_pretrained(tmp_path / "text")
    LlamaForCausalLM(LlamaConfig(vocab_size=len(words), **families.TEXT)).save_pretrained(tmp_path / "text")
    capsys.readouterr()
    assert "reads text only" in refusal(tmp_path / "text")


def test_a_model_without_a_chat_template(refusal, copy):
    folder = copy("qwen2_5_vl")
    (folder / "chat_template.jinja").unlink()
    assert "no chat template" in refusal(folder)


def test_a_chat_template_that_ends_turns_in_two_ways(refusal, copy):
    folder = copy("qwen2_5_vl")
    path = folder / "chat_template.jinja"
    path.write_text(
        path.read_text().replace("{{ '<|end|>'", "{{ ('.' if m['role'] == 'user' else '<|end|>')")
    )
    assert "in several ways" in refusal(folder)


def test_a_folder_that_is_not_empty_is_left_alone(folders, tmp_path, capsys):
    (tmp_path / "note.txt").write_text("mine")
    options = ["--visual", str(folders.pen()), "--out", str(tmp_path)]
    assert main(["extend", str(folders.folder("gemma3")), *options]) == 2
    assert "not an empty folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def moved(folders, tmp_path, source):
    """An extension whose pretrained model lies elsewhere."""
    folder = shutil.copytree(folders.extended("gemma3"), tmp_path / "moved")
    config = json.loads((folder / "config.json").read_text())
    config["base"]["source"] = str(source)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_the_pretrained_model_must_be_there_and_be_the_same(folders, copy, tmp_path):
    with pytest.raises(ValueError, match=r"that was extended is missing: .*nowhere"):
        load_model(moved(folders, tmp_path, tmp_path / "nowhere"))
    shutil.rmtree(tmp_path / "moved")
    other = copy("gemma3")
    state = load_file(other / "model.safetensors")
    name = next(key for key in state if "q_proj" in key)
    save_file({**state, name: state[name] + 1}, other / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"not the weights of .* that were extended"):
        load_model(moved(folders, tmp_path, other))


def test_it_is_not_loaded_without_its_pretrained_part(folders):
    from unified.model import UnifiedModel

    with pytest.raises(ValueError, match=r"unified\.load"):
        UnifiedModel.from_pretrained(folders.extended("gemma3"))


def test_frames_of_a_template_without_turns_of_the_system(folders, copy):
    folder = copy("gemma3")
    path = folder / "chat_template.jinja"
    refusing = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    path.write_text(refusing + path.read_text())
    from unified.vision_language.processor import load_processor

    frames = chat_frames(load_processor(folder, "gemma3", sees=True))
    assert set(frames.first) == {"user"}
    assert set(frames.following) == {"user", "assistant"}
