"""Staged training of VARGPT-v1.1 on a tiny model: losses, what a stage trains, published stages, resuming."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from unified.train.__main__ import main
from unified.train.machine import Machine, Sharding
from unified.train.override import override
from unified.train.recipe import ModelData, OutputConfig, Source, VARGPTRecipe
from unified.train.recipes.vargpt import vargpt
from unified.train.recipes.vargpt_tune import vargpt_tune
from unified.train.run import run
from unified.train.stage import BatchConfig, ObjectiveChoice, OptimisationConfig
from unified.train.vargpt.examples import Encoder, Rows, collator
from unified.train.vargpt.run import stage_model
from unified.train.vargpt.scoring import scores_of
from unified.train.vargpt.stage import PARTS, VARGPTData, VARGPTStage, select_parts
from unified.train.vargpt.trainer import touch_all

import unified
from unified.checkpoints.vargpt import Sketch
from unified.checkpoints.vargpt_published import (
    image_log_probs,
    load_folder,
    loss,
    published_labels,
    save_folder,
)
from unified.layout.layout import IGNORED
from unified.objectives import build_objective
from unified.orders.shapes import area
from unified.vision_language.processor import load_image_half

sys.path.insert(0, str(Path(__file__).parents[2]))
import tiny_vargpt as tiny

SCENES = {"size": 32, "most": 1}
SOURCES = (
    Source(task="scene_draw", samples=6, options=SCENES),
    Source(task="scene_edit", samples=6, options=SCENES),
    Source(task="scene_quiz", samples=6, options=SCENES),
)
SMALL = BatchConfig(rows=2, length=4096, micro_rows=1, bf16=False)
FAST = OptimisationConfig(learning_rate=1e-3, warmup=0, final=1.0, weight_decay=0.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.save(tmp_path_factory.mktemp("vargpt") / "model")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """A file of two preferences between drawings: red, and not blue."""
    place = tmp_path_factory.mktemp("pairs")
    rows = []
    for number in range(2):
        for side, channel in (("good", 0), ("bad", 2)):
            pixels = np.full((36, 40, 3), 20 * number, dtype=np.uint8)
            pixels[..., channel] = 220
            Image.fromarray(pixels).save(place / f"{side}{number}.png")
        names = {"chosen_image": f"good{number}.png", "rejected_image": f"bad{number}.png"}
        rows.append({"prompt": f"Draw picture {number}.", **names})
    (place / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return str(place / "pairs.jsonl")


def stage(name="main", **more):
    given = {
        "data": VARGPTData(mixture={"scene_draw": 1.0}),
        "batch": SMALL,
        "optimisation": FAST,
        "steps": 2,
    }
    return VARGPTStage(name=name, **{**given, **more})


def rows_of(folder, chosen):
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    processor = load_image_half(folder, "qwen2_vl", Qwen2VLImageProcessorPil)
    config = replace(load_folder(folder).sizes, resolution=chosen.resolution)
    return Rows(chosen, ModelData(sources=SOURCES), Encoder.of(processor, config), 0), processor


# Losses -----------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_the_loss_is_the_published_one():
    """Of two rows, one of which draws: mean over ids of text, and three times the mean over bits."""
    model = tiny.model()
    ids, shapes = model.sizes.ids, model.sizes.shapes()
    count = model.sizes.padded(area(shapes))
    row = [5, 6, 7, ids.start, *[ids.pad] * count, ids.end]
    table = torch.tensor([row, [50 + number % 200 for number in range(len(row))]])
    bits = torch.randint(2, (1, area(shapes), 4), generator=torch.Generator().manual_seed(0))
    sketch = Sketch(vectors=model.decoder.grid.transformer_inputs(bits, shapes), shapes=shapes)
    forced, labels = model(table, sketch), published_labels(model, table)
    draws = torch.tensor([True, False])
    scores = scores_of(forced, labels, bits, shapes, draws=draws, weights=(1.0, 3.0))
    found = build_objective("cross_entropy", {}).loss(scores, None, {"rows": 2}).loss
    torch.testing.assert_close(found, loss(forced, labels, bits))
    only = scores_of(forced, labels, bits, shapes, draws=draws, weights=(0.0, 1.0))
    torch.testing.assert_close(only.per_sample()[:1, 0], image_log_probs(forced.drawn.bits, bits))
    torch.testing.assert_close(scores.step_sums[0, 1].sum(), only.per_sample()[0, 0])
    assert not only.targets[:, : table.shape[1]].any()


def test_answers_or_everything_are_learned(folder):
    for prompts in (False, True):
        rows, processor = rows_of(
            folder, stage(data=VARGPTData(mixture={"scene_draw": 1.0}, prompts=prompts))
        )
        (example,) = rows[0].examples
        learned = [token for token in example.labels if token != IGNORED]
        text = processor.tokenizer.decode(learned)
        assert ("<|turn|>user" in text) == prompts
        assert "<|image_gen_start|><|image_gen_end|><|end|>" in text
        assert tiny.config().ids.pad not in learned
        assert example.ids.count(tiny.config().ids.pad) == 640


def test_what_is_drawn_and_what_is_looked_at(folder):
    """The source of an edit goes through the tower, its result is drawn; a question draws nothing."""
    rows, _ = rows_of(folder, stage(data=VARGPTData(mixture={"scene_edit": 1.0}, zoom=1.0)))
    (example,) = rows[0].examples
    messages = rows.tasks[0]
    assert messages is not None
    assert example.drawn.shape == (3, 32, 32)
    assert example.seen["image_grid_thw"].shape[0] >= 1
    rows, _ = rows_of(folder, stage(data=VARGPTData(mixture={"scene_quiz": 1.0})))
    (example,) = rows[0].examples
    assert example.drawn is None
    batch = collator(0)([rows[0], rows[1]])
    assert batch["drawn"] is None
    assert batch["ids"].shape == batch["labels"].shape


def test_rows_are_the_same_wherever_they_are_made(folder):
    one, other = rows_of(folder, stage())[0], rows_of(folder, stage())[0]
    for number in (3, 0):
        first, second = one[number].examples[0], other[number].examples[0]
        assert first.ids == second.ids
        assert torch.equal(first.drawn, second.drawn)
    assert one[0].examples[0].ids != one[1].examples[0].ids


@pytest.mark.parametrize("name", PARTS)
def test_a_stage_trains_what_it_names(name):
    model = tiny.model()
    assert select_parts(model, [name]) > 0
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert all(n.startswith(PARTS[name]) for n in trained)
    assert not any("ln_q" in n for n in trained if n.startswith("image_gen"))
    assert select_parts(model, list(PARTS)) > sum(
        p.numel() for n, p in model.named_parameters() if n in trained
    )


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"trains": ("heads",)}, "trains must name any of"),
        ({"resolution": "2M"}, "unknown resolution"),
        ({"objective": ObjectiveChoice(name="dpo")}, "learns from files of pairs"),
        ({"data": VARGPTData(pairs=("a.jsonl",))}, "learns from a mixture"),
    ],
)
def test_what_does_not_fit_is_refused(more, said):
    with pytest.raises(ValueError, match=said):
        stage(**more)


# Runs -------------------------------------------------------------------------------------------------------


def recipe_of(folder, *stages, save_every=50):
    output = OutputConfig(log_every=1, save_every=save_every, sheet_every=0, export_bf16=False)
    return VARGPTRecipe(start=str(folder), data=ModelData(sources=SOURCES), stages=stages, output=output)


def logged(folder, name):
    lines = (folder / "stages" / name / "log.jsonl").read_text().splitlines()
    return [entry for entry in map(json.loads, lines) if "loss" in entry]


@pytest.mark.slow
def test_every_published_stage_runs_on_a_tiny_model(folder, pairs, tmp_path):
    """The recipe itself, with fewer steps and smaller batches; and what comes out draws."""
    settings = [f"start={folder}", "output.log_every=1", "output.save_every=50", "output.export_bf16=false"]
    small = []
    for one in vargpt().stages:
        mixture = {name.replace("scene_caption", "scene_quiz"): w for name, w in one.data.mixture.items()}
        data = replace(one.data, mixture=mixture, pairs=(pairs,) if one.data.pairs else ())
        batch = replace(SMALL, rows=1, gradient_checkpointing=one.name == "edit")
        rate = replace(one.optimisation, warmup=0)
        small.append(replace(one, data=data, batch=batch, optimisation=rate, steps=1, resolution="0.06M"))
    recipe = replace(vargpt(), data=ModelData(sources=SOURCES), stages=tuple(small))
    recipe = override(recipe, settings)
    done = run(recipe, Machine(out=tmp_path, cpu=True))
    for number, one in enumerate(recipe.stages):
        (entry,) = logged(tmp_path, f"{number}-{one.name}")
        assert np.isfinite(entry["loss"])
        assert ("reward_margin" in entry) == one.name.startswith("prefer")
    before, after = load_folder(folder), load_folder(done)
    changed = {
        n for n, p in before.named_parameters() if not torch.equal(p, dict(after.named_parameters())[n])
    }
    for name, prefixes in PARTS.items():
        assert any(n.startswith(prefixes) for n in changed), name
    assert unified.load(done, device="cpu", dtype="float32").draw("A circle.").shape == (32, 32, 3)


def test_the_resolution_grows_by_stage(folder, tmp_path):
    model = stage_model(stage(resolution="0.25M"), folder)
    assert len(model.sizes.shapes()) == 10
    save_folder(tmp_path, model)
    assert load_folder(tmp_path).sizes.resolution == "0.25M"


def test_drawing_is_learned_while_all_else_stays(folder, tmp_path):
    data = VARGPTData(mixture={"scene_draw": 1.0}, zoom=1.0, null=0.0)
    fast = replace(FAST, learning_rate=5e-3)
    batch = replace(SMALL, micro_rows=2)
    learned = stage(steps=8, data=data, optimisation=fast, batch=batch)
    run(recipe_of(folder, learned), Machine(out=tmp_path, cpu=True))
    losses = [entry["loss_slot"] for entry in logged(tmp_path, "0-main")]
    assert np.mean(losses[-2:]) < 0.95 * np.mean(losses[:2])
    before, after = load_folder(folder), load_folder(tmp_path / "model")
    for name, value in before.state_dict().items():
        same = torch.equal(value, after.state_dict()[name])
        assert same or not name.startswith("language."), name


def test_preferences_are_learned(folder, pairs, tmp_path):
    dpo, slow = ObjectiveChoice(name="dpo", options={"beta": 0.1}), replace(FAST, learning_rate=2e-5)
    chosen = stage(
        "prefer", steps=5, data=VARGPTData(pairs=(pairs,), null=0.0), objective=dpo, optimisation=slow
    )
    run(recipe_of(folder, chosen), Machine(out=tmp_path, cpu=True))
    entries = logged(tmp_path, "0-prefer")
    assert entries[0]["loss"] == pytest.approx(np.log(2), abs=1e-4)  # policy and reference are the same
    assert entries[-1]["reward_margin"] > entries[0]["reward_margin"]
    assert entries[-1]["loss"] < entries[0]["loss"]


def test_a_run_goes_on_where_it_was_interrupted(folder, tmp_path):
    short = stage(steps=2, batch=replace(SMALL, rows=1))
    whole, broken = (recipe_of(folder, short, save_every=1) for _ in range(2))
    run(whole, Machine(out=tmp_path / "whole", cpu=True))
    run(broken, Machine(out=tmp_path / "broken", cpu=True))
    for path in (tmp_path / "broken" / "stages" / "0-main" / "model", tmp_path / "broken" / "model"):
        for file in path.iterdir():
            file.unlink()
    last = tmp_path / "broken" / "stages" / "0-main" / "checkpoint-2" / "complete.json"
    last.unlink()  # the last checkpoint was not finished
    with pytest.warns(UserWarning, match="is skipped"):
        run(broken, Machine(out=tmp_path / "broken", cpu=True))
    a, b = (load_folder(tmp_path / name / "model").state_dict() for name in ("whole", "broken"))
    for name, value in a.items():
        torch.testing.assert_close(b[name], value, atol=1e-6, rtol=1e-5, msg=name)


def test_bad_input_is_one_line_and_status_2(folder, tmp_path, capsys):
    for name, words, said in (
        ("vargpt_tune", ["start=nowhere"], "nowhere: no such model folder"),
        ("vargpt", [f"start={folder}"], "pairs.jsonl: no such file of pairs"),
        ("vargpt", ['stages.0.trains=["heads"]'], "trains must name any of"),
        ("vargpt", [], "start names no model"),
    ):
        given = ["--override", *words] if words else []
        assert main([name, "--cpu", "--out", str(tmp_path / said[:6]), *given]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1


def test_sharding_is_refused(folder, tmp_path):
    with pytest.raises(ValueError, match="whole in every process"):
        run(recipe_of(folder, stage()), Machine(out=tmp_path, cpu=True, sharding=Sharding(fsdp=True)))


def test_every_trained_parameter_has_a_gradient_in_every_process(folder):
    """Though this batch has neither a drawing nor a picture."""
    model = stage_model(stage(trains=tuple(PARTS)), folder)
    model.register_forward_hook(touch_all)
    ids = torch.arange(50, 60)[None]
    before = load_folder(folder)(ids).text
    forced = model(ids)
    torch.testing.assert_close(forced.text, before)
    forced.text.logsumexp(dim=-1).sum().backward()
    trained = [p for p in model.parameters() if p.requires_grad]
    assert all(p.grad is not None for p in trained)


def test_the_recipes_continue_from_the_released_weights():
    assert vargpt_tune().start == "VARGPT-family/VARGPT-v1.1"
    stages = vargpt().stages
    assert [one.resolution for one in stages] == ["0.06M"] * 4 + ["0.25M"] * 3
    assert [one.steps for one in stages] == [2000, 3100, 40000, 5000, 30000, 3000, 2000]
    assert [one.objective.name for one in stages if one.data.pairs] == ["dpo", "dpo"]
