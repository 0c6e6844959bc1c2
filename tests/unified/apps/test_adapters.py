"""Adapters beside a model: stacked, taken away without a trace, refused where they do not belong."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from unified.train.adapters.controls import part_for
from unified.train.adapters.subjects import StyleConfig, memories_for

from unified.adapter_files import AdapterFile, base_hash, fingerprint, save_adapter
from unified.apps.adapters import STYLE, SUBJECT, Adapters, build_part, write_adapter
from unified.apps.assistant import DRAWING, Assistant
from unified.apps.demo import random_model
from unified.decoding.guidance import Constant
from unified.low_rank import LowRankConfig, tuned

RANK = LowRankConfig(rank=2, alpha=2.0)


def new_model(seed=0):
    return random_model(seed)[0].eval()


@pytest.fixture(scope="module")
def guide():
    return Assistant(*random_model(), side=32)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """By name, adapters of the model of seed 0: zero as new ones are, and with other weights."""
    folder, model = tmp_path_factory.mktemp("adapters"), new_model()
    for loud in (False, True):
        ending = "" if loud else "_new"
        torch.manual_seed(1)
        with tuned(model, RANK) as changes:
            for parameter in changes.parameters if loud else []:
                nn.init.normal_(parameter, std=0.3)
        path = folder / f"subject{ending}.safetensors"
        write_adapter(path, model, SUBJECT, changes, {"rank": 2, "alpha": 2.0})
        options = memories_for(model, 4, StyleConfig(word="x"))
        parts = nn.ModuleDict({name: build_part("scale_memory", own) for name, own in options.items()})
        _shake(parts, loud)
        write_adapter(folder / f"style{ending}.safetensors", model, STYLE, parts, options)
        for kind in ("scale_control", "reference_attention"):
            part, told = part_for(model, kind)
            _shake(part, loud)
            path = folder / f"{kind}{ending}.safetensors"
            told = {"part": told, "condition": "edges", "patch": 4}
            write_adapter(path, model, kind, nn.ModuleDict({"part": part}), told)
    return {path.stem: path for path in folder.iterdir()}


def _shake(part, loud):
    for parameter in part.parameters() if loud else []:
        nn.init.normal_(parameter, std=0.3)


@pytest.fixture(scope="module")
def picture():
    return np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)


def test_new_adapters_change_no_bit_and_trained_ones_leave_no_trace(guide, files, picture):
    plain, weights = guide.draw("A star.", tries=1), fingerprint(guide.model)
    settings = replace(DRAWING, image_only=True, guidance=Constant(1.5))
    alone = guide._drawn(guide.request("A star."), settings, None, guide.shapes((32, 32)), 1)
    for name in ("subject_new", "style_new", "scale_control_new"):
        guide.load_adapter(files[name])
    assert np.array_equal(guide.draw("A star.", tries=1), plain)
    assert np.array_equal(guide.control("A star.", picture, edges=True, tries=1), alone)
    for name in ("subject", "style"):
        guide.load_adapter(files[name])
    both = guide.draw("A star.", tries=1)
    assert not np.array_equal(both, plain)
    guide.remove_adapter("subject")
    assert fingerprint(guide.model) == weights
    assert not np.array_equal(guide.draw("A star.", tries=1), both)
    for name in [*guide.adapters.names]:
        guide.remove_adapter(name)
    assert fingerprint(guide.model) == weights
    assert np.array_equal(guide.draw("A star.", tries=1), plain)


def test_changes_of_weights_stack_in_a_fused_model_too(files):
    model, prompt = new_model().fuse(), torch.tensor([[1, 2, 3, 4]])
    before = model(prompt).logits
    adapters = Adapters(model)
    adapters.load(files["subject"], "one")
    once = model(prompt).logits
    fused = model.fused
    adapters.load(files["subject"], "two")
    assert model.fused is not fused
    assert not torch.equal(model(prompt).logits, once)
    adapters.remove("one")
    assert torch.equal(model(prompt).logits, once)
    adapters.remove("two")
    assert torch.equal(model(prompt).logits, before)


def test_a_base_in_bfloat16_is_the_same_base(files):
    model = new_model().to(torch.bfloat16)
    assert base_hash(model) == base_hash(new_model())
    adapters = Adapters(model)
    for name in ("subject", "style", "scale_control"):
        adapters.load(files[name])
    assert {p.dtype for part in adapters.parts for p in part.parameters()} == {torch.bfloat16}
    with pytest.raises(ValueError, match="float16"):
        Adapters(new_model().half())


def test_a_part_of_a_style_may_be_loaded_alone(files):
    adapters = Adapters(new_model())
    adapters.load(files["style"], only="style")
    assert [part.config.last for part in adapters.parts] == [3]
    adapters.load(files["style"], "other", only="content")
    assert [part.config.last for part in adapters.parts] == [3, None]
    with pytest.raises(ValueError, match="has no part 'hat'"):
        adapters.load(files["style"], "third", only="hat")
    with pytest.raises(ValueError, match="a subject adapter has no part 'style'"):
        adapters.load(files["subject"], only="style")


def test_names_and_missing_controls_are_told(files):
    adapters = Adapters(new_model())
    adapters.load(files["subject"])
    with pytest.raises(ValueError, match="'subject' is loaded"):
        adapters.load(files["subject"])
    with pytest.raises(ValueError, match="no adapter called 'x' is loaded: loaded are subject"):
        adapters.remove("x")
    with pytest.raises(ValueError, match=r"unified\.train control"):
        adapters.control("edges")
    adapters.load(files["scale_control"])
    with pytest.raises(ValueError, match="reads the condition 'edges', not small"):
        adapters.control("small")


@pytest.mark.parametrize("name", ["subject", "style", "scale_control", "reference_attention"])
def test_another_base_is_refused_by_name(files, name):
    other = Adapters(new_model(1), "that model")
    before = fingerprint(other.model)
    message = r"made for UnifiedModel \(\w{12}\), but that model is \w{12}"
    with pytest.raises(ValueError, match=message) as error:
        other.load(files[name])
    assert len(str(error.value).splitlines()) == 1
    assert fingerprint(other.model) == before
    assert other.names == []


def test_damaged_files_are_refused_in_one_line(files, tmp_path):
    adapters, digest = Adapters(new_model()), base_hash(new_model())
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(files["subject"].read_bytes()[:-100])
    tensors = {"a.weight.lora_A": torch.zeros(2, 4), "a.weight.lora_B": torch.zeros(4, 2)}
    control = {"part": {"width": 64, "control": 48}, "condition": "edges", "patch": 4}
    bad = {
        "condition": AdapterFile("scale_control", tensors, digest, options={**control, "condition": []}),
        "patch": AdapterFile("scale_control", tensors, digest, options={**control, "patch": "4"}),
        "channels": AdapterFile("scale_control", tensors, digest, options={**control, "patch": 5}),
        "kind": AdapterFile("hat", tensors, digest),
        "options": AdapterFile(SUBJECT, tensors, digest),
        "rank": AdapterFile(SUBJECT, tensors, digest, options={"rank": "two", "alpha": 1}),
        "weights": AdapterFile(SUBJECT, tensors, digest, options={"rank": 2, "alpha": 1}),
        "part": AdapterFile(
            "scale_control", tensors, digest, options={**control, "part": {"control": 48, "width": -3}}
        ),
        "huge": AdapterFile(
            "scale_control", tensors, digest, options={**control, "part": {"control": 48, "width": 2**40}}
        ),
        "layers": AdapterFile(STYLE, tensors, digest, options={"style": {"layers": 3}, "content": {}}),
    }
    for name, adapter in bad.items():
        save_adapter(tmp_path / f"{name}.safetensors", adapter)
    before = fingerprint(adapters.model)
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(ValueError, match=str(path.name)) as error:
            adapters.load(path)
        assert len(str(error.value).splitlines()) == 1, path.name
    assert adapters.names == []
    assert fingerprint(adapters.model) == before
