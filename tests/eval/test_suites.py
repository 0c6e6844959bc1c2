"""The suites on a tiny random model, and on stand-ins that know the answers (or ignore the question)."""

import json
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from unified.envs.recordings import write_recording
from unified.eval import measurement
from unified.eval.measurement import Example, Goal, Result, Run, Table
from unified.eval.metrics.lpips import ALEXNET, Activations
from unified.eval.metrics.rates import Estimate, rate
from unified.eval.report import chart, table_lines, write_report
from unified.eval.suites import SUITES, drawing, editing, mazes, questions, scripted, world
from unified.eval.suites.scripted import away_and_back, own_place, scripted_clips, standing_still
from unified.eval.suites.tokenizer import domains
from unified.tasks.scenes.scene_tasks import SceneConfig, SceneQuestion
from unified.tasks.worlds.action_classes import TASKS
from unified.tasks.worlds.inverse import InverseConfig, InverseModel, save
from unified.tokenizers.images import to_images

from unified.apps.assistant import Assistant
from unified.apps.demo import random_model

SIDE = 32  # the least that the scene parser reads


@pytest.fixture(scope="module")
def assistant():
    return Assistant(*random_model(), side=SIDE)


@pytest.fixture
def run(assistant):
    return Run(assistant=assistant, count=4, batch=2)


class Knows(Run):
    """Answers from the samples themselves: what a perfect model would say."""

    def answers(self, samples, settings, prompts=None):
        if prompts is not None and not samples:
            return [[{"type": "text", "text": "no"}] for _ in prompts]
        return [sample.messages[-1]["content"] for sample in samples]

    def best_of_n_answers(self, samples, settings):
        return self.answers(samples, settings)


@pytest.fixture
def knowing(assistant):
    return Knows(assistant=assistant, count=12)


@pytest.fixture
def short(monkeypatch):
    """Random models do not stop talking: in mazes they are stopped early."""
    modes = mazes.__globals__["MODES"]
    short = {name: replace(settings, max_tokens=12) for name, settings in modes.items()}
    monkeypatch.setitem(mazes.__globals__, "MODES", short)


@pytest.mark.parametrize("name", [name for name in SUITES if name != "ood"])  # that one: tests/eval/ood
@pytest.mark.slow
def test_every_suite_runs_is_repeatable_and_is_plain_data(name, run, short, monkeypatch):
    monkeypatch.setitem(world.__globals__, "HORIZONS", (1, 16))
    monkeypatch.setattr(scripted, "TURNS", 1)
    monkeypatch.setattr(scripted, "MOST_CLIPS", 2)
    run = replace(run, batch=4) if name == "world" else run
    if name in ("mazes", "tokenizer"):
        run = replace(run, assistant=_large(run))
    result = SUITES[name](run)
    assert json.dumps(measurement.plain(result.numbers))
    assert result.tables
    assert result.goals
    assert not any(goal.reached for goal in result.goals if goal.unit != "" and "world" in goal.what)
    again = SUITES[name](replace(run, batch=3))
    pairs = zip(figures(again.numbers), figures(result.numbers), strict=True)
    assert all(new == pytest.approx(old, abs=0.01) for new, old in pairs), "the batch changes nothing"


