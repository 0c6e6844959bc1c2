"""`fine-tune`: own data in every form, the recipe that it writes, resuming, and what it says to bad input."""

import json
import shutil
from argparse import Namespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from unified.tasks.outside.stored import open_stored
from unified.train.__main__ import main
from unified.train.lock import alone
from unified.train.machine import Machine
from unified.train.own_data import DataOptions, form_of, read_argument, sources_of
from unified.train.recipe import RECIPE_KINDS, ModelRecipe
from unified.train.recipes import RECIPES
from unified.train.run import prepare_all, run
from unified.train.stored import from_json, to_json

import unified
from unified.pretrained import load_model, load_processor

SMALL = ["--cpu", "--workers", "1", "--rows", "2", "--size", "16", "--steps", "4"]
STAGE = "stages/0-fine-tune"


def picture(number):
    return Image.fromarray(np.random.default_rng(number).integers(0, 256, (20, 20, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder of data in several forms."""
    root = tmp_path_factory.mktemp("data")
    (root / "photos").mkdir()
    lines = []
    for number in range(5):
        picture(number).save(root / "photos" / f"{number}.png")
        lines.append(json.dumps({"file_name": f"{number}.png", "text": f"Picture {number}."}))
    (root / "photos" / "metadata.jsonl").write_text("\n".join(lines))
    turns = [{"from": "human", "value": "<image>\nWhich?"}, {"from": "gpt", "value": "One."}]
    (root / "talk.json").write_text(json.dumps([{"image": "photos/1.png", "conversations": turns}] * 3))
    (root / "pairs.jsonl").write_text(json.dumps({"prompt": "Hi", "chosen": "Hello.", "rejected": "No."}))
    return root


def command(smoke, out, *paths, more=(), override=True):
    overrides = ["--override", "stages.0.bf16=false", "stages.0.length=256"] if override else []
    given = ["fine-tune", "--model", str(smoke / "model"), "--data", *map(str, paths), "--out", str(out)]
    return main([*given, *SMALL, *more, *overrides])


@pytest.fixture
def fine_tune(smoke, tmp_path):
    return lambda *paths, **options: command(smoke, tmp_path / "run", *paths, **options)


@pytest.fixture(scope="module")
def adapted(smoke, data, tmp_path_factory):
    """The folder of a run that trained adapters alone."""
    out = tmp_path_factory.mktemp("adapted") / "run"
    assert command(smoke, out, data / "talk.json", more=["--lora", "2"]) == 0
    return out


def weights(folder):
    return load_file(folder / STAGE / "weights.safetensors")


# Runs -------------------------------------------------------------------------------------------------------


def test_a_fine_tuned_model_has_the_tokenizers_and_shape_of_its_start(
    fine_tune, data, smoke, tmp_path, capsys
):
    assert fine_tune(data / "photos", data / "talk.json", f"again={data / 'talk.json'}") == 0
    said = capsys.readouterr().out
    assert "photos-draw: 5 samples" in said
    assert "again: 3 samples" in said
    old, new = (load_model(folder / "model") for folder in (smoke, tmp_path / "run"))
    assert old[0].config.to_dict() == new[0].config.to_dict()
    assert (old[1].vocabulary, old[1].sides) == (new[1].vocabulary, new[1].sides)
    assert all(torch.equal(v, new[1].visual.state_dict()[n]) for n, v in old[1].visual.state_dict().items())
    assert any(not torch.equal(v, new[0].state_dict()[n]) for n, v in old[0].state_dict().items())
    logged = (tmp_path / "run" / STAGE / "log.jsonl").read_text()
    assert "task_talk" in logged
    assert "task_again" in logged


def test_a_saved_recipe_runs_to_the_same_weights(fine_tune, data, tmp_path):
    assert fine_tune(data / "photos") == 0
    saved = tmp_path / "run" / "recipe.json"
    out = tmp_path / "again"
    assert main([str(saved), "--out", str(out), "--cpu", "--workers", "1"]) == 0
    one, two = weights(tmp_path / "run"), weights(out)
    assert all(torch.equal(value, two[name]) for name, value in one.items())
    assert (out / "recipe.json").read_text() == saved.read_text()


def test_a_resumed_run_ends_at_the_same_weights(adapted, smoke, data, tmp_path):
    again = shutil.copytree(adapted, tmp_path / "again")
    (again / STAGE / "weights.safetensors").unlink()
    shutil.rmtree(again / STAGE / "checkpoint-4")
    shutil.rmtree(again / "model")
    assert command(smoke, again, data / "talk.json", more=["--lora", "2"]) == 0
    one, two = weights(adapted), weights(again)
    assert all(torch.equal(value, two[name]) for name, value in one.items())


def test_a_stage_of_lora_keeps_its_adapters(adapted, smoke):
    from peft import PeftModel

    folder, merged = adapted / STAGE / "adapter", weights(adapted)
    loaded = load_model(folder)[0].state_dict()
    onto = PeftModel.from_pretrained(load_model(smoke / "model")[0], str(folder)).merge_and_unload()
    changed = 0
    for name, value in load_model(smoke / "model")[0].state_dict().items():
        torch.testing.assert_close(loaded[name], merged[name])
        torch.testing.assert_close(onto.state_dict()[name], merged[name])
        changed += not torch.equal(merged[name], value)
    assert changed == 14


def test_a_checkpoint_of_a_stage_loads(adapted, smoke):
    one, found = (
        weights(adapted),
        unified.load(adapted / STAGE / "checkpoint-4", device="cpu", dtype="float32"),
    )
    for name, value in found.model.state_dict().items():
        torch.testing.assert_close(value, one[name])
    whole, _ = load_model(smoke / "stages" / "0-all" / "checkpoint-12")
    assert whole.config.words == load_model(smoke / "model")[0].config.words


def test_two_runs_in_one_folder_are_refused(fine_tune, data, tmp_path, capsys):
    with alone(tmp_path / "run"):
        assert fine_tune(data / "talk.json") == 2
        recipe = RECIPES["nano_smoke"]()
        with pytest.raises(ValueError, match="in use by another run"):
            run(recipe, Machine(out=tmp_path / "run", cpu=True))
    assert "in use by another run" in capsys.readouterr().err
    assert not (tmp_path / "run" / "data").exists()


# The shipped model ------------------------------------------------------------------------------------------


def test_nano_tune_takes_tokenizers_and_shape_from_the_shipped_model(tmp_path):
    from unified.train.build import start_model
    from unified.train.run import tokenizers_of

    from unified.pretrained import find

    recipe = RECIPES["nano_tune"]()
    assert (recipe.tokenizers, recipe.model, recipe.start) == (None, None, "shipped")
    model = start_model(find(recipe.start))
    found = tokenizers_of(recipe, Machine(out=tmp_path)).processor()
    assert model.config.words == found.vocabulary == load_processor(find(None)).vocabulary
    assert model.config.extras["transition"]["channels"] == 104
    assert model.attention == "by_sample"


def test_a_start_that_does_not_fit_is_refused_before_data_are_made(smoke, make_arguments, tmp_path, capsys):
    settings = [f"start={smoke / 'model'}", "model.width=64"]
    assert main(make_arguments(tmp_path / "out", *settings, "data.split=test")) == 2
    error = capsys.readouterr().err
    assert "does not fit the recipe's model" in error
    assert not list((smoke / "data").glob("*-test-*"))


# Data -------------------------------------------------------------------------------------------------------


def test_forms_are_told_by_what_lies_there(data, tmp_path):
    assert form_of(data / "photos") == "both"
    assert form_of(data / "talk.json") == "llava"
    assert form_of(data / "pairs.jsonl") == "preference"
    (tmp_path / "a.mp4").touch()
    assert form_of(tmp_path) == "recordings"
    assert read_argument(f"mine={data / 'photos'}:draw").name == "mine"
    sources = sources_of([read_argument(str(data / "talk.json"))] * 2, DataOptions(size=16))
    assert [source.name for source in sources] == ["talk", "talk-2"]


def test_data_that_have_changed_are_refused(data, smoke, tmp_path):
    folder = shutil.copytree(data / "photos", tmp_path / "photos")
    sources = sources_of([read_argument(f"{folder}:read")], DataOptions(size=16))
    picture(99).save(folder / "0.png")
    recipe = RECIPES["nano_smoke"]()
    stage = recipe.stages[0]
    text = json.loads(to_json(recipe)) | {"start": str(smoke / "model"), "tokenizers": None, "model": None}
    text["data"]["sources"] = [json.loads(json.dumps(vars(sources[0])))]
    text["stages"][0]["data"]["mixture"] = {"photos": 1.0}
    made = from_json(json.dumps(text), RECIPE_KINDS)
    assert isinstance(made, ModelRecipe)
    assert made.stages[0].optimisation == stage.optimisation
    with pytest.raises(ValueError, match="have changed since"):
        prepare_all(made, Machine(out=tmp_path / "out"))


def test_ids_that_build_has_written_are_trained_on_as_they_are(smoke, tmp_path):
    from datasets import Dataset
    from unified.train.prepared import Tokenizers, prepare

    processor = load_processor(smoke / "model")
    talk = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]
    ids = processor.encode(talk)
    for name, rows in (("good", [ids] * 3), ("bad", [ids, [*ids, 10**6]])):
        Dataset.from_dict({"ids": rows}).save_to_disk(str(tmp_path / name))
    assert open_stored(tmp_path / "good").column_names == ["ids"]
    tokenizers = Tokenizers.of_model(smoke / "model")
    good, bad = (
        sources_of([read_argument(str(tmp_path / name))], DataOptions(size=16))[0] for name in ("good", "bad")
    )
    assert prepare(good, 0, "train", tokenizers, tmp_path / "made").ids(2) == ids
    with pytest.raises(ValueError, match="bad row 1: no stream of this model's"):
        prepare(bad, 0, "train", tokenizers, tmp_path / "made")


def test_pairs_of_replies_are_learned_by_the_command_for_them(fine_tune, data, tmp_path):
    assert fine_tune(data / "pairs.jsonl", more=["--steps", "1"], override=False) == 0
    recipe = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert recipe["recipe"] == "PreferenceRecipe"
    assert recipe["stages"][0]["batch"]["rows"] == 2
    assert to_json(from_json(json.dumps(recipe), RECIPE_KINDS)) == (tmp_path / "run/recipe.json").read_text()
    load_model(tmp_path / "run" / "model")


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_comes_back_from_its_json(name):
    recipe = RECIPES[name]()
    assert to_json(from_json(to_json(recipe), RECIPE_KINDS)) == to_json(recipe)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: "{", "not JSON"),
        (lambda data: "[]", "not a recipe"),
        (lambda data: json.dumps({**data, "sed": 1}), "sed: unknown key"),
        (lambda data: json.dumps({**data, "seed": "x"}), "seed: expected a whole number"),
        (
            lambda data: json.dumps({**data, "stages": [{**data["stages"][0], "steps": 0}]}),
            "steps must be at",
        ),
    ],
)
def test_a_bad_recipe_file_is_one_line_and_status_2(change, words, tmp_path, capsys):
    path = tmp_path / "mine.json"
    path.write_text(change(json.loads(to_json(RECIPES["nano_smoke"]()))))
    assert main([str(path), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nowhere", "no such file or folder"),
        ("photos:paint", "unknown form 'paint'"),
        ("photos pairs.jsonl", "in a run of their own"),
        ("empty", "neither images with captions"),
        ("broken", "metadata.jsonl: the file is empty"),
    ],
)
def test_bad_data_are_one_line_and_status_2(fine_tune, data, text, words, tmp_path, capsys, monkeypatch):
    root = shutil.copytree(data, tmp_path / "data")
    (root / "empty").mkdir()
    (root / "broken").mkdir()
    (root / "broken" / "metadata.jsonl").write_text("\n")
    monkeypatch.chdir(root)
    text = f"{text}:read" if text == "broken" else text
    assert fine_tune(*text.split()) == 2
    error = capsys.readouterr().err
    assert words in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "run" / "stages").exists()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--epochs", "0"], "--epochs must be above 0"),
        (["--epochs", "nan"], "--epochs must be above 0"),
        (["--epochs", "1e300"], "--epochs must be above 0 and at most"),
        (["--steps", "0"], "--steps must be at least 1, got 0"),
        (["--steps", "-1"], "--steps must be at least 1, got -1"),
        (["--length", "0"], "length must be at least 1, got 0"),
        (["--learning-rate", "0"], "learning_rate and clip must be positive"),
        (["--size", "0"], "size must be a side of 8 to 4096 pixels"),
    ],
)
def test_numbers_out_of_range_are_refused_before_data_are_made(
    fine_tune, data, more, words, tmp_path, capsys
):
    assert fine_tune(data / "photos", more=more) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "run" / "data").exists()


def test_options_that_do_not_hold_for_pairs_are_refused(fine_tune, data, tmp_path, capsys):
    assert fine_tune(data / "pairs.jsonl", more=["--epochs", "5"], override=False) == 2
    assert "--epochs does not hold for pairs" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_file_without_records_is_named(tmp_path):
    (tmp_path / "none.json").write_text("[]")
    with pytest.raises(ValueError, match=r"none\.json: no records in it"):
        form_of(tmp_path / "none.json")


def test_what_is_left_out_is_told_once(fine_tune, data, tmp_path, capsys):
    root = shutil.copytree(data / "photos", tmp_path / "some")
    with (root / "metadata.jsonl").open("a") as file:
        file.write("\n" + json.dumps({"file_name": "gone.png", "text": "Nothing."}))
    assert fine_tune(root, more=["--steps", "1", "--skip-bad"]) == 0
    assert capsys.readouterr().err.count("no such image 'gone.png'") == 1


def test_epochs_are_steps(smoke, data, tmp_path):
    from unified.train.fine_tune import parser, recipe_of, sized

    given = ["--model", str(smoke / "model"), "--data", str(data / "photos"), "--out", str(tmp_path)]
    more = ["--rows", "2", "--length", "128", "--size", "16", "--epochs", "40"]
    options: Namespace = parser().parse_args([*given, *more, "--cpu"])
    made = sized(
        recipe_of(options, [read_argument(str(data / "photos"))]), Machine(out=tmp_path, cpu=True), options
    )
    stage = made.stages[0]
    total = sum(stage.data.mixture.values())
    assert stage.steps == round(40 * total / (2 * 128 * 0.97))
    assert set(stage.data.mixture) == {"photos-read", "photos-draw"}
