"""Pairs and preference tuning from the command line, and as a stage of a recipe."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from unified.train.__main__ import main
from unified.train.machine import Machine
from unified.train.override import override
from unified.train.preference.on_policy import OnPolicy
from unified.train.preference.sampling import Sampling
from unified.train.preference.stage import PairData, PairTask, PreferenceStage, unrolled
from unified.train.recipe import PreferenceRecipe
from unified.train.recipes import RECIPES
from unified.train.run import run
from unified.train.stored import to_json

import unified
from unified.pretrained import load_model

sys.path.insert(0, str(Path(__file__).parents[2]))
from local_ray import local_ray

ROOT = Path(__file__).resolve().parents[3]
TASK = [
    "--task",
    "scene_draw",
    "--options",
    '{"size": 32, "most": 2}',
    "--margin",
    "0.001",
    "--max-tokens",
    "16",
]
FAST = ["--cpu", "--steps", "4", "--batch", "4", "--micro", "2", "--learning-rate", "1e-3"]


@pytest.fixture(scope="module")
def trained(smoke):
    """The folder of a small finished model."""
    return str(smoke / "model")


@pytest.fixture(scope="module")
def pairs(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    command = [
        "pairs",
        "--model",
        trained,
        *TASK,
        "--samples",
        "4",
        "--answers",
        "3",
        "--cpu",
        "--out",
        str(path),
    ]
    assert main(command) == 0
    return path


def prefer(model, pairs, out, *more):
    return main(["prefer", "--model", model, "--pairs", str(pairs), "--out", str(out), *FAST, *more])


def entries(folder, stage="0-dpo"):
    lines = (folder / "stages" / stage / "log.jsonl").read_text().splitlines()
    return [entry for entry in map(json.loads, lines) if "loss" in entry]


def weights(folder, stage="0-dpo"):
    return load_file(folder / "stages" / stage / "weights.safetensors")


def test_pairs_are_the_best_and_the_worst_by_the_scorer(pairs, trained, tmp_path, capsys):
    found = [json.loads(line) for line in pairs.read_text().splitlines()]
    assert found
    assert all(best - worst >= 0.001 for best, worst in (row["scores"] for row in found))
    again = tmp_path / "again.jsonl"
    command = ["pairs", "--model", trained, *TASK, "--samples", "4", "--answers", "3", "--cpu", "--rows", "7"]
    assert main([*command, "--out", str(again)]) == 0
    assert again.read_bytes() == pairs.read_bytes(), (
        "a reply depends on its number and the seed, not the batch"
    )
    assert f"{len(found)} pairs of 4 prompts; mean score" in capsys.readouterr().out


def test_the_true_answer_may_be_the_chosen_one(trained, tmp_path):
    path = tmp_path / "truth.jsonl"
    command = ["pairs", "--model", trained, *TASK, "--samples", "2", "--answers", "1", "--truth", "--cpu"]
    assert main([*command, "--out", str(path)]) == 0
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(found) == 2
    assert all(row["scores"][0] > row["scores"][1] for row in found)


def test_prompts_may_come_from_a_dataset_on_disk(trained, tmp_path):
    from unified.tasks.build import build
    from unified.tasks.mixture import MixtureConfig

    config = {"size": 2, "parts": [{"task": "scene_draw", "options": {"size": 32, "most": 2}}]}
    build(MixtureConfig.from_json(config), tmp_path / "data")
    path = tmp_path / "pairs.jsonl"
    command = ["pairs", "--model", trained, "--data", str(tmp_path / "data"), *TASK, "--samples", "2"]
    assert main([*command, "--answers", "2", "--truth", "--cpu", "--out", str(path)]) == 0
    assert len(path.read_text().splitlines()) == 2
    assert main([*command, "--samples", "9", "--cpu", "--out", str(path)]) == 2


def test_a_run_tunes_the_model_and_is_found_again(trained, pairs, tmp_path):
    out = tmp_path / "run"
    assert prefer(trained, pairs, out) == 0
    losses = [entry["loss"] for entry in entries(out)]
    assert losses[0] == pytest.approx(0.693147, abs=1e-5)
    assert losses[-1] < losses[0] - 0.05
    assert unified.load(out / "model").draw("Draw a red circle.", tries=1).ndim == 3
    before = (out / "stages/0-dpo/weights.safetensors").stat().st_mtime_ns
    assert prefer(trained, pairs, out) == 0
    assert (out / "stages/0-dpo/weights.safetensors").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    "more", [[], ["--lora", "2"], ["--reference", "precomputed"]], ids=lambda m: " ".join(m)
)
def test_a_killed_run_ends_at_the_same_weights(trained, pairs, tmp_path, more, capsys):
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    more = [*more, "--save-every", "1"]
    assert prefer(trained, pairs, straight, *more) == 0
    shutil.copytree(straight, killed)
    stage = killed / "stages" / "0-dpo"
    shutil.rmtree(killed / "model")
    (stage / "weights.safetensors").unlink()
    (stage / "checkpoint-4" / "complete.json").unlink()  # killed while it was written
    assert prefer(trained, pairs, killed, *more) == 0
    assert "checkpoint-4 is skipped" in capsys.readouterr().err
    for name, value in weights(straight).items():
        torch.testing.assert_close(weights(killed)[name], value, atol=0, rtol=0, msg=name)
    assert [entry["loss"] for entry in entries(killed)] == [entry["loss"] for entry in entries(straight)]


def test_a_stage_of_lora_keeps_its_adapters(trained, pairs, tmp_path):
    assert prefer(trained, pairs, tmp_path, "--lora", "2") == 0
    stage = tmp_path / "stages" / "0-dpo"
    loaded, merged = load_model(stage / "adapter")[0].state_dict(), weights(tmp_path)
    before = load_model(trained)[0].state_dict()
    for name, value in loaded.items():
        torch.testing.assert_close(value, merged[name])
    assert any(not torch.equal(value, before[name]) for name, value in loaded.items())


def test_rounds_make_new_pairs_from_the_model_of_the_round(trained, tmp_path):
    command = [
        "prefer",
        "--model",
        trained,
        *TASK,
        "--samples",
        "2",
        "--answers",
        "3",
        "--rounds",
        "2",
        *FAST,
    ]
    assert main([*command, "--steps", "2", "--out", str(tmp_path)]) == 0
    files = [tmp_path / f"stages/{n}-dpo-{n + 1}/pairs.jsonl" for n in range(2)]
    numbers = [{json.loads(line)["index"] for line in path.read_text().splitlines()} for path in files]
    assert numbers[0] <= {0, 1}
    assert numbers[1] <= {2, 3}
    assert all(
        entries(tmp_path, f"{n}-dpo-{n + 1}")[0]["loss"] == pytest.approx(0.693147, abs=1e-5) for n in (0, 1)
    )


def test_a_recipe_may_end_with_a_stage_of_preferences(smoke, pairs, tmp_path):
    recipe = RECIPES["nano_smoke"]()
    tokenizers = replace(
        recipe.tokenizers, text=str(smoke / "text_tokenizer"), visual=str(smoke / "visual_tokenizer")
    )
    stages = (replace(recipe.stages[0], steps=2), stage_of(files=(str(pairs),)))
    recipe = replace(recipe, tokenizers=tokenizers, stages=stages)
    assert '"kind": "preference"' in to_json(recipe)
    assert override(recipe, ["stages.1.preference.beta=0.5"]).stages[1].preference.beta == 0.5
    run(recipe, Machine(out=tmp_path, data=smoke / "data", cpu=True))
    found = entries(tmp_path, "1-dpo")
    assert len(found) == 2
    assert found[0]["loss"] == pytest.approx(0.693147, abs=1e-5)
    assert unified.load(tmp_path / "model").model is not None


def stage_of(steps=2, **data):
    made = PreferenceStage(steps=steps, pairs=PairData(**data))
    return override(
        PreferenceRecipe(stages=(made,)),
        ["stages.0.batch.rows=2", "stages.0.batch.bf16=false", "stages.0.optimisation.learning_rate=0.001"],
    ).stages[0]


def test_rounds_become_stages_on_further_prompts():
    policy = OnPolicy(samples=10, sampling=Sampling(batch=4))
    stage = stage_of(source=PairTask(task="scene_draw"), on_policy=policy, rounds=3)
    found = unrolled([stage])
    assert [one.name for one in found] == ["dpo-1", "dpo-2", "dpo-3"]
    assert [one.pairs.on_policy.first for one in found] == [0, 10, 20]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["prefer"], "give --pairs FILE ... or --task NAME"),
        (["prefer", "--pairs", "gone.jsonl"], "gone.jsonl: cannot be read"),
        (["prefer", "--pairs", "x", "--weights", "fine"], "unknown weights 'fine'"),
        (["prefer", "--pairs", "x", "--loss", "best"], "unknown loss 'best'"),
        (["prefer", "--pairs", "x", "--loss", "exo_pair"], "exo_pair needs label_smoothing"),
        (["prefer", "--pairs", "x", "--loss", "sft", "--weights", "map"], "needs weights='token'"),
        (["prefer", "--pairs", "x", "--beta", "nan"], "stages.0.preference.beta must be a finite number"),
        (["prefer", "--pairs", "x", "--sft", "nan"], "stages.0.preference.sft must be a finite number"),
        (["prefer", "--pairs", "x", "--learning-rate", "inf"], "learning_rate must be a finite number"),
        (["prefer", "--pairs", "x", "--size", "0"], "size must be a side of 8 to 4096 pixels"),
        (["prefer", "--pairs", "x", "--resume", "gone"], "no checkpoint at gone"),
        (["prefer", "--pairs", "x", "--rounds", "2"], "rounds make new pairs of a task"),
        (["prefer", "--pairs", "x", "--model", "gone"], "gone: no such model folder"),
        (["pairs"], "give --task NAME"),
        (["pairs", "--task", "gone"], "unknown task 'gone'"),
        (["pairs", "--task", "scene_draw", "--margin", "0"], "margin must be positive"),
        (["pairs", "--task", "scene_draw", "--margin", "nan"], "margin must be a finite number"),
        (["pairs", "--task", "scene_draw", "--options", "{"], "--options is no JSON"),
    ],
)
def test_errors_are_one_line(command, message, tmp_path, capsys):
    out = ["--out", str(tmp_path / "out"), "--cpu"]
    assert main([*command, *out]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) == 1


def test_bad_pairs_are_named_before_training(trained, pairs, tmp_path, capsys):
    rows = [json.loads(line) for line in pairs.read_text().splitlines()]
    rows[1]["tokenizer"] = "0123456789ab"
    bad = tmp_path / "bad.jsonl"
    bad.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert prefer(trained, bad, tmp_path / "out") == 2
    assert "1 bad row: bad.jsonl:2: its ids are of the tokenizers 0123456789ab" in capsys.readouterr().err
    assert not list((tmp_path / "out").rglob("checkpoint-*"))
    assert prefer(trained, pairs, tmp_path / "out", "--steps", "1") == 0, (
        "nothing was begun: another file may be"
    )
    capsys.readouterr()
    assert prefer(trained, bad, tmp_path / "out", "--steps", "1") == 2
    assert "was begun with another recipe" in capsys.readouterr().err


def test_without_pairs_a_file_stays_as_it_was(trained, tmp_path, capsys):
    path = tmp_path / "pairs.jsonl"
    path.write_text("earlier")
    command = [
        "pairs",
        "--model",
        trained,
        *TASK,
        "--margin",
        "1000",
        "--samples",
        "1",
        "--answers",
        "2",
        "--cpu",
    ]
    assert main([*command, "--out", str(path)]) == 2
    assert "no two replies lie 1000.0 apart" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["pairs.jsonl"]
    assert path.read_text() == "earlier"
    assert main([*command, "--out", str(tmp_path)]) == 2
    assert "is a folder: name a file" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["prefer", "pairs"])
def test_a_seed_out_of_range_is_refused(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([command, "--seed", "-1"])
    assert stopped.value.code == 2
    assert "--seed: must be 0 to" in capsys.readouterr().err


def test_a_bad_picture_is_named_once(trained, tmp_path, capsys):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    bad = tmp_path / "bad.jsonl"
    bad.write_text(json.dumps({"prompt": "Draw.", "chosen_image": "broken.png", "rejected": "No."}) + "\n")
    assert prefer(trained, bad, tmp_path / "out") == 2
    assert "1 bad row: bad.jsonl:1: cannot read image 'broken.png'" in capsys.readouterr().err


SCRIPT = """
import json
import sys
import torch
from datasets import Dataset
from unified.model import UnifiedConfig, UnifiedModel
from unified.train.preference import PreferenceConfig, PreferenceTrainer

