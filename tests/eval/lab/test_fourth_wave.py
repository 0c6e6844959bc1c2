"""What experiments of tokenizers, controls and hybrid models compute, on tiny random models: swaps, edges,
words that are vectors, sources, relabelled codes."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from unified.eval.lab import runner
from unified.eval.lab.arms import drawn_with
from unified.eval.lab.experiment import Results, Trial, verdict
from unified.eval.lab.experiments import (
    EXPERIMENTS,
    csd_var,
    fvq,
    larp,
    nsarm,
    orthus,
    subject_driven_var,
    varedit,
    vtbench,
)
from unified.eval.lab.ground import codecs, sandwich, steering
from unified.eval.lab.ground.bases import rows
from unified.eval.lab.ground.drawing import How
from unified.eval.lab.ground.latents import CHANNELS, TOKENS
from unified.eval.lab.ground.scenes import SIDE, caption, pictures, scene
from unified.eval.lab.ground.tokenizers import SCHEDULE
from unified.eval.lab.ground.training import Course, train
from unified.eval.lab.sizes import TOY

from unified.decoding.session import Session
from unified.layout.layout import Layout

NAMES = [
    "vtbench",
    "fvq",
    "csd_var",
    "subject_driven_var",
    "ecm",
    "scaleweaver",
    "nsarm",
    "varedit",
    "gigatok",
    "hita",
    "selftok",
    "larp",
    "bridge",
    "harmon",
    "orthus",
    "skywork_unipic",
]


@pytest.fixture(scope="module")
def ground(make_ground):
    """Tiny, with random weights."""
    return make_ground("residual", "next_scale")


@pytest.fixture
def trial(ground, tmp_path):
    return Trial(ground=ground, seed=0, work=tmp_path)


# Tokenizers -------------------------------------------------------------------------------------------------


def test_damage_is_none_where_there_is_little():
    images = pictures([scene(n) for n in range(2)])
    assert np.abs(vtbench.blurred(0.05)(images).astype(int) - images).max() <= 1
    assert np.abs(vtbench.blurred(2.0)(images).astype(int) - images).max() > 20
    assert vtbench.made_smaller(4)(images).shape == images.shape


@pytest.mark.slow
def test_a_generator_learns_one_line_of_codes(trial, monkeypatch):
    tokenizer = codecs.new(trial, "vq", codecs.wanted(trial, codes=32))
    found, drawn = codecs.code_probe(trial, tokenizer, 3.0, every=6)
    assert len(found["curve"]) == 2
    assert found["bits"] == found["curve"][-1] < 64 * 5.5
    assert drawn.shape == (TOY.prompts, SIDE, SIDE, 3)


def test_a_course_that_rests_goes_on_as_if_it_had_not(tmp_path):
    def trained(stops, folder):
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 1)
        x = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
        for stop in stops:
            loss = lambda step: (model(x) - step).square().mean()  # noqa: E731
            train(model, loss, Course(steps=6, stop=stop), folder)
        return model.weight

    assert torch.equal(trained([0], tmp_path / "a"), trained([2, 6], tmp_path / "b"))


def test_clips_of_even_motion_are_told_from_others():
    _, shown = larp.clips_of(range(1), "test")
    assert all(map(larp.is_even, shown))
    assert not larp.is_even(shown[0][[0, 2, 1, 3]])
    assert not larp.is_even(np.full_like(shown[0], 120))


def test_a_plain_table_of_fvq_begins_even_and_small(trial):
    found = fvq.plain(trial, "plain", 64)
    assert float(found.table.weight.detach().abs().max()) <= 1 / 64


# Control ----------------------------------------------------------------------------------------------------


def test_edges_follow_themselves_and_nothing_else():
    maps = steering.edge_maps(pictures([scene(n) for n in range(3)]))
    drawn = pictures([scene(n) for n in range(3)])
    assert steering.edge_f1(drawn, maps) == pytest.approx(1)
    assert steering.edge_f1(np.full_like(drawn, 90), maps) == 0
    assert steering.control_of(maps).shape == (3, steering.PLAN.length, steering.WIDTH)


def test_words_that_are_vectors_begin_as_the_words(ground):
    model = steering.frozen(SimpleNamespace(ground=ground))
    told = torch.tensor([caption(scene(n)) for n in range(2)])
    codes = torch.zeros(2, steering.PLAN.length, dtype=torch.long)
    batch = rows(model.vocabulary, told, codes, steering.BASE.order, steering.BASE.shapes)
    start = torch.stack([steering.word_vectors(model, line[[0, 2]].tolist()) for line in told])
    word = steering.SoftWords(start, (0, 2))
    plain, same = steering.nats(model, batch), steering.nats(model, batch, [word])
    assert torch.allclose(plain, same, atol=1e-6)
    steering.nats(model, batch, [word.at(slice(0, 2))]).backward()
    assert word.vectors.grad.abs().amin(dim=-1).max() > 0


def test_a_session_draws_with_words_that_are_vectors_as_with_words(ground, trial):
    model, scenes = steering.frozen(trial), ground.prompts(0)
    start = torch.stack([steering.word_vectors(model, [caption(one)[0]]) for one in scenes])
    word = steering.SoftWords(start, (0,))
    how = How(order=steering.BASE.order, shapes=steering.BASE.shapes)
    plain = drawn_with(trial, model, "residual_vq", how)
    same = drawn_with(trial, model, "residual_vq", how.but(parts=lambda numbers: [word.at(numbers)]))
    assert torch.equal(plain.codes, same.codes)


def test_a_projected_style_has_nothing_of_the_directions():
    directions = torch.linalg.qr(torch.randn(6, 2)).Q.T
    style = csd_var.Projected(torch.randn(3, 2, 6), (0, 2), directions)
    assert (style.values() @ directions.T).abs().max() < 1e-5


def test_the_subject_is_read_from_pixels():
    assert all(map(subject_driven_var.is_subject, pictures(subject_driven_var.subject_scenes(5, 0))))
    assert not any(map(subject_driven_var.is_subject, pictures(subject_driven_var.class_scenes(5, 0))))


def test_relabelled_codes_of_true_maps_are_those_of_the_tokenizer(trial, ground):
    shown = ground.pictures()[:2]
    latents, codes = nsarm.latents_of(trial, shown), steering.codes_of(trial, shown)
    maps = list(codes.split([side * side for side in SCHEDULE], dim=1))
    assert torch.equal(nsarm.relabelled(trial, latents, []), codes)
    assert torch.equal(nsarm.relabelled(trial, latents, maps[: nsarm.GIVEN]), codes)
    other = [(part + 1) % TOY.tokenizer.codes for part in maps[: nsarm.GIVEN]]
    assert torch.equal(
        nsarm.relabelled(trial, latents, other)[:, : nsarm.GIVEN_CODES], torch.cat(other, dim=1)
    )


def test_edits_are_done_by_their_targets_alone():
    edits = [varedit.edit_of(n, "test") for n in range(6)]
    assert all(
        one.done(picture) for one, picture in zip(edits, pictures([e.target for e in edits]), strict=True)
    )
    assert not any(one.done(x) for one, x in zip(edits, pictures([e.source for e in edits]), strict=True))


@pytest.mark.parametrize("way", list(varedit.WAYS))
def test_a_source_is_the_same_step_by_step_and_in_one_pass(ground, way):
    model = ground.base("next_scale")
    codes = torch.randint(TOY.tokenizer.codes, (1, varedit.PLAN.length))
    told = torch.tensor([varedit.edit_of(0, "test").words])
    batch = rows(model.vocabulary, told, codes, varedit.BASE.order, varedit.BASE.shapes)
    with torch.no_grad():
        part = varedit.WAYS[way](model, codes, varedit.image_start(batch))
        session = Session(model, parts=[part])
        session.feed([varedit.prompt(model.vocabulary, told[0].tolist())])
        made = session.draw(varedit.BASE.shapes, order=varedit.BASE.order)
        ids = torch.tensor([[*session.streams[0], model.vocabulary.end]])
        layout = Layout.of(ids, model.vocabulary)
        scored = model(ids, layout=layout, parts=[part]).log_probs[0]
    assert torch.allclose(scored[layout.writes[0].slots()[0]], made.log_probs[0], atol=1e-4)


# Hybrid models ----------------------------------------------------------------------------------------------


def test_captions_are_said_from_what_is_read_alone(trial):
    model = sandwich.new_harmon(trial).eval()
    tokens = torch.randn(2, TOKENS, CHANNELS)
    told = torch.tensor([caption(scene(n)) for n in range(2)])
    read = sandwich.shared(0.1)
    rows_ = read(model, tokens, tokens)
    assert rows_.shape[1] == sandwich.SPAN
    later = told.clone()
    later[:, 5:] = 1
    one, two = (sandwich.caption_logits(model, rows_, x) for x in (told, later))
    assert torch.allclose(one[:, :6], two[:, :6], atol=1e-5)
    assert not torch.allclose(one[:, 6:], two[:, 6:], atol=1e-5)


def test_patches_that_are_codes_are_read_as_codes(trial):
    book = 10 * torch.randn(TOY.tokenizer.codes, orthus.DIM)
    model = orthus.new_model(trial, book).eval()
    codes = torch.randint(len(book), (2, orthus.PATCHES))
    told = torch.tensor([caption(scene(n)) for n in range(2)])
    ids = orthus.lines(told)
    for way in ("soft", "hard"):
        model.way = way
        found = model.embeds(ids, book[codes])
        assert torch.allclose(found, model.embeds(orthus.lines(told, codes)), atol=1e-3)


# Verdicts ---------------------------------------------------------------------------------------------------


def test_a_plain_codebook_that_lives_is_no_refutation():
    numbers = {"usage": 0.9, "psnr": 20.0, "exported": True}
    results = Results({arm: dict.fromkeys(range(3), numbers) for arm in EXPERIMENTS["fvq"].arms})
    assert verdict(fvq.judge(results), 3)[0] == "not applicable at this size"


def test_a_bridge_that_uses_all_codes_is_reproduced():
    def numbers(usage, psnr):
        return {seed: {"usage": usage, "psnr": psnr, "exported": True} for seed in range(3)}

    found = {arm: numbers(0.02, 17.0) for arm in EXPERIMENTS["fvq"].arms}
    found[fvq.BRIDGE] = numbers(0.99, 22.0)
    assert verdict(fvq.judge(Results(found)), 3)[0] == "reproduced"
    found[fvq.BRIDGE] = numbers(0.9, 22.0)
    assert verdict(fvq.judge(Results(found)), 3)[0] == "not reproduced"


def test_a_subject_that_the_tokenizer_loses_is_not_applicable():
    numbers = {"kept": 0.1, "subject": 0.0, "drift": 0.0, "diversity": 1.0, "share": 0.5}
    arms = EXPERIMENTS["subject_driven_var"].arms
    results = Results({arm: dict.fromkeys(range(3), numbers) for arm in arms})
    assert verdict(subject_driven_var.judge(results), 3)[0] == "not applicable at this size"


# Whole experiments ------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_runs_and_is_judged(ground, name, tmp_path):
    results = runner.run(name, ground, range(1), tmp_path / "results", tmp_path / "work")
    criteria = EXPERIMENTS[name].judge(results)
    assert results.seeds == [0]
    assert criteria
    assert all(criterion.measured or criterion.why for criterion in criteria)
