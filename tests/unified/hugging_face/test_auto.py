"""The Auto classes after `import unified`, and that nothing is imported before it is asked for."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
)

import unified
from unified.apps.demo import random_model
from unified.model import UnifiedModel
from unified.pretrained import load_model, save_model

ROOT = Path(__file__).resolve().parents[3]
WORDS = ["What colour is it?", "  two blanks, Grüße 猫", ""]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    model, processor = random_model(3)
    save_model(folder, model, processor)
    return folder, model, processor


def python(code, *arguments):
    result = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


def test_importing_unified_imports_neither_transformers_nor_torch():
    names = "transformers", "torch", "unified.model"
    assert python(f"import unified, sys; print(*(name in sys.modules for name in {names}))") == ["False"] * 3


def test_importing_transformers_then_imports_no_model_of_ours():
    code = "import unified, sys; from transformers import AutoConfig; print('unified.model' in sys.modules)"
    assert python(code) == ["False"]


@pytest.mark.parametrize(
    "first", ["import unified, transformers", "import transformers.models.auto, unified"]
)
def test_either_order_of_imports(saved, first):
    code = (
        f"import sys; {first}; from transformers import AutoConfig, AutoModel, AutoProcessor, AutoTokenizer\n"
        "parts = [part.from_pretrained(sys.argv[1]) for part in"
        " (AutoProcessor, AutoTokenizer, AutoModel, AutoConfig)]\n"
        "print(*(type(part).__name__ for part in parts))"
    )
    assert python(code, saved[0]) == ["UnifiedProcessor", "UnifiedTokenizer", "UnifiedModel", "UnifiedConfig"]


def test_models_by_every_auto_class(saved):
    folder, model, processor = saved
    ids = torch.tensor([processor.encode([{"role": "user", "content": "Hi"}], prompt=True)])
    for kind in (AutoModel, AutoModelForCausalLM, AutoModelForImageTextToText):
        again = kind.from_pretrained(folder).eval()
        assert isinstance(again, UnifiedModel)
        assert torch.equal(again(ids).log_probs, model(ids).log_probs)
    assert AutoConfig.from_pretrained(folder).words == processor.vocabulary
    assert AutoConfig.for_model("unified").model_type == "unified"


def test_a_model_saved_in_shards_is_the_same_model(saved, tmp_path):
    folder, model, processor = saved
    model.save_pretrained(tmp_path, max_shard_size="100KB")
    processor.save_pretrained(tmp_path)
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    assert (tmp_path / "model.safetensors.index.json").is_file()
    for again in (AutoModel.from_pretrained(tmp_path), load_model(tmp_path)[0]):
        for name, value in model.state_dict().items():
            assert torch.equal(again.state_dict()[name], value), name
    said = [
        unified.load(path, device="cpu", dtype="float32").ask("Hi", max_tokens=4)
        for path in (folder, tmp_path)
    ]
    assert said[0] == said[1]


def test_a_missing_shard_is_one_line(saved, tmp_path):
    _, model, processor = saved
    model.save_pretrained(tmp_path, max_shard_size="100KB")
    processor.save_pretrained(tmp_path)
    sorted(tmp_path.glob("model-*.safetensors"))[1].unlink()
    with pytest.raises(ValueError, match=r"model-00002-of-\d+.safetensors: no such file"):
        load_model(tmp_path)


# The tokenizer ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizer(saved):
    return AutoTokenizer.from_pretrained(saved[0])


@pytest.mark.parametrize("text", WORDS)
def test_texts_go_round(tokenizer, saved, text):
    ids = tokenizer(text).input_ids
    assert ids == saved[2].stream.text.encode(text)
    assert tokenizer.decode(ids) == text


def test_control_words_have_the_ids_of_the_stream(tokenizer, saved):
    words = saved[2].vocabulary
    for name in words.block:
        assert tokenizer.convert_tokens_to_ids(f"<|{name}|>") == words.special[name], name
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id) == (words.pad, words.end)
    assert tokenizer.decode([words.user, 72, words.end], skip_special_tokens=True) == tokenizer.decode([72])


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}],
        [{"role": "system", "content": ""}, {"role": "user", "content": [{"type": "text", "text": "a"}] * 2}],
    ],
)
@pytest.mark.parametrize("prompt", [False, True])
def test_the_chat_template_writes_the_stream(tokenizer, saved, messages, prompt):
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=prompt, return_dict=False)
    assert ids == saved[2].encode(messages, prompt=prompt)


def test_ids_between_the_texts_own_and_the_control_words(saved):
    from unified.hugging_face.tokenizer import UnifiedTokenizer
    from unified.stream.vocabulary import Vocabulary

    words = Vocabulary(text=300)
    found = UnifiedTokenizer.of(words, saved[2].stream.text)
    assert found.convert_tokens_to_ids("<|user|>") == words.user
    assert found.convert_ids_to_tokens(299) == "<|unused:299|>"


def test_a_saved_tokenizer_comes_back(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    again = type(tokenizer).from_pretrained(tmp_path)
    text = "<|begin|><|user|>Hi<|end|>"
    assert again(text).input_ids == tokenizer(text).input_ids
    assert again.chat_template == tokenizer.chat_template


def test_a_processor_by_name_of_nothing_is_one_line(tmp_path):
    with pytest.raises((ValueError, OSError)):
        AutoProcessor.from_pretrained(tmp_path)
