"""What experiments of the second and third wave compute, on tiny random models: laws, pairs, features,
decoding."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from unified.eval.lab import runner
from unified.eval.lab.experiment import Results, verdict
from unified.eval.lab.experiments import EXPERIMENTS, cspd, ear, flash, lantern, m3id, sar, xar
from unified.eval.lab.ground import clips, latents, probes, reading
from unified.eval.lab.ground.bases import BASES, SQUARE, Base, new_model, rows, vocabulary
from unified.eval.lab.ground.scenes import CAPTION, NUMBER, scene
from unified.eval.lab.ground.training import Course
from unified.eval.lab.sizes import TOY

from unified.checkpoints.xar.sampling import sample
from unified.decoding.noise import PositionNoise
from unified.decoding.strategies.relaxation import neighbour_table

SECOND = ["ddo", "sar", "ear", "m3id", "lantern", "asvr", "token_unify", "semaim", "flash", "cspd"]
THIRD = ["mineworld", "xar", "himar", "tokenbridge", "acdit"]
RASTER = Base(tokenizer="vq", order="raster")


@pytest.fixture(scope="module")
def trial():
    return SimpleNamespace(ground=SimpleNamespace(sizes=TOY), seed=0)


def captions(count: int) -> torch.Tensor:
    return torch.randint(1, len(NUMBER), (count, CAPTION), generator=torch.Generator().manual_seed(0))


# Models that read -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reader():
    return reading.new_reader(TOY, 0).eval()


def test_a_reader_says_what_one_pass_finds_likeliest(reader):
    vectors = torch.randn(3, 64, reading.CHANNELS)
    said = reading.said(reader, vectors)
    told = reading.told(reader.vocabulary, said, vectors)
    start = int((told.labels[0] >= 0).nonzero()[0])
    states = reader.states(told.ids, told.layout, told.values)[0][:, start - 1 : start + CAPTION - 1]
    assert torch.equal(flash.likeliest(reader, states), said)
    assert not torch.equal(said[0], said[1]) or not torch.equal(said[1], said[2])


def test_a_reader_learns_captions_from_pictures(reader, tmp_path):
    model = reading.new_reader(TOY, 1)
    data = captions(4), torch.randn(4, 64, reading.CHANNELS)
    course = Course(steps=60, rate=3e-2, clip=10.0)
    done = reading.train_reader(model, data, course, tmp_path, batch=4, seed=0)
    assert done.losses[-1] < 0.3 * done.losses[0]
    assert reading.words_right(reading.said(model, data[1]), data[0])["words"] > 0.7


@pytest.mark.parametrize("name", list(flash.KINDS))
def test_drafted_captions_are_those_of_plain_decoding(reader, name):
    kind = flash.KINDS[name]
    config = flash.FlashConfig(
        codes=reader.vocabulary.table_size, width=reader.width, heads=1, groups=1, ahead=kind.ahead, latents=2
    )
    vectors = torch.randn(3, 64, reading.CHANNELS)
    drafter = flash.FlashDrafter(config)
    words, found = flash.speculated(reader, drafter, kind, vectors)
    assert torch.equal(words, reading.said(reader, vectors))
    assert CAPTION / (1 + kind.ahead) <= found["passes"] <= CAPTION


def test_objects_that_are_not_there_are_counted():
    true = torch.tensor([[NUMBER[w] for w in ("grey", "large", "red", "circle", "centre", *["nothing"] * 4)]])
    said = true.clone()
    said[0, 5:] = torch.tensor([NUMBER[w] for w in ("large", "blue", "star", "centre")])
    assert m3id.objects(true, true) | {"mentions": 0} == {
        "chair_i": 0, "chair_s": 0, "recall": 1, "f1": 1, "mentions": 0,
    }  # fmt: skip
    assert m3id.objects(said, true)["chair_i"] == 0.5
    assert m3id.objects(said, true)["recall"] == 1


def test_biased_pictures_have_the_usual_partner():
    scenes = m3id.of_two("train", 0, 12)
    found = m3id.biased(scenes, 0)
    usual = [(b.objects[1].shape, b.objects[1].colour) == m3id.partner(b.objects[0]) for b in found]
    assert sum(usual) >= 8
    assert [one.objects[0] for one in found] == [one.objects[0] for one in scenes]


# Codes ------------------------------------------------------------------------------------------------------


def test_the_law_of_relaxed_acceptance():
    p, q = torch.rand(2, 6, dtype=torch.float64).unbind()
    p, q = p / p.sum(), q / q.sum()
    near = neighbour_table(torch.randn(6, 2))
    law, accepted, moved = lantern.emitted(p, q, near, 0.0)
    torch.testing.assert_close(law, p)
    assert moved == 0
    relaxed = lantern.emitted(p, q, near, 0.4)
    assert relaxed[1] >= accepted
    assert relaxed[2] <= 0.4
    assert float(relaxed[0].sum()) == pytest.approx(1)


def test_scenes_without_the_concept():
    told = ear.found_scenes("train", 0, 3, ear.shows)
    assert all(map(ear.shows, told))
    assert not any(ear.shows(ear.replaced(one, number)) for number, one in enumerate(told))


def test_only_attention_of_the_first_layers_is_trained():
    model = new_model(BASES["raster"], TOY)
    ear.free_attention(model)
    free = [name for name, p in model.named_parameters() if p.requires_grad]
    assert free
    assert all(".self_attn." in name for name in free)
    assert {name.split(".layers.")[1][0] for name in free} == {"0", "1"}


def test_nats_by_step_add_up():
    base = BASES["next_scale"]
    model = new_model(base, TOY)
    codes = torch.randint(TOY.tokenizer.codes, (2, sum(h * w for h, w in base.shapes)))
    batch = rows(model.vocabulary, captions(2), codes, base.order, base.shapes)
    with torch.no_grad():
        log_probs = sar.scored(model, batch.ids, batch.ids, batch)
        known = model(batch.ids, labels=batch.labels, layout=batch.layout, return_logits=False)
    counts = torch.tensor([h * w for h, w in base.shapes])
    total = (sar.by_step(log_probs, batch) * counts).sum() / counts.sum()
    assert float(total) == pytest.approx(float(known.loss), rel=1e-5)


# Features ---------------------------------------------------------------------------------------------------


def test_a_probe_finds_what_is_linear_and_not_what_is_not_there():
    x = torch.randn(200, 6)
    y = x[:, :3].argmax(dim=1)
    assert probes.accuracy((x[:150], y[:150]), (x[150:], y[150:])) > 0.7
    noise = torch.randn(200, 6)
    assert probes.accuracy((noise[:150], y[:150]), (noise[150:], y[150:])) < 0.6


def test_rows_of_each_are_rows_of_all_where_their_data_agree():
    words = vocabulary(TOY.tokenizer.codes, ("rings",))
    codes = torch.randint(TOY.tokenizer.codes, (2, 64))
    one = probes.rows_of_each(words, codes, "rings", SQUARE, [(2, 3), (2, 3)])
    other = rows(words, None, codes, "rings", SQUARE, (2, 3))
    assert torch.equal(one.ids, other.ids)
    assert torch.equal(one.labels, other.labels)
    mixed = probes.rows_of_each(words, codes, "rings", SQUARE, [(2, 3), (4, 4)])
    assert torch.equal(mixed.layout.step[0], other.layout.step[0])
    assert not torch.equal(mixed.layout.step[1], other.layout.step[1])


def test_features_see_all_codes():
    model = new_model(RASTER, TOY)
    codes = torch.randint(TOY.tokenizer.codes, (1, 64))
    changed = codes.clone()
    changed[0, -1] = (codes[0, -1] + 1) % TOY.tokenizer.codes
    before, after = (probes.read_features(model, x, SQUARE) for x in (codes, changed))
    assert not torch.equal(before[0, 0], after[0, 0])


# Continuous tokens ------------------------------------------------------------------------------------------


def test_every_row_masks_equally_many_tokens():
    mask, _ = latents.masked_batch(5, torch.Generator().manual_seed(3), 0.5)
    assert mask.shape == (5, latents.TOKENS)
    assert len(set(mask.sum(dim=1).tolist())) == 1
    assert int(mask[0].sum()) >= 0.7 * latents.TOKENS


def test_a_draft_that_is_the_target_is_accepted_whole(monkeypatch):
    monkeypatch.setattr(cspd, "SAMPLING", (2,))  # denoising steps
    torch.manual_seed(0)
    model = cspd.Raster(16, 2, 1).eval()
    told, noise = captions(2), PositionNoise([1, 2])
    own, counts = cspd.Noises.of(noise, 2, "value"), cspd.Counts()
    found = cspd.Speculation(model, model, own, own, noise, 1.0, counts)(told)
    torch.testing.assert_close(found, cspd.plain(model, told, own), atol=1e-4, rtol=1e-4)
    assert counts.accepted == counts.judged
    assert counts.passes == 2 * latents.TOKENS / cspd.GAMMA


def test_units_are_drawn_as_the_model_draws_them(trial, monkeypatch):
    monkeypatch.setattr(xar, "SETTINGS", replace(xar.SETTINGS, steps=2))
    model = xar.new_xar(trial, 4).eval()
    told = captions(2)
    with torch.no_grad():
        found = xar.sampled(model, told, PositionNoise([1, 2]))
        away = xar.sampled(model, told, PositionNoise([1, 2]), disturbed=0.3)
    torch.testing.assert_close(found, sample(model, told, PositionNoise([1, 2]), xar.SETTINGS))
    assert not torch.equal(found, away)


# Clips ------------------------------------------------------------------------------------------------------


def test_a_frame_is_written_from_two_frames_and_their_actions():
    model = clips.new_world(TOY, ("raster", "diagonal(window=2)"), 0)
    past, actions = torch.randint(32, (2, 2, 64)), torch.tensor([[[0, 0], [4, 2]], [[1, 1], [2, 0]]])
    codes = torch.randint(32, (2, 64))
    batch = clips.world_rows(model.vocabulary, past, actions, codes, "diagonal(window=2)", SQUARE)
    scored = batch.labels >= 0
    assert torch.equal(batch.labels[scored].view(2, 64) - model.vocabulary.visual_start, codes)
    assert len(batch.layout.step[0].unique()) == 1 + 8 + 2 * 7  # and -1 for what is no code
    other = clips.world_rows(model.vocabulary, past, actions.flip(0), codes, "diagonal(window=2)", SQUARE)
    with torch.no_grad():
        one, two = (model(x.ids, labels=x.labels, layout=x.layout).loss for x in (batch, other))
    assert float(one) != float(two)


def test_actions_that_are_followed():
    given = torch.randint(3, (4, 5, 2))
    assert clips.following(given, given)["f1"] == 1
    assert clips.following(given.roll(1, dims=0), given)["f1"] < 1
    true = np.zeros((1, 2, 4, 4, 3), dtype=np.uint8)
    assert clips.mean_psnr(true, true) == pytest.approx([78.1, 78.1], abs=0.1)


# Verdicts ---------------------------------------------------------------------------------------------------


def test_nothing_to_erase_is_not_applicable():
    numbers = {"concept": 0.1, "colour": 0.5, "attributes": 0.5, "skipped": 0.2}
    results = Results({arm: dict.fromkeys(range(3), numbers) for arm in EXPERIMENTS["ear"].arms})
    assert verdict(ear.judge(results), 3)[0] == "not applicable at this size"


def test_erasure_that_keeps_the_others_is_reproduced():
    def numbers(concept: float, attributes: float) -> dict[int, dict[str, float]]:
        found = {"concept": concept, "colour": 0.9, "attributes": attributes, "skipped": 0.2}
        return {seed: found for seed in range(3)}

    kept = {"base, raster": numbers(0.95, 0.9), "single, raster": numbers(0.03, 0.8)}
    results = Results({**kept, "masked, raster": numbers(0.03, 0.85)})
    assert verdict(ear.judge(results), 3)[0] == "reproduced"
    results = Results({**kept, "masked, raster": numbers(0.2, 0.85)})
    assert verdict(ear.judge(results), 3)[0] == "not reproduced"


def test_scenes_are_numbered():
    assert ear.found_scenes("test", 5, 1, lambda one: True) == [scene(5, "test")]


# Whole experiments ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ground(make_ground):
    """Tiny, with random weights."""
    return make_ground("raster", "next_scale")


@pytest.mark.slow
@pytest.mark.parametrize("name", [*SECOND, *THIRD])
def test_an_experiment_runs_and_is_judged(ground, name, tmp_path):
    results = runner.run(name, ground, range(1), tmp_path / "results", tmp_path / "work")
    criteria = EXPERIMENTS[name].judge(results)
    assert results.seeds == [0]
    assert criteria
    assert all(criterion.measured or criterion.why for criterion in criteria)
