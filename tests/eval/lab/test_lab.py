"""The laboratory's machinery on a ground of random weights: results that resume, verdicts, pages."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from unified.eval.lab import runner
from unified.eval.lab.conform import checks, conform
from unified.eval.lab.cross import combinations
from unified.eval.lab.experiment import (
    Criterion,
    Experiment,
    Results,
    at_least,
    at_most,
    holds,
    not_applicable,
    verdict,
)
from unified.eval.lab.experiments import EXPERIMENTS
from unified.eval.lab.experiments.scalekv import Recent
from unified.eval.lab.ground.bases import BASES, new_model
from unified.eval.lab.ground.drawing import draw
from unified.eval.lab.ground.ground import SHIPPED, Ground
from unified.eval.lab.ground.measures import likelihood
from unified.eval.lab.ground.scenes import CAPTION, caption, pictures, scene, score
from unified.eval.lab.ground.training import Course, train
from unified.eval.lab.papers import PAPERS
from unified.eval.lab.report import listed, write_report
from unified.eval.lab.sizes import FULL, TOY

from unified.apps.cli import main, parser
from unified.orders import ORDERS, GatherFeed


@pytest.fixture(scope="module")
def ground(make_ground) -> Ground:
    return make_ground("next_scale", "raster", "masked", tokenizers=("vq",))


# The ground -------------------------------------------------------------------------------------------------


def test_true_pictures_are_read_without_an_error():
    scenes = [scene(number, "validation") for number in range(5)]
    found = [score(one, picture) for one, picture in zip(scenes, pictures(scenes), strict=True)]
    assert all(one["all"] == 1 for one in found)
    assert {len(caption(one)) for one in scenes} == {CAPTION}
    assert scene(3, "validation") == scenes[3]


def test_another_picture_is_not_what_the_caption_says():
    one, other = scene(0), scene(1)
    assert score(one, pictures([other])[0])["all"] == 0


@pytest.mark.parametrize("name", ["next_scale", "masked"])
def test_drawings_do_not_depend_on_the_rows_at_once(ground, name):
    model, coder, scenes = ground.base(name), ground.tokenizer("vq"), ground.scenes("test", 3)
    three, one = (draw(model, coder, scenes, ground.how(name), seed=5, rows=rows) for rows in (3, 1))
    assert torch.equal(three.codes, one.codes)
    assert three.calls == len(set(_labels(name))) == one.calls
    assert three.pictures.shape == (3, 32, 32, 3)


def _labels(name):
    from unified.orders import plan_for

    base = BASES[name]
    return plan_for(base.order, base.shapes, (1,) if base.permuted else ()).labels.tolist()


def test_the_likelihood_by_step_adds_up_to_that_of_the_image(ground):
    base = BASES["next_scale"]
    codes, captions = ground.codes("vq", base.shapes, "validation"), ground.captions("validation")
    found = likelihood(ground.base("next_scale"), captions, codes, base.order, base.shapes)
    counts = [height * width for height, width in base.shapes]
    total = sum(a * b for a, b in zip(found["by_step"], counts, strict=True))
    assert total == pytest.approx(float(found["image"].mean()), rel=1e-5)
    assert found["nll"] == pytest.approx(total / codes.shape[1], rel=1e-5)


def test_interrupted_training_ends_with_the_same_weights(ground, tmp_path):
    base, rows = BASES["raster"], ground.batches(BASES["raster"])
    course = Course(steps=4, every=2)

    def trained(folder: Path, stop: int = 99):
        model = new_model(base, TOY)

        def loss(step):
            if step == stop:
                raise KeyboardInterrupt
            batch = rows(step, model)
            return model(batch.ids, labels=batch.labels, layout=batch.layout, return_logits=False).loss

        train(model, loss, course, folder)
        return model.state_dict()

    whole = trained(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "part", stop=3)
    again = trained(tmp_path / "part")
    assert all(torch.equal(whole[name], again[name]) for name in whole)


@pytest.mark.parametrize(("budget", "held"), [(40, [1, 5, 14, 30, 40, 40]), (1000, [1, 5, 14, 30, 66, 130])])
def test_the_window_holds_the_latest_codes_up_to_its_budget(ground, budget, held):
    found = []

    def watch(session):
        found.append(session.context.cache.length - 13 - 14)  # the prompt, and the image's header

    how = ground.how("next_scale").but(policy=Recent(budget, first=5), watch=watch)
    draw(ground.base("next_scale"), ground.tokenizer("vq"), ground.scenes("test", 1), how, seed=0, rows=1)
    assert found == held


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.safetensors")), ids=lambda path: path.stem)
def test_weights_that_ship_fit_the_code(path):
    made = Ground(FULL).base if path.stem in BASES else Ground(FULL).tokenizer
    assert made(path.stem) is not None


def test_missing_weights_are_named(tmp_path):
    with pytest.raises(ValueError, match="lab prepare"):
        Ground(TOY, tmp_path, tmp_path).tokenizer("vq")


# Experiments ------------------------------------------------------------------------------------------------


@pytest.fixture
def counted(monkeypatch):
    """An experiment that counts its runs and can be stopped."""
    calls = []

    def arm(trial, name):
        if calls.count("stop"):
            raise KeyboardInterrupt
        calls.append((name, trial.seed))
        drawn = torch.rand(1, generator=torch.Generator().manual_seed(trial.seed))
        return {"value": float(drawn) + (name == "other"), "nested": {"value": trial.seed}}

    found = Experiment(
        name="var",
        what="counting",
        arms={"one": lambda trial: arm(trial, "one"), "other": lambda trial: arm(trial, "other")},
        judge=lambda results: [at_least("more", results.difference("other", "one", "value"), 0.5)],
        minutes=0,
        shown=("value",),
    )
    monkeypatch.setitem(EXPERIMENTS, "var", found)
    return calls


def test_a_stopped_run_goes_on_with_what_is_missing(ground, counted, tmp_path):
    whole = runner.run("var", ground, range(3), tmp_path / "whole", tmp_path)
    del counted[:]
    runner.run("var", ground, range(1), tmp_path / "part", tmp_path)
    counted.append("stop")
    with pytest.raises(KeyboardInterrupt):
        runner.run("var", ground, range(3), tmp_path / "part", tmp_path)
    del counted[:]
    again = runner.run("var", ground, range(3), tmp_path / "part", tmp_path)
    assert counted == [(name, seed) for seed in (1, 2) for name in ("one", "other")]
    assert again == whole
    result = json.loads((tmp_path / "part" / "var" / "one-0.json").read_text())
    assert {"commit", "config", "seed", "machine", "seconds", "weights"} <= set(result)


def test_a_page_and_the_table_come_from_the_results(ground, counted, tmp_path):
    runner.run("var", ground, range(2), tmp_path / "results", tmp_path)
    assert "no verdict" in _page(tmp_path)
    runner.run("var", ground, range(3), tmp_path / "results", tmp_path)
    assert "**reproduced**" in _page(tmp_path)
    assert sum("| reproduced" in line for line in listed(tmp_path / "results")) == 1


def _page(folder):
    write_report(folder / "results", folder, {})
    return (folder / "var.md").read_text()


def test_a_file_that_is_no_result_is_named(counted, tmp_path):
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "one-0.json").write_text("[]")
    with pytest.raises(ValueError, match=r"one-0\.json is no result"):
        runner.read("var", tmp_path)


def test_verdicts():
    met, missed = Criterion("a", True), Criterion("b", False)
    aside, central = not_applicable("c", "too small"), not_applicable("d", "too small", central=True)
    assert verdict([met, aside], 3) == ("reproduced", "")
    assert verdict([met, missed], 3) == ("not reproduced", "b")
    assert verdict([missed, central], 3) == ("not applicable at this size", "too small")
    assert verdict([aside], 3)[0] == "not applicable at this size"
    assert verdict([met], 2) == ("no verdict", "2 of 3 seeds")


def test_criteria_say_whether_the_interval_is_clear_of_the_bound():
    assert at_least("x", [2.0, 2.1, 1.9], 1.0).clear is True
    assert at_least("x", [2.0, 0.5, 1.9], 1.0).clear is False
    assert at_most("x", [2.0, 2.1, 1.9], 1.0).met is False
    assert at_most("x", [2.0], 1.0).clear is None
    assert holds("x", [True, False, True]).met is False


def test_only_whole_seeds_count():
    results = Results({"one": {0: {"a": {"b": 1}}, 1: {"a": {"b": 2}}}, "other": {1: {"a": {"b": 5}}}})
    assert results.seeds == [1]
    assert results.difference("other", "one", "a/b") == [3]


def test_every_experiment_is_that_of_a_paper_within_its_budget():
    assert len(PAPERS) == 49
    assert set(EXPERIMENTS) <= set(PAPERS)
    assert all(one.minutes <= 30 for one in EXPERIMENTS.values())


# Conformance and combinations -------------------------------------------------------------------------------


class Peeking(GatherFeed):
    """Feeds a slot what is not known yet, and denies it."""

    def check(self, labels):
        pass


def leaky(shapes):
    """Raster order in which the first slot is fed the last code."""
    if len(shapes) != 1:
        raise ValueError("one map")
    plan = ORDERS["raster"](shapes)
    pairs = torch.tensor([[slot, (slot - 1) % plan.length] for slot in range(plan.length)])
    honest = GatherFeed.means(pairs, plan.length)
    return replace(plan, feed=Peeking(honest.index, honest.weight))


@pytest.mark.parametrize("name", ["raster", "masked", "scalekv", "hack", "variant"])
def test_registered_parts_conform(name):
    assert all(check.ok for check in checks(name))


def test_an_order_that_leaks_does_not(capsys):
    assert conform([f"{__name__}:leaky"]) > 0
    assert "FAIL leaky: no prediction sees" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["nonsense", "unified.no_module:part", "unified.orders:no_part"])
def test_unknown_parts_are_refused(name):
    with pytest.raises(ValueError, match=name.split(":")[-1]):
        list(checks(name))


def test_illegal_pairs_are_refused_with_the_reason():
    found = combinations()
    refused = [chosen for chosen, reason in found if reason]
    assert 0 < len(refused) < len(found)
    assert all(chosen["decoding"] == "speculative" for chosen in refused)


# The command ------------------------------------------------------------------------------------------------


def test_list(tmp_path, capsys):
    assert main(["lab", "list", "--json", "--out", str(tmp_path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found) == 49
    assert {one["status"] for one in found} == {"experiment"}


@pytest.mark.parametrize(
    "words",
    [
        "lab run --seeds 3 var cca",
        "lab run var --seeds 3 cca",
        "lab --seeds 3 run var cca",
        "lab run var cca --seeds 3",
    ],
)
def test_names_may_stand_before_and_after_options(words):
    options = parser().parse_args(words.split())
    assert (options.action, options.names, options.seeds) == ("run", ["var", "cca"], 3)


@pytest.mark.parametrize(
    "words",
    [
        ["run"],
        ["run", "no_such"],
        ["run", "--seeds", "2", "no_such"],
        ["prepare", "--threads", "1", "no_such"],
        ["list", "var"],
    ],
)
def test_bad_input_is_one_line(words, tmp_path, capsys):
    assert main(["lab", *words, "--work", str(tmp_path)]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_parts_conform_one_after_the_other(capsys):
    assert conform(["raster", "next_scale", "nar", "masked"]) == 0
    assert "FAIL" not in capsys.readouterr().out
