"""Several processes: losses and weights of one, in every way of cutting a model; what they hold and save."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from unified.train.__main__ import main
from unified.train.checks import check_sharding
from unified.train.machine import Machine, Sharding
from unified.train.memory import Held, Plan, activation_estimate, groups, model_for, planned
from unified.train.override import override
from unified.train.preference.stage import PairData, PreferenceOptions, PreferenceStage
from unified.train.recipe import PreferenceRecipe
from unified.train.recipes import RECIPES
from unified.train.sharded import PART, in_files, merge, write_first
from unified.train.stage import BatchConfig
from unified.train.stored import to_json
from unified.train.tensor_file import Entry, write_tensors

ROOT = Path(__file__).resolve().parents[2]
STAGE = Path("stages") / "0-all"
WAYS = {
    "ddp": [],
    "fsdp": ["--fsdp"],
    "zero1": ["--deepspeed", "zero1"],
    "zero2_offload": ["--deepspeed", "zero2_offload"],
    "zero3": ["--deepspeed", "zero3"],
    "zero3_offload": ["--deepspeed", "zero3_offload"],
}
PLANS = {
    "ddp": Plan(gpus=2),
    "fsdp": Plan(gpus=2, fsdp=True),
    "zero1": Plan(gpus=2, zero=1),
    "zero2": Plan(gpus=2, zero=2),
    "zero3": Plan(gpus=2, zero=3),
}
SIZES = ["model.width=160", "model.heads=4", "stages.0.bf16=true"]  # matrices that ZeRO 3 cuts
LORA = ['stages.0.trains=["lora"]', "stages.0.adapter=2", "stages.0.steps=4"]


@pytest.fixture(scope="module")
def two(smoke, make_arguments, tmp_path_factory):
    """The folder of what two processes did, and what they printed; one launch for all."""
    pytest.importorskip("deepspeed")
    root = tmp_path_factory.mktemp("two")
    jobs = []
    for name, options in WAYS.items():
        jobs.append({"arguments": [*make_arguments(root / name), *options]})
    for name in ("fsdp", "zero3"):  # from checkpoint 6 on once more
        stage = root / name / STAGE
        gone = [
            *(stage / f"checkpoint-{n}" for n in (9, 12)),
            stage / "weights.safetensors",
            root / name / "model",
        ]
        jobs.append({"remove": list(map(str, gone)), "arguments": jobs[list(WAYS).index(name)]["arguments"]})
    jobs.append({"arguments": [*make_arguments(root / "lora", *LORA), "--fsdp"]})
    for name, plan in PLANS.items():
        out = root / f"memory-{name}"
        out.mkdir()
        jobs.append(
            {"name": "nano_smoke", "settings": SIZES, "number": 0, "plan": vars(plan), "out": str(out)}
        )
    (root / "jobs.json").write_text(json.dumps(jobs))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    script = str(Path(__file__).with_name("two_processes.py"))
    quiet = {
        "DS_ACCELERATOR": "cpu",
        "DS_BUILD_OPS": "0",
        "OMP_NUM_THREADS": "1",
        "KINETO_LOG_LEVEL": "99",
        "PYTHONFAULTHANDLER": "1",
    }
    environment = {**os.environ, **quiet, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, script, str(root / "jobs.json")],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return root, done.stdout


def losses(folder):
    lines = (folder / STAGE / "log.jsonl").read_text().splitlines()
    return {entry["step"]: entry["loss"] for entry in map(json.loads, lines) if "loss" in entry}


def same_weights(one, other):
    first, second = (load_file(folder / STAGE / "weights.safetensors") for folder in (one, other))
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", WAYS)
@pytest.mark.slow
def test_two_processes_give_the_losses_and_weights_of_one(name, two, smoke):
    """Of FSDP2 and ZeRO 3 also when they go on from their sixth step."""
    one, found = losses(smoke), losses(two[0] / name)
    assert found.keys() == one.keys()
    assert max(abs(one[step] - found[step]) for step in one) < 1e-4
    same_weights(smoke, two[0] / name)
    assert (
        load_file(two[0] / name / "model" / "model.safetensors").keys()
        == load_file(smoke / "model" / "model.safetensors").keys()
    )


@pytest.mark.slow
def test_runs_in_shares_went_on_from_their_checkpoints(two):
    assert two[1].count("step 6/12") == len(WAYS)
    assert two[1].count("step 7/12") == len(WAYS) + 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fsdp", "zero3"])
def test_every_process_saves_its_share_and_none_the_whole(name, two):
    folder = two[0] / name / STAGE / "checkpoint-12"
    assert not (folder / "model.safetensors").exists()
    pieces = [load_file(folder / PART.format(rank=rank, count=2)) for rank in range(2)]
    final = load_file(two[0] / name / STAGE / "weights.safetensors")
    for key, whole in final.items():
        largest = max(piece[key].numel() for piece in pieces)
        rows = -(-whole.shape[0] // 2) * (whole.numel() // whole.shape[0])
        assert largest <= max(rows, -(-whole.numel() // 2))
    merge(folder, folder / "merged.safetensors")
    merged = load_file(folder / "merged.safetensors")
    assert {key: value.shape for key, value in merged.items()} == {k: v.shape for k, v in final.items()}


@pytest.mark.slow
def test_adapters_trained_in_shares_are_merged_as_in_one_process(two, train, tmp_path):
    assert train(*LORA, out=tmp_path / "alone") == 0
    same_weights(tmp_path / "alone", two[0] / "lora")
    one, other = (
        load_file(root / STAGE / "adapter" / "adapter_model.safetensors")
        for root in (tmp_path / "alone", two[0] / "lora")
    )
    assert one.keys() == other.keys()
    assert one
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, rtol=1e-3, atol=1e-5)


def test_a_stage_of_preferences_is_planned_with_its_reference(smoke, tmp_path, capsys):
    stage = {"pairs": {"files": ["pairs.jsonl"]}, "batch": {"rows": 2, "micro_rows": 1, "length": 1024}}
    found = {}
    for name, options in {"copy": {}, "precomputed": {"reference": "precomputed"}}.items():
        path = tmp_path / f"{name}.json"
        recipe = PreferenceRecipe(
            start=str(smoke / "model"), stages=(preference(**stage, preference=options),)
        )
        path.write_text(to_json(recipe))
        assert main(["memory", str(path)]) == 0
        lines = dict(line.split()[:2] for line in capsys.readouterr().out.splitlines()[2:])
        found[name] = {key: int(value.replace(",", "")) for key, value in lines.items()}
    assert found["copy"]["reference"] == found["copy"]["parameters"] > 0
    assert found["precomputed"]["reference"] == 0
    assert found["precomputed"]["activations"] == found["copy"]["activations"] > 0


def preference(*, pairs, batch, preference):
    return PreferenceStage(
        pairs=PairData(**{**pairs, "files": tuple(pairs["files"])}),
        batch=BatchConfig(**batch),
        preference=PreferenceOptions(**preference),
    )


# Memory -----------------------------------------------------------------------------------------------------


def recipe_of(*settings):
    recipe = override(RECIPES["nano_smoke"](), settings)
    return recipe, recipe.stages[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", PLANS)
def test_a_plan_is_what_processes_hold(name, two):
    """Parameters, gradients, states of the optimiser and the average to the byte; activations within 30 %."""
    measured = Held(**json.loads((two[0] / f"memory-{name}" / "held.json").read_text()))
    recipe, stage = recipe_of(*SIZES)
    plan = planned(model_for(recipe, stage), stage, PLANS[name])
    for part in ("parameters", "gradients", "optimiser", "average", "reference"):
        assert getattr(plan, part) == getattr(measured, part), part
    assert activation_estimate(recipe, stage, 2) == pytest.approx(measured.activations, rel=0.3)


@pytest.mark.parametrize(
    "settings", [["model.layers=4"], ["model.layers=4", "stages.0.gradient_checkpointing=true"]]
)
def test_activations_of_all_layers_follow_from_two(settings):
    from unified.train.memory import activation_bytes

    recipe, stage = recipe_of(*settings)
    found = activation_bytes(model_for(recipe, stage), recipe, stage, 2)
    assert activation_estimate(recipe, stage, 2) == pytest.approx(found, rel=0.3)


def test_gradient_checkpointing_saves_memory():
    plain, less = (
        activation_estimate(*recipe_of("model.layers=8", f"stages.0.gradient_checkpointing={flag}"), 2)
        for flag in ("false", "true")
    )
    assert less < 0.6 * plain


def test_a_share_is_a_part_of_the_whole_and_muon_and_adapters_have_fewer_states():
    recipe, stage = recipe_of("stages.0.bf16=false")
    model = model_for(recipe, stage)
    numbers = sum(parameter.numel() for parameter in model.parameters())
    one = planned(model, stage, Plan())
    assert (one.parameters, one.gradients) == (4 * numbers, 4 * numbers)
    assert sum(sum(group.sizes) for group in groups(model)) == numbers
    cut = planned(model, stage, Plan(gpus=8, zero=3))
    assert numbers / 8 * 4 <= cut.gradients < one.gradients / 7
    _, muon = recipe_of("stages.0.bf16=false", "stages.0.optimiser=muon")
    assert planned(model, muon, Plan()).optimiser < one.optimiser
    recipe, lora = recipe_of('stages.0.trains=["lora"]', "stages.0.average=0")
    few = planned(model_for(recipe, lora), lora, Plan())
    assert few.gradients < one.gradients / 5
    assert few.average == 0


def test_a_reference_that_is_copied_counts():
    _, stage = recipe_of("stages.0.objective.name=dpo", "stages.0.bf16=true")
    recipe, _ = recipe_of()
    model = model_for(recipe, stage)
    numbers = sum(parameter.numel() for parameter in model.parameters())
    assert planned(model, stage, Plan(gpus=2, zero=3)).reference == 2 * numbers
    assert planned(model, stage, Plan(gpus=2)).reference == 4 * numbers


def test_the_command_prints_every_part(capsys):
    assert main(["memory", "nano_smoke", "--gpus", "2", "--zero", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "stage all: 2 x ZeRO 3, bytes of each process"
    assert [line.split()[0] for line in lines[2:]] == [
        *vars(Held(parameters=0, gradients=0, optimiser=0)),
        "total",
    ]
    values = [int(line.split()[1].replace(",", "")) for line in lines[2:]]
    assert sum(values[:-1]) == values[-1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["memory", "nano_smoke", "--gpus", "0"], "gpus must be at least 1"),
        (["memory", "nano_smoke", "--zero", "4"], "zero 0 to 3"),
        (["memory", "nano_smoke", "--zero", "3", "--fsdp"], "give one of them"),
        (["memory", "nano_smoke", "--gpus", "3"], "3 processes cannot share the 4 rows"),
        (["memory", "text_tokenizer"], "is no model"),
        (["memory", "nano", "--zero", "2"], "uses muon"),
    ],
)
def test_an_impossible_plan_is_one_line(arguments, words, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert words in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("settings", "deepspeed", "words"),
    [
        (["stages.0.optimiser=muon"], None, "uses muon"),
        (["stages.0.objective.name=dpo"], None, "needs a copy of the model as its reference"),
        ([], {"zero_optimization": {"stage": 3}}, "give one of them"),
    ],
)
def test_what_fsdp_cannot_do_is_refused_before_anything_is_made(settings, deepspeed, words, tmp_path):
    recipe, _ = recipe_of(*settings)
    with pytest.raises(ValueError, match=words):
        check_sharding(recipe, Machine(out=tmp_path, sharding=Sharding(fsdp=True, deepspeed=deepspeed)))


# Files ------------------------------------------------------------------------------------------------------


def own_memory():
    """Bytes of this process that no file backs."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon"))


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs Linux's /proc")
def test_first_weights_are_made_in_files_and_are_those_of_memory(tmp_path):
    def make():
        torch.manual_seed(3)
        return nn.Sequential(*(nn.Linear(1024, 1024) for _ in range(24)))  # 100 MB

    before = own_memory()
    with in_files(tmp_path / "scratch"):
        mapped = make()
    assert own_memory() - before < 30e6
    del mapped
    write_first(make, tmp_path / "first.safetensors")
    assert own_memory() - before < 30e6
    expected, found = make().state_dict(), load_file(tmp_path / "first.safetensors")
    assert expected.keys() == found.keys()
    assert all(torch.equal(value, found[name]) for name, value in expected.items())
    assert [path.name for path in tmp_path.iterdir() if "first" in path.name] == ["first.safetensors"]


