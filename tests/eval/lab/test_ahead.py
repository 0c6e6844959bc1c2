"""Experiments that see ahead, act, or answer with pictures: what they compute, and toy runs."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from unified.eval.lab import runner
from unified.eval.lab.experiment import Results, Trial, verdict
from unified.eval.lab.experiments import (
    EXPERIMENTS,
    epona,
    future_sight_drive,
    govig,
    ig_llm,
    latent_sketchpad,
    rag_igbench,
    vargpt_v11,
    vita,
)
from unified.eval.lab.ground import streams
from unified.eval.lab.ground.bases import BASES, new_model
from unified.eval.lab.ground.ground import Ground
from unified.eval.lab.ground.scenes import scene
from unified.eval.lab.ground.tokenizers import new_tokenizer
from unified.eval.lab.sizes import FULL, TOY

# The arms of latent_sketchpad have tests of their own.
NAMES = ["future_sight_drive", "ig_llm", "govig", "vita", "rag_igbench", "epona", "vargpt_v11"]


def of_seeds(numbers):
    return Results({"all": {seed: numbers for seed in range(3)}})


# Rows of pieces ---------------------------------------------------------------------------------------------


def test_rows_of_pieces_are_scored_where_they_say():
    words = future_sight_drive.vocabulary(TOY)
    codes = torch.randint(TOY.tokenizer.codes, (2, 3, 64))
    actions = torch.stack([torch.tensor([n % 2 * 100 + 3 for n in range(12)])] * 2)
    goals = torch.tensor([[0], [2]])
    parts = (*future_sight_drive.asked(codes, goals), *future_sight_drive.answered("own", codes, actions, 32))
    rows = streams.joined(words, parts)
    scored = rows.labels[0] >= 0
    assert int(scored.sum()) == 64 + 12
    assert torch.equal(rows.labels[0][scored], rows.ids[0][scored])
    assert rows.ids[1, :2].tolist() == [words.begin, words.user]
    model = streams.small_model(TOY, words, 0).eval()
    with torch.no_grad():
        found = model(rows.ids, labels=rows.labels, layout=rows.layout)
        anew = model(rows.ids, labels=rows.labels)
    assert torch.equal(found.loss, anew.loss)  # a layout of one line serves all rows


# FutureSightDrive -------------------------------------------------------------------------------------------


def test_plans_survive_bins():
    plans = np.stack([np.linspace([0, 1], [-20, 12], 6), np.linspace([0, 0], [3, 26], 6)])
    actions = future_sight_drive.to_bins(plans)
    assert np.abs(future_sight_drive.to_metres(actions) - plans).max() <= 0.25
    for slot in range(12):
        assert all(int(a) in future_sight_drive.choices(slot) for a in actions[:, slot])


def test_frames_that_help_are_judged_by_what_shuffling_costs():
    def numbers(own, foreign):
        means = {"no frame": 2.0, "own frame": own, "foreign frame": foreign, "true frame": 1.0,
                 "filler": 2.0, "mean plan": 6.0}  # fmt: skip
        return {arm: {"l2": value, "collision": 0.1} for arm, value in means.items()}

    judge = future_sight_drive.judge
    assert verdict(judge(of_seeds(numbers(1.5, 3.0))), 3)[0] == "reproduced"
    assert verdict(judge(of_seeds(numbers(1.5, 1.5))), 3)[0] == "not reproduced"
    useless = numbers(1.5, 3.0) | {"true frame": {"l2": 2.5, "collision": 0.1}}
    assert verdict(judge(of_seeds(useless)), 3)[0] == "not applicable at this size"


# IG-LLM -----------------------------------------------------------------------------------------------------


def programs_of(count):
    return [ig_llm.program(ig_llm.CONFIG, n, "train") for n in range(count)]


def test_numbers_survive_every_way_to_write_them():
    for part in (part for one in programs_of(8) for part in one):
        for way in ig_llm.WAYS.values():
            ids = way.write(part)
            assert all(n in slot for n, slot in zip(ids, way.slots(), strict=True))
            error = np.abs(np.array(way.read(ids)) - ig_llm.numbers(part)).max()
            assert error <= (0.5 / way.base if way.base != 10 else 0.0101)
        assert ig_llm.from_values(ig_llm.to_values(part)) == pytest.approx(ig_llm.numbers(part))


def test_values_that_are_said_step_by_step_are_those_of_one_pass():
    words = ig_llm.vocabulary()
    torch.manual_seed(0)
    reader = ig_llm.Reader(TOY, words, 0).eval()
    data = ig_llm.data_of("test", 0, 2)
    for feedback in (False, True):
        with torch.no_grad():
            names, values = ig_llm.said_by_value(reader, data.patches, feedback)
            found = ig_llm.by_value(reader, data.patches, feedback)
            # What was said, as a training row: the same states, so the same values.
            parts = (*ig_llm.asked(words, 2), *ig_llm.written(words, found, None, feedback))
            rows = streams.joined(words, parts)
            assert torch.equal(ig_llm.as_ids(found, 1), names[:, 1])
            given = ig_llm.given(data.patches, values.flatten(1), feedback)
            states = reader.model(rows.ids, labels=rows.labels, layout=rows.layout, values=given)
            again = reader.head.distribution(ig_llm.at_numbers(rows, states.hidden_states)).mean[..., 0]
        torch.testing.assert_close(again, values.flatten(1), atol=1e-4, rtol=1e-4)


def test_programs_are_valid_under_the_grammar_alone():
    way = ig_llm.WAYS["digits"]
    torch.manual_seed(0)
    reader = ig_llm.Reader(TOY, ig_llm.vocabulary(way.base), 0).eval()
    data = ig_llm.data_of("test", 0, 3)
    with torch.no_grad():
        bound, free = (ig_llm.in_words(reader, way, data.patches, one) for one in (False, True))
    assert all(one is not None and len(one) == 2 for one in bound)
    assert ig_llm.scored(bound, data)["valid"] == 1
    assert ig_llm.scored(free, data)["valid"] < 1  # random weights say anything


# GoViG ------------------------------------------------------------------------------------------------------


def test_instructions_survive_words():
    for one in govig.walks("train", 0, 12):
        words = govig.as_words(one.route)
        assert len(words) == govig.SAID
        assert govig.as_text(words) == one.route.text


def test_two_views_stand_for_a_way():
    assert [govig.middle(count) for count in range(1, 6)] == [(0, 0), (0, 1), (0, 2), (1, 2), (1, 3)]


def test_ways_of_others():
    codes = torch.arange(3)[:, None, None].expand(3, govig.STEPS, 64)
    way = govig.Way(codes, [1, 2, 3])
    other = way.of_others()
    assert other.stops == [3, 1, 2]
    assert other.codes[:, 0, 0].tolist() == [2, 0, 1]
    assert way.between(1)[0][:, 0].tolist() == [0, 1, 2]


def test_lessons_of_ways_and_of_words():
    words, data = govig.vocabulary(TOY), govig.walks("train", 0, 8)
    codes = torch.randint(TOY.tokenizer.codes, (govig.CONFIG.towns * len(govig.STANDS), 64))
    lessons = govig.Lessons(words, data, codes, "own", 4)
    told, view = (streams.joined(words, lessons.at(0, step)) for step in (0, 1))
    assert int((told.labels[0] >= 0).sum()) == govig.SAID
    assert int((view.labels[0] >= 0).sum()) == 64
    direct, empty = (govig.Lessons(words, data, codes, name, 4).at(0, 1) for name in ("none", "filler"))
    lengths = [streams.joined(words, parts).ids.shape[1] for parts in (direct, empty)]
    assert lengths[1] - lengths[0] == 2 * (64 + 4)
    assert streams.joined(words, empty).ids.shape == told.ids.shape


def test_logits_at_written_codes_are_those_of_the_likelihood():
    words, data = govig.vocabulary(TOY), govig.walks("train", 0, 8)
    codes = torch.randint(TOY.tokenizer.codes, (govig.CONFIG.towns * len(govig.STANDS), 64))
    rows = streams.joined(words, govig.Lessons(words, data, codes, "own", 2).at(0, 1))
    model = streams.small_model(TOY, words, 0).eval()
    with torch.no_grad():
        found = model(rows.ids, labels=rows.labels, layout=rows.layout)
        written = words.is_visual(rows.labels)
        logits = model.head.logits(found.hidden_states[written])[:, 0]
    wanted = torch.nn.functional.cross_entropy(logits, rows.ids[written] - words.visual_start)
    assert float(found.loss) == pytest.approx(float(wanted), rel=1e-5)


# VITA -------------------------------------------------------------------------------------------------------


def test_plans_survive_chunks():
    plans = np.random.default_rng(0).normal(size=(3, 6, 2)) * 5
    assert np.allclose(vita.plans_of(vita.chunks(plans)), plans, atol=1e-4)


def test_a_policy_is_taught_the_codes_of_its_actions(tmp_path):
    trial = Trial(ground=SimpleNamespace(sizes=TOY), seed=0, work=tmp_path)
    torch.manual_seed(0)
    pictures = torch.rand(2, 4, 3, 32, 32)
    codes = torch.randint(TOY.tokenizer.codes, (4, 2, 64))
    goals = torch.tensor([[0], [1], [2], [0]])
    data = vita.Pairs(*pictures, torch.randn(4, 6, 2), codes, goals)
    latents = {name: vita.SharedLatent(vita.config_of(TOY)) for name in ("frames", "actions", "both")}
    for name in ("serial", "shared"):
        policy = vita.taught(trial, name, data, latents)
        before, after = latents[vita.POLICIES[name].latent].codebook, policy.latent.codebook
        assert torch.equal(before, after)  # frozen
        own, away = (
            vita.planned(trial, policy, vita.POLICIES[name], data, foreign) for foreign in (False, True)
        )
        assert own.shape == (4, 6, 2)
        assert name == "serial" or torch.equal(own, away)
    assert torch.equal(
        vita.thought_ids("filler", latents, data), torch.zeros(4, vita.TOKENS, dtype=torch.long)
    )


# RAG-IGBench ------------------------------------------------------------------------------------------------


def queries_of(documents, count):
    return [rag_igbench.query(rag_igbench.config(documents), n, "test") for n in range(count)]


def test_answers_survive_words():
    found = queries_of(3, 12)
    assert {one.kind for one in found} == set(rag_igbench.KINDS)
    for one in found:
        wanted = rag_igbench.wrapped(rag_igbench.markdown(one))
        assert rag_igbench.as_answer(rag_igbench.answer_words(one), one) == wanted
    assert rag_igbench.scored([wanted], [one])["exact"] == 1
    assert len({len(rag_igbench.asked_words(one)) for one in found}) == 1


def test_every_fault_lowers_the_scores_that_are_there_to_see_it():
    trial = SimpleNamespace(ground=SimpleNamespace(sizes=TOY), seed=0)
    found = rag_igbench.sensitivity(trial)
    assert found["reference"]["edit_distance"] == 1
    for fault, (_, names) in rag_igbench.FAULTS.items():
        for score in names:
            assert found[fault][score] > rag_igbench.LEAST, (fault, score)


def test_words_that_are_no_sentences_are_no_json():
    one = queries_of(2, 1)[0]
    assert rag_igbench.scored([rag_igbench.as_answer([5, 5], one)], [one])["invalid_format"] == 1
    words = [rag_igbench.NUMBER[word] for word in ("red", "star", "IMG#9")]
    assert rag_igbench.scored([rag_igbench.as_answer(words, one)], [one])["hallucination"] == 1


# Epona ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def driven(tmp_path_factory):
    return epona.clips("train", 0, 3, tmp_path_factory.mktemp("clips"))


def test_motion_is_within_the_scales_and_adds_up(driven):
    steps = torch.stack([epona.true_motion(driven.poses, n)[:, epona.FRAMES] for n in range(8)], dim=1)
    assert steps[..., :2].abs().max() <= 0.5  # what is told of motion is clipped there
    way = driven.poses[:, epona.FRAMES + 7, :2, 3] - driven.poses[:, epona.FRAMES - 1, :2, 3]
    torch.testing.assert_close(steps.sum(dim=1)[:, :2], way, atol=1e-5, rtol=0)
    straight = epona.straight_on(driven.poses)
    assert epona.displacement(straight, straight).tolist() == [0, 0, 0]


def test_boxes_are_found_by_colour(driven):
    frames = driven.frames[:, 3]
    assert epona.drift(frames, frames) == 0
    assert 0 < epona.drift(driven.frames[:, 7], frames) < epona.LOST
    assert epona.drift(np.zeros_like(frames), frames) == epona.LOST
    own = epona.places(frames[0])[0]
    up, left = driven.poses[0, 3, :2, 3].tolist()
    assert np.hypot(own[0] + 10 * left, own[1] + 10 * up) < 2


def test_chains_read_estimates_and_others_do_not(driven):
    torch.manual_seed(0)
    latents = torch.randn(3, epona.LENGTH, epona.TOKENS, epona.CHANNELS)
    found = {}
    for kind in epona.TRAININGS:
        model = epona.new_model(TOY, 0)
        chain = epona.Chain(latents, driven.poses, kind, 0, 2)
        with torch.no_grad():
            found[kind] = [float(chain.loss(model, step)) for step in range(10)]
    forced, chained, noisy = (found[kind] for kind in epona.TRAININGS)
    assert chained[:8] == forced[:8]  # the first pass of a chain is of a true window
    assert chained[8] != forced[8]
    assert noisy[0] != forced[0]


# Latent Sketchpad -------------------------------------------------------------------------------------------


def measured(success, mazes=20):
    numbers = {"success": success, "progress": success, "visual_success": success, "mazes": mazes}
    return {**numbers, "images": 40.0, "consistent_images": 40.0, "seconds": 10.0}


def sketched(path, name, **solved):
    shown = {kind: {"3": measured(5), "6": measured(2)} for kind in latent_sketchpad.ARMS[name].shown}
    result = {"arm": name, "seed": 0, "spent": {"seconds": 3.0}, "solved": {**shown, **solved}}
    path.write_text(json.dumps(result))


def test_results_of_sketches_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(latent_sketchpad, "OUT", tmp_path)
    trial = SimpleNamespace(ground=SimpleNamespace(sizes=FULL), seed=0, work=tmp_path)
    with pytest.raises(ValueError, match="sketchpad path --seeds 0"):
        latent_sketchpad.read("path", trial)
    sketched(tmp_path / "path-0.json", "path", own={"3": measured(10), "5": measured(5), "7": measured(4)})
    found = latent_sketchpad.read("path", trial)
    assert found["own"]["trained"]["success"] == 37.5
    assert found["own"]["larger"]["success"] == 20
    assert found["own"]["trained"]["consistent_images"] == 100
    assert found["seconds"] == 0.5
    result = json.loads((tmp_path / "path-0.json").read_text())
    del result["solved"]["noise"]
    (tmp_path / "path-0.json").write_text(json.dumps(result))
    with pytest.raises(ValueError, match="lacks noise sketches"):
        latent_sketchpad.read("path", trial)
    (tmp_path / "path-0.json").write_text("[]")
    with pytest.raises(ValueError, match="no result of this experiment"):
        latent_sketchpad.read("path", trial)


def test_sketches_that_are_not_read_are_not_reproduced():
    def arm(own, others):
        def share(value):
            return {size: {"success": value} for size in ("trained", "larger")}

        numbers = {"own": share(own), "another's": share(others), "noise": share(others)}
        return dict.fromkeys(range(3), numbers)

    arms = dict.fromkeys(latent_sketchpad.ARMS, arm(40, 10)) | {"words_time": arm(30, 0)}
    judge = latent_sketchpad.judge
    assert verdict(judge(Results(arms)), 3)[0] == "reproduced"
    assert verdict(judge(Results(arms | {"path": arm(40, 40)})), 3)[0] == "not reproduced"
    assert verdict(judge(Results(arms | {"path": arm(4, 0)})), 3)[0] == "not applicable at this size"


# VARGPT-v1.1 ------------------------------------------------------------------------------------------------


def test_one_object_is_recoloured():
    for number in range(12):
        before = scene(number)
        after = vargpt_v11.recoloured(before, number)
        assert before.objects[0].colour != after.objects[0].colour
        assert before.objects[1:] == after.objects[1:]
        assert (after.objects[0].shape, after.objects[0].colour) not in vargpt_v11.HELD_OUT
    same = np.zeros((2, 4, 4, 3), np.uint8)
    assert vargpt_v11.kept(same, same, same) == 100


def test_edits_are_rows_of_a_source_and_a_caption():
    model = new_model(BASES["next_scale"], TOY)
    shapes = BASES["next_scale"].shapes
    source, codes = torch.randint(32, (2, 64)), torch.randint(32, (2, sum(h * w for h, w in shapes)))
    captions = torch.tensor([vargpt_v11.told.caption(scene(n)) for n in range(2)])
    batch = vargpt_v11.edit_rows(model.vocabulary, source, captions, codes)
    scored = batch.labels >= 0
    assert torch.equal(batch.labels[scored].view(2, -1) - model.vocabulary.visual_start, codes)
    other = vargpt_v11.edit_rows(model.vocabulary, source.roll(1, 0), captions, codes)
    with torch.no_grad():
        one, two = (model(x.ids, labels=x.labels, layout=x.layout).loss for x in (batch, other))
        assert torch.equal(one, model(batch.ids, labels=batch.labels).loss)
    assert float(one) != float(two)


# Whole experiments ------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_runs_and_is_judged(name, tmp_path):
    ground = Ground(TOY, tmp_path / "weights", tmp_path / "cache")
    ground.keep("vq", new_tokenizer("vq", TOY.tokenizer))
    ground.keep("next_scale", new_model(BASES["next_scale"], TOY))
    results = runner.run(name, ground, range(1), tmp_path / "results", tmp_path / "work")
    criteria = EXPERIMENTS[name].judge(results)
    assert results.seeds == [0]
    assert criteria
    assert all(criterion.measured or criterion.why for criterion in criteria)
