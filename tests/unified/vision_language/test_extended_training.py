"""An extended model learns to draw by a recipe, in stages: new parts, adapters, all of it."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from test_extension import SIZES, talk, understood
from unified.train.__main__ import main
from unified.train.recipe import ModelData, OutputConfig, Source
from unified.train.recipes.extended import extended
from unified.train.select import PREFIXES, select
from unified.train.stage import BatchConfig, OptimisationConfig, StageData
from unified.train.stored import to_json

import unified
from unified.backbone.extended_tables import is_pretrained
from unified.pretrained import load_model

SCENES = Source(task="scene_draw", samples=24, options={"size": 32, "most": 2})
NAMES = pytest.mark.parametrize("name", ["qwen2_5_vl", "qwen3_vl_tied", "gemma3"])


def recipe(start, steps):
    """The recipe of three stages on a few small drawings, of so many steps each; those of 0 are left out."""
    full = extended()
    stages = [
        replace(
            stage,
            steps=count,
            data=StageData(mixture={"scene_draw": 1.0}),
            batch=BatchConfig(rows=4, length=512, micro_rows=2, bf16=False),
            optimisation=OptimisationConfig(learning_rate=3e-3, warmup=2),
            parameters=replace(stage.parameters, adapter=2, average=0.0),
        )
        for stage, count in zip(full.stages, steps, strict=True)
        if count
    ]
    output = OutputConfig(log_every=1, save_every=4, sheet_every=0, export_bf16=False)
    return replace(
        full, start=str(start), data=ModelData(sources=(SCENES,)), stages=tuple(stages), output=output
    )


def train(folder, start, steps):
    folder.mkdir(exist_ok=True)
    (folder / "plan.json").write_text(to_json(recipe(start, steps)))
    options = ["--out", str(folder / "run"), "--cpu", "--workers", "1"]
    assert main([str(folder / "plan.json"), *options]) == 0
    return folder / "run"


def losses(stage):
    entries = [json.loads(line) for line in (stage / "log.jsonl").read_text().splitlines()]
    return [entry["loss"] for entry in entries if "loss" in entry]


@NAMES
@pytest.mark.slow
def test_it_learns_to_draw_with_its_pretrained_part_frozen(folders, name, tmp_path):
    base, words = folders.load(name)
    run = train(tmp_path, folders.extended(name), (50, 0, 0))
    found = losses(run / "stages" / "0-new")
    assert len(found) == 50
    assert sum(found[-5:]) < 0.8 * sum(found[:5])
    before, _ = folders.load_extended(name)
    after, _ = load_model(run / "model")
    changed = {
        key for key, value in after.state_dict().items() if not torch.equal(value, before.state_dict()[key])
    }
    assert {"head.projection.weight", "backbone.embed_tokens.new.weight", "text_head.new.weight"} <= changed
    assert not any(is_pretrained(key) for key in changed)
    assert not any(is_pretrained(key) for key in load_file(run / "model" / "model.safetensors"))
    prompt = words.prompt(talk(SIZES["two"]))
    logits = understood(after, prompt.ids, after.values(prompt.inputs))
    assert torch.equal(logits, base.logits([prompt.ids], base.values(prompt.inputs))[0])


def test_adapters_lie_beside_the_pretrained_part(folders, tmp_path):
    run = train(tmp_path, folders.extended("qwen2_5_vl"), (2, 4, 0))
    stored = load_file(run / "model" / "model.safetensors")
    assert not any(is_pretrained(key) for key in stored)
    assert [path.name for path in (run / "model" / "adapters").iterdir()] == ["0"]
    model, _ = load_model(run / "model")
    weights = load_file(run / "stages" / "1-adapters" / "weights.safetensors")
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, weights[key], atol=1e-6, rtol=1e-5)
    before = folders.load_extended("qwen2_5_vl")[0].state_dict()
    name = "backbone.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(model.state_dict()[name], before[name])


@pytest.mark.slow
def test_a_model_with_adapters_is_trained_on_as_a_whole(folders, tmp_path):
    first = train(tmp_path / "first", folders.extended("gemma3"), (0, 2, 0))
    second = train(tmp_path / "second", first / "model", (0, 2, 2))
    assert sorted(path.name for path in (second / "model" / "adapters").iterdir()) == ["0", "1"]
    stored = load_file(second / "model" / "model.safetensors")
    assert any(key.startswith("backbone.layers.") for key in stored)
    assert not any(".tower." in key for key in stored), "a vision tower is never trained"
    model, _ = load_model(second / "model")
    weights = load_file(second / "stages" / "1-all" / "weights.safetensors")
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, weights[key], atol=1e-6, rtol=1e-5)


def test_a_checkpoint_loads_and_a_run_is_resumed(folders, tmp_path):
    run = train(tmp_path, folders.extended("qwen2_5_vl"), (0, 6, 0))
    stage = run / "stages" / "0-adapters"
    checkpoint = stage / "checkpoint-4"
    assert not any(is_pretrained(key) for key in load_file(checkpoint / "model.safetensors"))
    assistant = unified.load(checkpoint, device="cpu", dtype="float32")
    assert assistant.draw("a red circle", size=(32, 32), tries=1).shape == (32, 32, 3)
    whole = load_file(stage / "weights.safetensors")
    (stage / "weights.safetensors").unlink()
    train(tmp_path, folders.extended("qwen2_5_vl"), (0, 6, 0))
    again = load_file(stage / "weights.safetensors")
    for key, value in whole.items():
        torch.testing.assert_close(again[key], value, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("trains", PREFIXES)
def test_no_selection_trains_the_tower(folders, trains):
    model, _ = load_model(folders.extended("qwen3_vl"))
    assert select(model, [trains], rank=2) > 0
    chosen = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert not any(".tower." in name for name in chosen)
    if trains == "new":
        assert not any(is_pretrained(name) for name in chosen)
    if trains == "lora":
        assert all("lora_" in name for name in chosen)


def test_features_of_the_tower_are_learned_from(folders):
    """A drawing of what the tower sees: pixels travel beside the ids through `forward(values=)`."""
    from unified.layout.layout import Layout
    from unified.stream.base_words import with_marks

    _, words = folders.load("qwen3_vl")
    model, processor = load_model(folders.extended("qwen3_vl"))
    select(model.train(), ["new"])
    prompt = words.prompt(talk(SIZES["one"]))
    values, vocabulary = model.values(prompt.inputs), model.vocabulary
    drawing = processor.image_item(torch.zeros(3, 32, 32), drawn=True)
    ids = [*with_marks(prompt.ids, vocabulary), *processor.stream.content([drawing]), vocabulary.end]
    batch = torch.tensor([ids])
    labels = Layout.of(batch, vocabulary, values=values).labels(batch)
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    found = []
    for _ in range(30):
        loss = model(batch, labels=labels, values=values).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        found.append(loss.item())
    assert found[-1] < 0.6 * found[0]
