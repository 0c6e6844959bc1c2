"""Runs as a user starts them: results, resuming, killing, what is trained, several processes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from unified.tokenizers.networks import NetworkConfig
from unified.tokenizers.vq import VQConfig, VQTokenizer
from unified.train.__main__ import main
from unified.train.average import Average
from unified.train.build import first_model
from unified.train.checkpoints import latest_checkpoint, mark_complete, problem
from unified.train.folders import load_visual
from unified.train.override import override
from unified.train.recipe import DecoderShape, ModelShape
from unified.train.recipes import RECIPES
from unified.train.select import PREFIXES, merge_adapters, select
from unified.train.tokenizer import TokenizerTrainingConfig, train_tokenizer
from unified.train.tokenizer_state import Saving
from unified.train.train_tokenizers import visual_tokenizer

from unified.pretrained import load_model
from unified.stream.vocabulary import Vocabulary

ROOT = Path(__file__).resolve().parents[2]
STAGE = Path("stages") / "0-all"


def losses(folder):
    """Losses by step."""
    lines = (folder / STAGE / "log.jsonl").read_text().splitlines()
    return {entry["step"]: entry["loss"] for entry in map(json.loads, lines) if "loss" in entry}


def same_weights(one, other, **tolerance):
    first, second = (load_file(folder / STAGE / "weights.safetensors") for folder in (one, other))
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, **(tolerance or {"rtol": 0, "atol": 0}))


# Results ----------------------------------------------------------------------------------------------------


def test_a_run_leaves_a_model_that_loads(smoke):
    model, processor = load_model(smoke / "model")
    stored = load_file(smoke / STAGE / "weights.safetensors")
    for name, value in model.state_dict().items():
        assert torch.equal(value, stored[name].bfloat16().float())
    assert processor.sides == (1, 2)
    assert processor.visual.codes == 64


def test_a_run_logs_every_sort_of_loss_and_its_speed(smoke):
    lines = [json.loads(line) for line in (smoke / STAGE / "log.jsonl").read_text().splitlines()]
    entry = lines[5]
    sides = {f"loss_image_{side}" for side in (1, 2, 4)}
    assert {"loss", "loss_text", "task_scene_draw", "tokens_per_second", "mfu"} | sides <= set(entry)
    assert np.isfinite([value for value in entry.values()]).all()
    assert list((smoke / STAGE / "tensorboard").rglob("events*"))
    assert json.loads((smoke / "recipe.json").read_text())["name"] == "nano_smoke"


def test_a_run_draws_sheets(smoke):
    from PIL import Image

    with Image.open(smoke / STAGE / "sheets" / "step-0000012.png") as sheet:
        assert sheet.size[0] > 300
        assert len(set(sheet.convert("RGB").getdata())) > 1000


def test_the_loss_falls(train, tmp_path):
    longer = ["stages.0.steps=80", "save_every=100", "log_every=1"]
    assert train(*longer) == 0
    curve = list(losses(tmp_path / "out").values())
    assert np.mean(curve[-10:]) < np.mean(curve[:10]) - 0.5


# Interruptions ----------------------------------------------------------------------------------------------


def resume(smoke, folder):
    quiet = ["sheet_every=12", "save_every=3", "keep=4"]
    return main(["nano_smoke", "--out", str(folder), "--cpu", "--workers", "1", "--override", *quiet])


def test_a_resumed_run_is_the_uninterrupted_one(smoke, begun):
    for step in (9, 12):
        shutil.rmtree(begun / STAGE / f"checkpoint-{step}")
    assert resume(smoke, begun) == 0
    assert losses(begun) == losses(smoke)
    same_weights(begun, smoke)


def test_a_run_begun_before_recipes_had_groups_is_resumed(smoke, begun):
    stored = json.loads(Path(__file__).with_name("nano_smoke_before_groups.json").read_text())
    stored.update(sheet_every=12, save_every=3, keep=4)
    (begun / "recipe.json").write_text(json.dumps(stored, indent=2) + "\n")
    shutil.rmtree(begun / STAGE / "checkpoint-12")
    assert resume(smoke, begun) == 0
    assert "optimisation" in json.loads((begun / "recipe.json").read_text())["stages"][0]
    same_weights(begun, smoke)


def test_damaged_checkpoints_are_skipped_with_a_warning(smoke, begun, capsys):
    (begun / STAGE / "checkpoint-12" / "complete.json").unlink()
    weights = begun / STAGE / "checkpoint-9" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)
    assert resume(smoke, begun) == 0
    errors = capsys.readouterr().err
    assert "checkpoint-12 is skipped: it was not finished" in errors
    assert "checkpoint-9 is skipped: model.safetensors is damaged" in errors
    assert losses(begun) == losses(smoke)
    same_weights(begun, smoke)


@pytest.mark.slow
def test_a_run_killed_at_any_moment_goes_on_as_if_it_had_not_been(smoke, make_arguments, train, tmp_path):
    settings = ["stages.0.steps=24", "save_every=2", "keep=2"]
    assert train(*settings, out=tmp_path / "straight") == 0
    folder = tmp_path / "killed"
    command = [sys.executable, "-m", "unified.train", *make_arguments(folder, *settings)]
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL)
    deadline = time.time() + 90
    while not list((folder / STAGE).glob("checkpoint-[4-9]")) and time.time() < deadline:
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (folder / STAGE / "weights.safetensors").exists()
    assert train(*settings, out=folder) == 0
    assert losses(folder) == losses(tmp_path / "straight")
    same_weights(folder, tmp_path / "straight")


def test_a_finished_run_is_left_as_it_is(smoke, train, tmp_path):
    assert train() == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "stages").rglob("*.safetensors")}
    assert train() == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_another_recipe_in_the_same_folder_is_refused(train, capsys):
    assert train("stages.0.steps=2") == 0
    assert train("stages.0.steps=3") == 2
    assert "stages.0.steps was 2" in capsys.readouterr().err


def test_completeness_is_of_every_file(tmp_path):
    folder = tmp_path / "checkpoint-5"
    folder.mkdir()
    (folder / "a.bin").write_bytes(b"12345")
    assert problem(folder) == "it was not finished"
    mark_complete(folder)
    assert problem(folder) == ""
    assert latest_checkpoint(tmp_path) == folder
    (folder / "a.bin").write_bytes(b"1234")
    assert problem(folder) == "a.bin is damaged"
    (folder / "a.bin").unlink()
    assert problem(folder) == "a.bin is missing"
    (folder / "complete.json").write_text("{")
    assert problem(folder) == "complete.json is damaged"
    with pytest.warns(UserWarning, match="skipped"):
        assert latest_checkpoint(tmp_path) is None


def test_tokenizer_training_resumes_and_skips_a_damaged_checkpoint(tmp_path):
    network = NetworkConfig(width=32, multipliers=(1, 1), blocks=0, attention=False, middle_attention=False)
    config = TokenizerTrainingConfig(steps=12, log_every=4, average=0.9)
    images = torch.randn(12, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)

    def run(name, stop=12):
        torch.manual_seed(0)
        tokenizer = VQTokenizer(VQConfig(codes=16, dim=4, encoder=network))
        saving = Saving(tmp_path / f"{name}.pt", every=3)
        feed = iter(images[saving.step() : stop])
        generator = torch.Generator().manual_seed(0)
        return tokenizer, train_tokenizer(tokenizer, feed, config, generator=generator, saving=saving)

    expected, records = run("straight")
    with pytest.raises(ValueError, match="after 8 of 12"):
        run("broken", stop=8)
    path = tmp_path / "broken.pt"
    path.write_bytes(path.read_bytes()[:-100])  # step 6; step 3 lies beside it
    with pytest.warns(UserWarning, match="damaged"):
        found, again = run("broken")
    assert again == records
    for name, value in expected.state_dict().items():
        assert torch.equal(value, found.state_dict()[name])


# What is trained --------------------------------------------------------------------------------------------


def tiny():
    return first_model(
        ModelShape(decoder=DecoderShape(width=32, layers=2, heads=2, kv_heads=1)), Vocabulary(), 0
    )


@pytest.mark.parametrize("name", [name for name in PREFIXES if name != "lora"])
def test_a_selection_trains_its_parts_and_nothing_else(name):
    model = tiny()
    count = select(model, (name,))
    chosen = {key for key, p in model.named_parameters() if p.requires_grad}
    assert 0 < count <= sum(p.numel() for p in model.parameters())
    assert all(key.startswith(PREFIXES[name]) for key in chosen)
    assert ("backbone.embed_tokens.weight" in chosen) == (name in ("all", "tables"))


def test_adapters_leave_the_model_as_it_was_and_merge_into_what_they_learned():
    model = tiny()
    ids = torch.tensor([[model.vocabulary.begin, model.vocabulary.user, 5, 6, 7]])
    before = model(ids).logits
    names = list(model.state_dict())
    select(model, ("lora",), rank=4)
    trained = [p for p in model.parameters() if p.requires_grad]
    assert torch.equal(model(ids).logits, before)
    with torch.no_grad():
        for parameter in trained:
            parameter.add_(0.05)
    learned = model(ids).logits
    merged = merge_adapters(model)
    assert list(merged.state_dict()) == names
    torch.testing.assert_close(merged(ids).logits, learned, rtol=1e-4, atol=1e-4)
    assert (learned - before)[before.isfinite()].abs().max() > 1e-3


def test_a_stage_of_adapters_changes_the_decoder_alone(train, smoke, tmp_path, monkeypatch):
    recipe = RECIPES["nano_smoke"]()
    first = replace(recipe.stages[0], steps=3)
    second = override(first, ["name=adapt", 'trains=["lora"]', "adapter=2", "learning_rate=0.01"])
    monkeypatch.setitem(RECIPES, "two", lambda: replace(recipe, name="two", stages=(first, second)))
    assert train(name="two") == 0
    old, new = (
        load_file(tmp_path / "out" / "stages" / folder / "weights.safetensors")
        for folder in ("0-all", "1-adapt")
    )
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    assert old.keys() == new.keys()
    assert changed
    assert all("_proj" in name and name.startswith("backbone.layers") for name in changed)
    load_model(tmp_path / "out" / "model")


def test_the_average_is_the_recursion_it_says():
    model, state = torch.nn.Linear(2, 1, bias=False), type("State", (), {"global_step": 0})()
    average = Average(0.9)
    average.on_train_begin(None, state, None, model=model)
    expected = model.weight.detach().clone()
    for step in range(1, 30):
        with torch.no_grad():
            model.weight.fill_(step)
        state.global_step = step
        average.on_step_end(None, state, None, model=model)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    torch.testing.assert_close(average.whole(model)["weight"], expected)


def test_bf16_and_gradient_checkpointing_train(train, tmp_path):
    assert train("stages.0.steps=3", "stages.0.bf16=true", "stages.0.gradient_checkpointing=true") == 0
    assert len(losses(tmp_path / "out")) == 3


# Other beginnings -------------------------------------------------------------------------------------------


def test_a_visual_tokenizer_starts_from_the_networks_of_another(smoke, tmp_path):
    start, recipe = smoke / "visual_tokenizer", RECIPES["nano_smoke"]().tokenizers.visual
    still = replace(recipe.training, steps=1, learning_rate=1e-12)
    recipe = replace(recipe, start=str(start), network=replace(recipe.network, codes=32), training=still)
    made, known = visual_tokenizer(recipe, tmp_path / "new"), load_visual(start)
    assert made.codes == 32
    torch.testing.assert_close(made.encoder.conv_in.weight, known.encoder.conv_in.weight)
    with pytest.raises(ValueError, match="other networks"):
        visual_tokenizer(replace(recipe, network=replace(recipe.network, dim=4)), tmp_path / "other")


def test_a_decoder_learns_on_with_the_codes_that_are_there(smoke, tmp_path):
    start, recipe = smoke / "visual_tokenizer", RECIPES["nano_smoke"]().tokenizers.visual
    training = replace(recipe.training, steps=2, restarts=None, decoder_only=True, log_every=1)
    made = visual_tokenizer(replace(recipe, start=str(start), training=training), tmp_path / "on")
    known = load_visual(start)
    assert torch.equal(made.codebook(), known.codebook())
    assert not torch.equal(made.decoder.conv_in.weight, known.decoder.conv_in.weight)
    fewer = replace(recipe.network, codes=32)
    with pytest.raises(ValueError, match="other networks"):
        visual_tokenizer(
            replace(recipe, start=str(start), training=training, network=fewer), tmp_path / "fewer"
        )


def test_muon_trains_and_is_refused_with_deepspeed(train, tmp_path, capsys):
    assert train("stages.0.optimiser=muon", "stages.0.steps=3") == 0
    assert train("stages.0.optimiser=muon", out=tmp_path / "zero", deepspeed="zero1") == 2
    assert "muon, which needs whole matrices" in capsys.readouterr().err


def test_muon_resumes_as_if_uninterrupted(train, tmp_path):
    settings = ("stages.0.optimiser=muon", "stages.0.steps=6")
    assert train(*settings) == 0
    shutil.copytree(tmp_path / "out", tmp_path / "again")
    (tmp_path / "again" / STAGE / "weights.safetensors").unlink()
    shutil.rmtree(tmp_path / "again" / STAGE / "checkpoint-6")
    assert train(*settings, out=tmp_path / "again") == 0
    assert losses(tmp_path / "again") == losses(tmp_path / "out")
    same_weights(tmp_path / "again", tmp_path / "out")