def test_a_file_written_tensor_by_tensor_is_read_by_the_library(tmp_path):
    given = {
        "a": torch.randn(3, 4),
        "b": torch.arange(5),
        "empty": torch.zeros(0, 2),
        "half": torch.randn(2).bfloat16(),
    }
    write_tensors(tmp_path / "x.safetensors", {name: Entry.of(value) for name, value in given.items()})
    found = load_file(tmp_path / "x.safetensors")
    assert all(torch.equal(found[name], value) for name, value in given.items())
    write_tensors(
        tmp_path / "y.safetensors", {name: Entry.of(v, torch.bfloat16) for name, v in given.items()}
    )
    found = load_file(tmp_path / "y.safetensors")
    assert torch.equal(found["a"], given["a"].bfloat16())
    assert torch.equal(found["b"], given["b"])


def test_shares_are_merged_with_their_adapters_and_a_missing_one_is_named(tmp_path):
    base, down, up = torch.randn(3, 4), torch.randn(2, 4), torch.randn(3, 2)
    given = {"x.base_layer.weight": base, "x.lora_A.default.weight": down, "x.lora_B.default.weight": up}
    shapes = {name: ",".join(map(str, value.shape)) for name, value in given.items()}
    for rank in range(2):
        pieces = {
            n: torch.nn.functional.pad(v.flatten(), (0, 1)).chunk(2)[rank].clone() for n, v in given.items()
        }
        save_file(pieces, tmp_path / PART.format(rank=rank, count=2), metadata=shapes)
    merge(tmp_path, tmp_path / "whole.safetensors")
    found = load_file(tmp_path / "whole.safetensors")
    assert list(found) == ["x.weight"]
    torch.testing.assert_close(found["x.weight"], base + 2 * up @ down)
    (tmp_path / PART.format(rank=1, count=2)).unlink()
    with pytest.raises(ValueError, match="1 of 2 shares"):
        merge(tmp_path, tmp_path / "whole.safetensors")
