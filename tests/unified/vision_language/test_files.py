"""Folders that are wrong: one line each. And tokenizers stay as they are."""

import json
import shutil
from dataclasses import replace

import image_text_families as families
import numpy as np
import pytest
import transformers
from PIL import Image
from transformers import AutoTokenizer, PreTrainedTokenizerFast

import unified
from unified.apps.image_text import ImageTextAssistant
from unified.decoding.sampling import Sampler
from unified.pretrained_backbone import from_backbone
from unified.stream.vocabulary import Vocabulary
from unified.vision_language import agreement
from unified.vision_language.files import load_pretrained, sampler_of
from unified.vision_language.generation import Speech
from unified.vision_language.processor import PretrainedProcessor

TEXTS = ["What is in the picture?", "  two  blanks\n\nand lines", "Grüße, 世界", "a\tb", ""]


@pytest.fixture
def copy(folders, tmp_path):
    def make(name):
        return shutil.copytree(folders.folder(name), tmp_path / name)

    return make


def refusal(folder):
    with pytest.raises(ValueError, match=r"\S") as error:
        unified.load(folder, device="cpu", dtype="float32")
    assert "\n" not in str(error.value)
    return str(error.value)


def test_no_weights(copy):
    folder = copy("gemma3")
    (folder / "model.safetensors").unlink()
    assert "no weights" in refusal(folder)


def test_a_missing_shard(copy):
    folder = copy("gemma3")
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    assert "model-00002-of-00002.safetensors: no such file" in refusal(folder)


def test_a_missing_tokenizer_or_its_settings(copy):
    folder = copy("gemma3")
    settings = (folder / "tokenizer_config.json").read_bytes()
    (folder / "tokenizer_config.json").unlink()
    assert "(tokenizer_config.json is missing)" in refusal(folder)
    (folder / "tokenizer_config.json").write_bytes(settings)
    (folder / "tokenizer.json").unlink()
    assert "has no tokenizer: one of tokenizer.json" in refusal(folder)


def test_a_folder_that_does_not_say_what_model_it_is(copy):
    folder = copy("gemma3")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "nobody_knows"}))
    assert "model_type is 'nobody_knows'" in refusal(folder)
    (folder / "config.json").unlink()
    assert "no config.json" in refusal(folder)


def test_missing_weights(copy):
    folder = copy("gemma3")
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["num_hidden_layers"] = 4
    config["text_config"]["layer_types"].append("full_attention")
    (folder / "config.json").write_text(json.dumps(config))
    assert "weights are missing" in refusal(folder)


def test_a_damaged_file_of_weights(copy):
    folder = copy("gemma3")
    (folder / "model.safetensors").write_bytes(b"not weights at all")
    assert "do not load" in refusal(folder)


def test_damaged_generation_settings(copy):
    folder = copy("gemma3")
    settings = folder / "generation_config.json"
    settings.write_text(settings.read_text()[:20])
    assert "generation_config.json:2: not JSON" in refusal(folder)


def test_no_processor(copy):
    folder = copy("qwen2_5_vl")
    for path in (*folder.glob("*processor*"), *folder.glob("tokenizer*")):
        path.unlink()
    assert "processor" in refusal(folder)


def test_no_chat_template(copy):
    folder = copy("qwen2_5_vl")
    (folder / "chat_template.jinja").unlink()
    model = unified.load(folder, device="cpu", dtype="float32")
    with pytest.raises(ValueError, match="no chat template"):
        model.ask("What?")