torch.manual_seed(0)
model = UnifiedModel(UnifiedConfig(vocabulary={"orders": ["next_scale"]}, initializer_range=0.2))
world = int(sys.argv[2])
args = PreferenceConfig(
    output_dir=sys.argv[1],
    max_steps=1,
    per_device_train_batch_size=1,
    gradient_accumulation_steps=8 // world,
    beta=0.5,
    sft=0.2,
    max_grad_norm=0,
    use_cpu=True,
    bf16=False,
    report_to=[],
    save_strategy="no",
    ddp_backend="gloo" if world > 1 else None,
    disable_tqdm=True,
)
trainer = PreferenceTrainer(model, args=args, train_dataset=Dataset.from_list(json.load(open(sys.argv[3]))))
found = {}


def keep(*_, **__):
    found.update({n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.grad is not None})


trainer.create_optimizer()
trainer.optimizer.register_step_pre_hook(keep)
trainer.train()
if trainer.accelerator.process_index == 0:
    torch.save(found, sys.argv[1] + "/gradients.pt")
"""


@pytest.mark.slow
def test_two_processes_give_the_gradients_of_one(tmp_path, every_sort):
    """One pair at once: in some steps one process draws an image and the other does not."""
    (tmp_path / "rows.json").write_text(json.dumps(list(every_sort)))
    (tmp_path / "script.py").write_text(SCRIPT)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    for world in (1, 2):
        (tmp_path / str(world)).mkdir()
        command = [*(launcher if world > 1 else []), str(tmp_path / "script.py"), str(tmp_path / str(world))]
        result = subprocess.run(
            [sys.executable, *command, str(world), str(tmp_path / "rows.json")],
            cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr[-3000:]
    one, two = (torch.load(tmp_path / str(world) / "gradients.pt") for world in (1, 2))
    assert max(value.abs().max() for value in one.values()) > 1e-3
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=1e-6, rtol=1e-4, msg=name)


@pytest.mark.slow
def test_a_cluster_makes_the_same_bytes(trained, tmp_path):
    command = ["pairs", "--model", trained, *TASK, "--samples", "6", "--answers", "3", "--rows", "6", "--cpu"]
    assert main([*command, "--out", str(tmp_path / "one.jsonl")]) == 0
    with local_ray():
        assert main([*command, "--out", str(tmp_path / "two.jsonl"), "--ray", "auto", "--workers", "2"]) == 0
    assert (tmp_path / "two.jsonl").read_bytes() == (tmp_path / "one.jsonl").read_bytes()


def test_processes_are_those_of_a_cluster(trained, tmp_path, capsys):
    for more in (["--workers", "2"], ["--workers", "0", "--ray", "auto"]):
        assert main(["pairs", "--model", trained, *TASK, "--out", str(tmp_path / "p.jsonl"), *more]) == 2
        assert "--workers is a number of at least 1" in capsys.readouterr().err
