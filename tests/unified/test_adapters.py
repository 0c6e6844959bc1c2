"""Adapters of `peft`: default targets, folders that load, sessions that see them."""

import copy
import json

import pytest
import torch
from unified.tokenizers.text import byte_tokenizer

import unified
from unified.apps.demo import random_model
from unified.decoding.session import Session
from unified.pretrained import load_model, save_model
from unified.stream.messages import Stream

peft = pytest.importorskip("peft", reason="peft comes with the extra `train`")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    save_model(folder, *random_model())
    return folder


@pytest.fixture(scope="module")
def ids(folder):
    words = load_model(folder)[1].vocabulary
    image = {"type": "image", "codes": [1, 2, 3, 4, 5], "shapes": [[1, 1], [2, 2]], "order": "next_scale"}
    talk = [{"role": "user", "content": "Draw."}, {"role": "assistant", "content": [image]}]
    return torch.tensor([Stream(words, byte_tokenizer()).encode(talk)])


def adapted(folder, **options):
    """A model with random adapters that say something."""
    model, _ = load_model(folder)
    torch.manual_seed(1)
    config = peft.LoraConfig(r=4, init_lora_weights=False, **options)
    return peft.get_peft_model(model, config).eval()


@pytest.mark.parametrize("task", ["CAUSAL_LM", None])
def test_default_targets_are_every_matrix_of_the_layers(folder, ids, task):
    made = adapted(folder, task_type=task)
    names = {name.split(".lora_")[0] for name, p in made.named_parameters() if p.requires_grad}
    assert len(names) == 7 * 2
    assert all(".backbone.layers." in name for name in names)
    base, _ = load_model(folder)
    loss = made(input_ids=ids, labels=ids).loss
    assert (loss - base(ids, labels=ids).loss).abs() > 0.01
    loss.backward()


def test_a_folder_of_adapters_is_a_model(folder, ids, tmp_path):
    made = adapted(folder, task_type="CAUSAL_LM")
    made.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["base_model_name_or_path"] == str(
        folder
    )
    loaded = unified.load(tmp_path, device="cpu", dtype="float32").model
    torch.testing.assert_close(loaded(ids).log_probs, made(input_ids=ids).log_probs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"base_model_name_or_path": None}, "does not say"),
        ({"base_model_name_or_path": "./no"}, "no such model"),
    ],
)
def test_adapters_without_their_model_are_one_line(folder, tmp_path, change, words):
    adapted(folder, task_type="CAUSAL_LM").save_pretrained(tmp_path)
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ValueError, match=words):
        load_model(tmp_path)


def test_a_session_sees_adapters_that_came_after_the_layers_were_fused(folder, ids):
    model, _ = load_model(folder)
    fused = copy.deepcopy(model).fuse()
    prompt = ids[0].tolist()[:6]
    before = Session(fused, seed=0)
    before.feed(prompt)
    torch.manual_seed(1)
    peft.get_peft_model(fused, peft.LoraConfig(r=4, init_lora_weights=False)).eval()
    after, other = Session(fused, seed=0), Session(adapted(folder).base_model.model, seed=0)
    for session in (after, other):
        session.feed(prompt)
    said = [next(iter(s.text(max_tokens=1)))[0] for s in (after, other)]
    assert fused.fused is None
    assert said[0] == said[1]


def test_generate_is_refused(folder):
    with pytest.raises(ValueError, match="Session"):
        load_model(folder)[0].prepare_inputs_for_generation(None)


@pytest.mark.parametrize("content", ['{"base_model_name_or_path": "%s"}', "version https://git-lfs", "[1]"])
def test_a_spoilt_configuration_of_adapters_is_one_line(content, tmp_path):
    text = content % tmp_path if "%s" in content else content
    (tmp_path / "adapter_config.json").write_text(text)
    with pytest.raises(ValueError, match=r"adapter_config.json: (the adapters|a Git LFS|expected)"):
        load_model(tmp_path)