def test_code_of_a_folder_is_not_run(copy):
    folder = copy("gemma3")
    config = json.loads((folder / "config.json").read_text())
    config["model_type"] = "own"
    config["auto_map"] = {"AutoConfig": "own.Config", "AutoModelForImageTextToText": "own.Model"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text("raise SystemExit('this was run')")
    refusal(folder)


def test_four_bits_need_their_package(folders):
    pytest.importorskip("transformers")
    from importlib.util import find_spec

    if find_spec("bitsandbytes"):
        pytest.skip("bitsandbytes is installed")
    with pytest.raises(ValueError, match="bitsandbytes"):
        load_pretrained(folders.folder("gemma3"), load_in_4bit=True)


@pytest.mark.parametrize("name", ["qwen2_5_vl", "gemma3"], ids=["byte_level", "metaspace"])
def test_the_tokenizer_is_untouched(folders, name):
    _, processor = folders.load(name)
    own = AutoTokenizer.from_pretrained(folders.folder(name))
    for text in TEXTS:
        ids = own.encode(text)
        assert processor.tokenizer.encode(text) == ids
        assert processor.text(ids) == own.decode(ids, skip_special_tokens=True)
    assert processor.text(own.encode(TEXTS[1])) == TEXTS[1]


def word_pieces():
    """A tokenizer of words and their pieces, as BERT has it."""
    return PreTrainedTokenizerFast(tokenizer_object=families.word_pieces(["<unk>"]), unk_token="<unk>")


@pytest.mark.parametrize("kind", ["byte_level", "metaspace", "word_piece"])
def test_pieces_of_a_stream_are_its_text(folders, kind):
    """Whatever a tokenizer does at the beginning of a text, and with characters of several ids."""
    if kind == "word_piece":
        processor = PretrainedProcessor(word_pieces(), sees=False)
        texts = ["two red circles are here.", "what is in the square?"]
    else:
        _, processor = folders.load({"byte_level": "qwen2_5_vl", "metaspace": "gemma3"}[kind])
        texts = [TEXTS[0], TEXTS[1], "  ä", " Two red\ncircles "] + [TEXTS[2]] * (kind == "byte_level")
    for text in texts:
        ids = processor.tokenizer.encode(text, add_special_tokens=False)
        speech = Speech(processor)
        pieces = [speech.hear(token) for token in ids]
        assert "".join([*pieces, speech.flush()]) == processor.text(ids)
        assert "\N{REPLACEMENT CHARACTER}" not in "".join(pieces)
        assert kind == "word_piece" or processor.text(ids) == text
        assert sum(map(bool, pieces)) > 1 or len(ids) < 3


@pytest.mark.parametrize("name", families.FAMILIES)
def test_what_the_tests_cover_agrees(folders, name):
    agreement.check_agreement(*folders.load(name))


def test_a_family_that_is_computed_in_another_way_is_refused(folders, monkeypatch):
    model, processor = folders.load("gemma3")
    words = model.vocabulary
    monkeypatch.setattr(model, "vocabulary", replace(words, base=replace(words.base, together=False)))
    with pytest.raises(ValueError, match="not supported"):
        agreement.check_agreement(model, processor)


def test_a_family_without_tests_of_its_own_is_compared_when_it_is_loaded(folders):
    assert "llava" not in agreement.COVERED
    model, processor = folders.load("llava")
    for prompt in agreement._prompts(model, processor):
        ours, theirs = agreement.both(model, prompt)
        assert (ours - theirs).abs().max() < 1e-4


def test_an_architecture_that_no_session_runs(tmp_path):
    """GPT-2 has learned positions and layers under other names."""
    words = families.tokenizer(families.Family({}, "", lambda _: ([], None)))
    words.save_pretrained(tmp_path)
    config = transformers.GPT2Config(vocab_size=len(words), n_embd=16, n_layer=1, n_head=2)
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path)
    assert "rotary" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["gemma3", "idefics3"])
def test_the_pipeline_of_transformers_answers_with_the_model_of_a_session(folders, name):
    model, processor = folders.load(name)
    pipe = transformers.pipeline("image-text-to-text", model=model.pretrained, processor=processor.processor)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8))
    content = [{"type": "image", "image": picture}, {"type": "text", "text": "What is here?"}]
    talk = [{"role": "user", "content": content}]
    told = pipe(text=talk, max_new_tokens=8, return_full_text=False, do_sample=False)[0]["generated_text"]
    own = ImageTextAssistant(model, processor, sampler=Sampler(temperature=0))
    assert own.answers([talk], max_tokens=8)[0] == told.strip()


def test_a_model_made_of_the_decoder_alone_says_what_it_leaves_out(folders):
    with pytest.warns(UserWarning, match=r"vision tower .* is left out"):
        from_backbone(folders.folder("qwen3_vl"), Vocabulary(text=100))


def test_generation_settings():
    from transformers import GenerationConfig

    assert sampler_of(GenerationConfig()) == Sampler(temperature=0)
    settings = GenerationConfig(do_sample=True, temperature=0.5, top_k=7, top_p=0.9)
    assert sampler_of(settings) == Sampler(temperature=0.5, top_k=7, top_p=0.9)
    with pytest.warns(UserWarning, match="repetition_penalty"):
        sampler_of(GenerationConfig(repetition_penalty=1.05))
