"""The published LlamaGen transformers: against the published code's outputs, and against themselves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from unified.checkpoints import llamagen_verify
from unified.checkpoints.__main__ import main
from unified.checkpoints.llamagen import RELEASED, config_from, load, released
from unified.checkpoints.nar import NARTransformer
from unified.checkpoints.nar_generation import Prompted, UntilCount
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session

PACK = Path(__file__).parents[4] / "shared" / "golden" / "llamagen_transformer"
needs_golden = pytest.mark.skipif(
    not PACK.is_dir(), reason="the reference vectors (../shared/golden) are absent"
)
SIZES = {"dim": 24, "n_layer": 2, "n_head": 3, "multiple_of": 8, "vocab_size": 20, "block_size": 9}
OPTIONS = {
    "class": {**SIZES, "num_classes": 5},
    "caption": {**SIZES, "model_type": "t2i", "cls_token_num": 4, "caption_dim": 6},
}
MASK = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])
GREEDY = Sampler(temperature=0)


def tiny(kind: str) -> NARTransformer:
    model = NARTransformer(config_from(OPTIONS[kind]))
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=rng))
    return model.eval()


def asked(model: NARTransformer) -> tuple[Prompted, list[list[int]], Tensor, Tensor | None]:
    """What two rows are asked for: as prompts, and as a condition with its mask."""
    if model.config.caption_width:
        features = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(1))
        told = Prompted.by_caption(model, features, MASK)
        return told, list(told.prompts), features, MASK
    told = Prompted.by_class(model)
    return told, [told.prompts[3], told.prompts[1]], torch.tensor([3, 1]), None


# Against the published code -------------------------------------------------------------------------------


@needs_golden
def test_every_published_output_is_recomputed() -> None:
    checks = list(llamagen_verify.verify(PACK))
    assert [str(check) for check in checks if check.ok is False] == []
    stored = [
        *load_file(PACK / "io.safetensors"),
        *(f"t2i_{x}" for x in load_file(PACK / "t2i_io.safetensors")),
    ]
    assert sorted(check.name for check in checks) == sorted(stored)
    left_out = {check.name.removeprefix("t2i_"): check.detail for check in checks if check.ok is None}
    assert set(left_out.values()) == {"not compared: an input"}
    assert set(left_out) == set(llamagen_verify.INPUTS)


def copy_of(to: Path) -> Path:
    to.mkdir()
    for file in PACK.glob("*"):
        (to / file.name).write_bytes(file.read_bytes())
    return to


@needs_golden
@pytest.mark.parametrize(
    ("prefix", "weight", "failing"),
    [
        ("", "layers.1.attention.wo.weight", "greedy_cfg.logits"),
        ("", "output.weight", "sampled.probs"),
        ("t2i_", "cls_embedding.uncond_embedding", "t2i_greedy_cfg.logits"),
        ("t2i_", "cls_embedding.cap_proj.fc1.weight", "t2i_eval.logits_masked"),
    ],
)
def test_one_changed_weight_fails(prefix: str, weight: str, failing: str, tmp_path: Path) -> None:
    folder = copy_of(tmp_path / "case")
    path = folder / f"{prefix}weights.safetensors"
    state = load_file(path)
    state[weight][-1] += 0.3
    save_file(state, path)
    assert failing in {check.name for check in llamagen_verify.verify(folder) if check.ok is False}


@needs_golden
def test_a_folder_that_lacks_options_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = copy_of(tmp_path / "case")
    config = json.loads((folder / "config.json").read_text())
    del config["sampled"]["seed"]
    (folder / "config.json").write_text(json.dumps(config))
    assert main(["verify", str(folder)]) == 2
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 1
    assert "sampled of config.json lacks seed" in error[0]


@needs_golden
@pytest.mark.parametrize(("size", "captions"), [("B", False), ("L", False), ("3B", True)])
def test_released_sizes_have_the_published_parameters(size: str, captions: bool) -> None:
    manifest = json.loads((PACK / "official_state_dict_manifest.json").read_text())
    published = next(found for name, found in manifest.items() if name.startswith(f"GPT-{size}"))
    with torch.device("meta"):
        model = NARTransformer(released(size, captions=captions))
    ours = {name: list(value.shape) for name, value in model.state_dict().items()}
    for name, shape in published.items():
        if isinstance(shape, list):
            assert ours.pop(name) == shape
    assert all(name.startswith("layers.") and not name.startswith("layers.0.") for name in ours)
    assert len(model.layers) == published["n_layer"] == RELEASED[size][0]


# Against itself -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", OPTIONS)
def test_a_code_is_predicted_from_the_ones_before_it(kind: str) -> None:
    model = tiny(kind)
    _, _, given, mask = asked(model)
    codes = torch.randint(20, (2, 9), generator=torch.Generator().manual_seed(2))
    before = model(given, codes, mask)
    changed = codes.clone()
    changed[:, 4] = (changed[:, 4] + 1) % 20
    after = model(given, changed, mask)
    assert torch.equal(after[:, :5], before[:, :5])
    assert not torch.allclose(after[:, 5:], before[:, 5:])
    with pytest.raises(ValueError, match=r"and codes \[2, 9\], got .* and \(2, 8\)"):
        model(given, codes[:, :8], mask)


@pytest.mark.parametrize("kind", OPTIONS)
@torch.no_grad()
def test_a_session_predicts_what_one_pass_does(kind: str) -> None:
    """Cached, with guidance off after four codes, and left out where a caption has padding."""
    model = tiny(kind)
    told, prompts, given, mask = asked(model)
    session, guided = Session(told, rows=2), []
    session.feed(prompts)
    steps = session.image([3], order=model.order, sampler=GREEDY, guidance=UntilCount(2.5, 3))
    for choice in steps:
        guided.append(choice.logits.squeeze(-2))
    codes = session.drawing.codes
    none = torch.full_like(given, 5)
    if mask is not None:
        none = model.get_parameter("cls_embedding.uncond_embedding").expand_as(given)
    conditional, null = model(given, codes, mask), model(none, codes, mask)
    want = torch.where(torch.arange(9)[:, None] <= 3, null + 2.5 * (conditional - null), conditional)
    torch.testing.assert_close(torch.cat(guided, dim=1), want, atol=1e-4, rtol=1e-4)
    assert torch.equal(codes, want.argmax(dim=-1))


def test_checkpoints_load_with_their_wrappers_and_caches() -> None:
    model = tiny("class")
    state = model.state_dict()
    cache = {"layers.0.attention.kv_cache.k_cache": torch.zeros(1), "freqs_cis": torch.zeros(10, 4, 2)}
    options = {name: OPTIONS["class"][name] for name in ("dim", "n_layer", "n_head", "multiple_of")}
    again = load({**options, "block_size": 9}, {"model": {**state, **cache}, "steps": 3})
    assert again.config == model.config
    assert all(torch.equal(value, state[name]) for name, value in again.state_dict().items())
    captioned = tiny("caption")
    assert load({**options, "block_size": 9}, captioned.state_dict()).config.caption_width == 6


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"n_layer": 3}, "weights do not fit"),
        ({"width": 3}, "unknown option 'width'"),
        ({"drop_path_rate": 0.1}, "drop_path_rate must be 0"),
        ({"n_kv_head": 1}, "n_kv_head must be n_head 3, got 1"),
        ({"block_size": 8}, "block_size must be a square"),
        ({"num_classes": 6}, "weights do not fit"),
    ],
)
def test_what_does_not_fit_is_refused_shortly(more: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said) as refusal:
        load({**OPTIONS["class"], **more}, tiny("class").state_dict())
    assert "\n" not in str(refusal.value)