def test_codes_are_counted_over_more_images_than_are_decoded(run):
    run = replace(run, assistant=_large(run), count=2)
    numbers = SUITES["tokenizer"](run).numbers
    visual = run.assistant.visual
    shapes = run.assistant.processor.schedule((64 // visual.stride, 64 // visual.stride))
    for name, images in domains(run).items():
        seen = np.stack(list(islice(images, 16)))
        maps = visual.encode(to_images(seen), shapes)
        used = set(np.concatenate([ids.reshape(-1).cpu().numpy() for ids in maps]).tolist())
        assert numbers[name]["usage"] == len(used) / visual.codes
        assert (numbers[name]["images"], numbers[name]["images_of_usage"]) == (2, 16)


def figures(value):
    """All numbers of a result, in order."""
    if isinstance(value, dict):
        return [figure for item in value.values() for figure in figures(item)]
    if isinstance(value, list):
        return [figure for item in value for figure in figures(item)]
    if isinstance(value, Estimate):
        return [value.value, value.low, value.high, value.trials]
    return [value] if isinstance(value, (int, float)) else []


def test_a_model_that_knows_scores_all(knowing, short):
    found = questions(knowing).numbers
    assert found["all"].value == found["compositional"].value == 1
    assert found["all"].trials == 12
    assert sum(kind.trials for kind in found["by_kind"].values()) == 12
    found = editing(replace(knowing, assistant=_large(knowing))).numbers
    assert found["all"]["both"].value == 1
    assert found["left_as_it_was"]["done"].value < 0.2
    assert found["left_as_it_was"]["rest_unchanged"].value == 1
    found = drawing(replace(knowing, assistant=_large(knowing))).numbers
    assert found["all_prompts"]["all"].value == 1
    assert found["geneval_overall"] == 1
    assert found["complete_by_number"][3]["all"].trials == 4
    found = mazes(replace(knowing, assistant=_large(knowing))).numbers
    for group in found["with sketches"].values():
        assert group["success"].value == group["visual_success"].value == group["layout"].value == 1


def _large(run):
    return Assistant(run.assistant.model, run.assistant.processor, side=64)


def test_always_no_is_half_right_about_absent_objects(knowing):
    found = questions(replace(knowing, count=40)).numbers["absent_objects"]
    assert found["accuracy"].value == 0.5
    assert found["yes_rate"].value == 0
    assert found["by_kind"]["present"].value == 0
    assert found["by_kind"]["random"].value == found["by_kind"]["adversarial"].value == 1


def test_blind_questions_have_no_picture(knowing, monkeypatch):
    task = SceneQuestion(SceneConfig(size=SIDE))
    sample = task.sample(0, "test")
    blinded = questions.__globals__["_blinded"](sample)
    kinds = [item["type"] for message in blinded for item in message["content"]]
    assert kinds == ["text"]
    assert [item["type"] for item in sample.messages[0]["content"]] == ["image", "text"]


@pytest.mark.slow
def test_following_reads_actions_back(run, near, tmp_path):
    run = replace(run, batch=4)
    save(InverseModel(InverseConfig(width=8, size=SIDE)).eval(), tmp_path / "inverse.safetensors", {})
    result = world(replace(run, inverse=tmp_path / "inverse.safetensors"))
    found = result.numbers["action_following"]
    controls = {"actions of another clip", "true video of another clip"}
    assert set(found["scores"]) == {"true video", "imagined", *controls}
    assert found["relative"]["true video"] == 1
    assert set(found["keys"]["imagined"]) == {name for buttons in TASKS.values() for name in buttons}
    bins = found["camera"]["true video"]["yaw"]
    assert sum(one["count"] for one in bins.values()) == 4 * 16
    titles = [table.title for table in result.tables]
    assert {"Every key, read back", "Every bin of the camera, read back"} <= set(titles)
    save(InverseModel(InverseConfig(width=8, size=64)).eval(), tmp_path / "b.safetensors", {})
    with pytest.raises(ValueError, match="reads frames of 64 pixels"):
        world(replace(run, inverse=tmp_path / "b.safetensors"))
    notes = world(run)
    assert "no inverse dynamics model" in notes.notes[-1]
    assert any(goal.value is None and not goal.reached for goal in notes.goals)


@pytest.fixture
def near(monkeypatch):
    """The world suite at a few steps, without the scripts and the single actions."""
    monkeypatch.setitem(world.__globals__, "HORIZONS", (1, 16))
    for name in ("add_scripts", "add_single_actions"):
        monkeypatch.setitem(world.__globals__, name, lambda *_: None)


@pytest.mark.slow
def test_the_world_suite_takes_clips_of_recordings(run, tmp_path, near):
    """Recordings in place of the voxel world: every window of 17 frames, and no goals of that world."""
    frames = np.random.default_rng(0).integers(0, 256, (41, SIDE, SIDE, 3), dtype=np.uint8)
    actions = [{"forward": 1, "camera": (0.0, float(k % 3))} for k in range(40)]
    write_recording(tmp_path / "play", frames, actions)
    result = world(replace(run, recordings=tmp_path))
    assert result.numbers["clips"] == 40 // 17
    assert result.goals == []
    assert any(str(tmp_path) in note for note in result.notes)
    (clip, *_) = world.__globals__["recorded"](replace(run, recordings=tmp_path))
    assert any(np.array_equal(clip.frames, frames[k : k + 17]) for k in range(25))
    write_recording(tmp_path / "short" / "play", frames[:5], actions[:5])
    with pytest.raises(ValueError, match="no recording has 17 good frames in a row"):
        world(replace(run, recordings=tmp_path / "short"))


def test_copies_get_better_with_less_motion(run, near):
    run = replace(run, batch=4)
    result = world(run)
    numbers = result.numbers["by_step"]
    assert len(numbers["imagined"]["psnr"]) == 16
    copied = numbers["last frame copied"]["psnr"]
    assert copied[0] > copied[15]
    blurred = numbers["last frame blurred"]["psnr"]
    assert all(two > one for one, two in zip(copied, blurred, strict=True)), "blurring pays where things move"
    looks = result.numbers["by_horizon"]
    assert looks["sharpness"]["last frame copied"][0] == pytest.approx(1, abs=0.5)
    assert max(looks["sharpness"]["last frame blurred"]) < 0.5, "and is seen for what it is"
    assert max(looks["sharpness"]["mean of the first frames"]) < 0.8
    assert "LPIPS was not measured" in result.notes[0]
    assert sum(name.startswith("frechet[random-") for name in looks) == 1


def test_lpips_is_measured_where_there_are_weights(run, near, tmp_path):
    rng = torch.Generator().manual_seed(0)
    backbone = Activations(ALEXNET).state_dict()
    linear = {f"lin{n}.model.1.weight": torch.rand(1, w, 1, 1, generator=rng)
              for n, w in enumerate((64, 192, 384, 256, 256))}  # fmt: skip
    torch.save(backbone, tmp_path / "a.pth")
    torch.save(linear, tmp_path / "b.pth")
    result = world(replace(run, count=2, lpips=(tmp_path / "a.pth", tmp_path / "b.pth")))
    found = result.numbers["by_horizon"]["lpips-alexnet"]
    assert found["last frame copied"][0] < found["mean of the first frames"][0]
    assert not any("LPIPS" in note for note in result.notes)
    with pytest.raises(ValueError, match="features"):
        world(replace(run, lpips=(tmp_path / "b.pth", tmp_path / "b.pth")))


def test_scripts_know_the_truth():
    still = scripted_clips(3, "test", SIDE, lambda: standing_still(6))
    assert all((clip.frames == clip.frames[0]).all() for clip in still)
    turned = scripted_clips(3, "test", SIDE, away_and_back)
    assert all(len(clip.frames) == 17 for clip in turned)
    assert all((clip.frames[8] != clip.frames[0]).any() for clip in turned)
    assert all((clip.frames[16] == clip.frames[0]).all() for clip in turned)
    truth = [clip.frames[1:] for clip in turned]
    assert own_place(truth, turned) == 1
    assert own_place([truth[1], truth[2], truth[0]], turned) == 0


def test_a_report_names_what_it_shows(tmp_path):
    image = np.zeros((8, 8, 3), np.uint8)
    result = Result(
        numbers={"all": rate([1, 0]), "curve": [1.0, float("inf")]},
        tables=[Table("A table", ["kind", "value"], [["a|b", rate([1, 1])], ["c", None], ["d", 0.25]])],
        goals=[Goal("good", 0.9, 0.8), Goal("bad", 1.0, 2.0, "dB"), Goal("low", 0.6, 0.5, most=True)],
        examples=[Example("words\n", [image])],
        curves={"rise": {"a": [1.0, 2.0], "b": [3.0, 1.0]}},
        notes=["A note."],
    )
    paths = write_report(tmp_path, {"model": "tiny", "versions": {"python": "3"}}, {"demo": result})
    assert [path.name for path in paths] == ["demo.png", "report.json", "report.md"]
    data = json.loads((tmp_path / "report.json").read_text())["suites"]["demo"]
    assert data["numbers"]["all"]["trials"] == 2
    assert data["numbers"]["curve"] == [1.0, None]
    assert [goal["reached"] for goal in data["goals"]] == [True, False, False]
    text = (tmp_path / "report.md").read_text()
    for words in ("A table", "a/b", "100.0 % (34.2 to 100.0)", "MISSED", "![demo](demo.png)", "A note."):
        assert words in text
    assert chart("x", {"flat": [1.0, 1.0]}).size == (640, 300)
    assert len({len(line) for line in table_lines(result.tables[0])}) == 1
