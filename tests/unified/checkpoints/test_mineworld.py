"""MineWorld: against the published code's outputs, and one way of running it against the others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
import unified.envs.registration  # noqa: F401 - registers the environments
from torch import Tensor

from unified.apps.assistant import Assistant
from unified.apps.mineworld import open_world
from unified.apps.rollout import Rollout
from unified.cache.policy import Full
from unified.checkpoints.__main__ import main
from unified.checkpoints.mineworld import MineWorldTransformer, load
from unified.checkpoints.mineworld_config import LayerSizes, MineWorldConfig, config_from
from unified.checkpoints.mineworld_networks import MineWorldVQConfig
from unified.checkpoints.mineworld_schedule import Decoder, PlacedCache
from unified.checkpoints.mineworld_session import Played, sources, unwritten
from unified.checkpoints.mineworld_tokenizer import MineWorldTokenizer, tokenizer_weights
from unified.checkpoints.mineworld_tokenizer import config_from as tokenizer_config
from unified.checkpoints.mineworld_tokenizer import load as load_tokenizer
from unified.decoding.guidance import Constant
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.orders import plan_for

GOLDEN = Path(__file__).parents[4] / "shared" / "golden"
needs_golden = pytest.mark.skipif(
    not GOLDEN.is_dir(), reason="the reference vectors (../shared/golden) are absent"
)
SIZES = LayerSizes(width=32, inner=48)
CONFIG = MineWorldConfig(grid=(3, 5), codes=32, ids=102, context=8 * 26, sizes=SIZES)
GREEDY = Sampler(temperature=0)
WALK: list[dict[str, Any]] = [{"forward": 1}, {"jump": 1, "camera": [0.0, 20.0]}, {"attack": 1}]


@pytest.fixture(scope="module")
def model() -> MineWorldTransformer:
    return random(MineWorldTransformer(CONFIG))


@pytest.fixture(scope="module")
def tokenizer() -> MineWorldTokenizer:
    return random(MineWorldTokenizer(MineWorldVQConfig(codes=32, dim=6, latent=6, widths=(4, 8, 8))))


def random(module: Any) -> Any:
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=rng))
    return module.eval()


@pytest.fixture
def world(model: MineWorldTransformer, tokenizer: MineWorldTokenizer) -> Assistant:
    return open_world(CONFIG, model.state_dict(), tokenizer)


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (12, 20, 3), dtype=np.uint8)


def told(seed: int, count: int) -> tuple[list[int], list[list[int]]]:
    """A frame, and ids of the checkpoint of some actions."""
    codes = torch.randint(32, (15,), generator=torch.Generator().manual_seed(seed)).tolist()
    return codes, CONFIG.actions.encode([WALK[number % 3] for number in range(count)]).tolist()


def session_of(model: MineWorldTransformer, frames: list[list[int]], **options: Any) -> Session:
    session = Session(Played(model), rows=len(frames), **options)
    session.feed([session.vocabulary.read_segment(codes, [CONFIG.grid]) for codes in frames])
    return session


def frames_of(session: Session, actions: list[list[int]], order: str, **options: Any) -> Tensor:
    words, found = session.vocabulary, []
    for action in actions:
        session.feed([words.action_start + token - CONFIG.codes for token in action])
        found.append(session.draw([CONFIG.grid], order=order, **options).codes)
    return torch.cat(found, dim=1)


@needs_golden
@pytest.mark.parametrize("pack", ["mineworld_tokenizer", "mineworld_transformer"])
def test_golden_packs(pack: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(GOLDEN / pack)]) == 0
    printed = capsys.readouterr().out
    assert "FAIL" not in printed
    assert "unknown name" not in printed  # inputs alone are not compared


@pytest.mark.parametrize("window", [1, 2, 5])
def test_a_session_makes_the_published_calls(model: MineWorldTransformer, window: int) -> None:
    prompt, actions = told(1, 3)
    decoder = Decoder(model, PlacedCache(model))
    decoder.call(prompt, range(15))
    codes, places = decoder.play(15, actions, window)
    session = session_of(model, [prompt], policy=Full())
    order = {1: "diagonal", 5: "raster"}.get(window, f"diagonal(window={window})")
    assert frames_of(session, actions, order, sampler=GREEDY)[0].tolist() == codes
    assert session.stats.passes == 2 * window + 5
    session.read_pending()
    assert session.context.cache.length == places[-1]  # nothing was run twice
    held = session.context.cache.stores[0].both
    assert held is not None
    order_of_places = session.context.index.label[0].argsort()
    keys = held[0, 0, : places[-1]][order_of_places]
    assert torch.allclose(keys.transpose(0, 1), decoder.cache.keys[0, 0, :, : places[-1]], atol=1e-5)


def test_raster_is_exact_next_code_prediction(model: MineWorldTransformer) -> None:
    prompt, actions = told(2, 2)
    session = session_of(model, [prompt])
    codes = frames_of(session, actions, "raster", sampler=GREEDY)[0].tolist()
    whole = [*prompt, *actions[0], *codes[:15], *actions[1], *codes[15:]]
    logits = model(torch.tensor([whole]))[0, :, :32]
    assert logits[25:40].argmax(dim=-1).tolist() == codes[:15]
    assert logits[51:66].argmax(dim=-1).tolist() == codes[15:]


def test_rows_are_what_they_are_alone(model: MineWorldTransformer) -> None:
    (one, actions), (other, _) = told(3, 2), told(4, 2)
    sampler = Sampler(top_p=0.8)
    both = frames_of(session_of(model, [one, other], seed=[5, 6]), actions, "diagonal", sampler=sampler)
    alone = frames_of(session_of(model, [other], seed=[6]), actions, "diagonal", sampler=sampler)
    assert torch.equal(both[1:], alone)


def test_places_that_were_not_written_count_as_zeros() -> None:
    plan = plan_for("diagonal(window=2)", ((3, 5),))
    missing = [None if step is None else step.tolist() for step in unwritten(plan)]
    assert missing[0] is None
    assert missing[2] == [0, 2]  # the second row begins; of the first two codes are still to come
    assert missing[-1] is None
    assert all(step is None for step in unwritten(plan_for("raster", ((3, 5),))))
    assert sources(plan)[[0, 1, 5, 10]].tolist() == [15, 0, 1, 6]  # end marker; the newest of the row above


@pytest.mark.parametrize("order", ["raster", "diagonal", "diagonal(window=2)"])
def test_the_environment_steps_a_checkpoint(world: Assistant, order: str) -> None:
    world.processor.order = order
    env = gymnasium.make("unified/WorldModel-v0", model=world, start=picture(0), window=2)
    env.reset(seed=0)
    held = []
    for number in range(6):
        observation, *_ = env.step(WALK[number % 3])
        held.append(env.unwrapped.episodes.dream.session.context.cache.length)
    assert observation["pov"].shape == (12, 20, 3)
    assert max(held[3:]) == max(held)  # the window holds the cache
    assert held[-1] < 6 * CONFIG.step


def test_rows_of_the_vector_environment_step_a_checkpoint(world: Assistant) -> None:
    """Each as a single environment does, in either order."""
    for order in ("raster", "diagonal(window=2)"):
        world.processor.order = order
        one = gymnasium.make("unified/WorldModel-v0", model=world, start=picture(0), window=2)
        rows = gymnasium.make_vec(
            "unified/WorldModel-v0", num_envs=2, model=world, start=picture(0), window=2
        )
        one.reset(seed=8)
        rows.reset(seed=7)
        for number in range(4):
            expected = one.step(WALK[number % 3])[4]
            found = rows.step([WALK[number % 3]] * 2)[4]
            assert np.array_equal(found["codes"][1], expected["codes"])
            assert found["log_prob"][1] == pytest.approx(expected["log_prob"], rel=1e-4)


def test_a_rollout_of_several_known_frames(world: Assistant) -> None:
    rollout = Rollout(world.model, world.processor, [[picture(0), picture(1)]], [WALK[:1]])
    frame = rollout.step([WALK[1]])
    again = Rollout(world.model, world.processor, [[picture(2), picture(1)]], [WALK[:1]]).step([WALK[1]])
    assert frame.shape == (1, 12, 20, 3)
    assert (frame != again).any()  # the first of them is not forgotten
    assert not rollout.writer.contrast
    assert rollout.writer.minimum_risk is None


def test_what_these_models_cannot_do_is_said(model: MineWorldTransformer) -> None:
    prompt, actions = told(1, 1)
    session = session_of(model, [prompt])
    with pytest.raises(ValueError, match="after actions only"):
        session.draw([CONFIG.grid], order="raster")
    with pytest.raises(ValueError, match="neither speaks nor acts"):
        session.action()
    with pytest.raises(ValueError, match="null branch"):
        frames_of(session, actions, "raster", guidance=Constant(2.0))
    with pytest.raises(ValueError, match="writes one map"):
        session.draw([(2, 5)], order="raster")
    assert session.draw([CONFIG.grid], order="raster").codes.shape == (1, 15)  # and it goes on


def test_options_and_weights_that_do_not_fit(model: MineWorldTransformer) -> None:
    options = {"hidden_size": 32, "num_attention_heads": 4, "vocab_size": 102, "attention_bias": True}
    with pytest.raises(ValueError, match="attention_bias"):
        config_from(options)
    with pytest.raises(ValueError, match="lack hidden_size"):
        config_from({})
    with pytest.raises(ValueError, match="need as many rows"):
        MineWorldConfig(codes=64, ids=100)
    with pytest.raises(ValueError, match="holds no two steps"):
        MineWorldConfig(context=500)
    weights = dict(model.state_dict())
    del weights["transformer.lm_head.weight"]
    with pytest.raises(ValueError, match="missing"):
        load(CONFIG, {"state_dict": weights})
    with pytest.raises(ValueError, match="norm_type"):
        tokenizer_config({"norm_type": "spatial", "block_out_channels": [4], "num_vq_embeddings": 8})
    with pytest.raises(ValueError, match="multiple of"):
        MineWorldVQConfig(widths=(6,), groups=4)


def test_one_checkpoint_holds_both(model: MineWorldTransformer, tokenizer: MineWorldTokenizer) -> None:
    options = {"block_out_channels": [4, 8, 8], "num_vq_embeddings": 32, "latent_channels": 6,
               "norm_num_groups": 4, "mid_block_add_attention": False}  # fmt: skip
    own = {f"tokenizer.model.{name}": value for name, value in tokenizer.state_dict().items()}
    checkpoint = {"state_dict": {**model.state_dict(), **own, "tokenizer.model.loss.weight": torch.zeros(1)}}
    world = open_world(CONFIG, checkpoint, options)
    assert len(tokenizer_weights(checkpoint["state_dict"])) == len(own)
    assert torch.equal(world.visual.codebook(), tokenizer.codebook())
    alone = load_tokenizer(options, {name.removeprefix("tokenizer."): x for name, x in own.items()})
    ids = alone.encode(torch.rand(2, 3, 12, 20) * 2 - 1)[0]
    assert ids.shape == (2, 15)
    assert alone.decode_maps([ids], [(3, 5)]).shape == (2, 3, 12, 20)


def test_it_is_built_where_nothing_else_was_imported() -> None:
    code = (
        "from unified.checkpoints.mineworld import MineWorldTransformer\n"
        "from unified.checkpoints.mineworld_config import LayerSizes, MineWorldConfig\n"
        f"config = {CONFIG!r}\n"
        "print(type(MineWorldTransformer(config)).__name__)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["MineWorldTransformer"]
