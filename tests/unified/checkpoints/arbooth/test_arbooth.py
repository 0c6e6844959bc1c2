"""ARBooth: against the published code's outputs, and its selection, losses, rollout and files at other
sizes."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from unified.adapter_files import AdapterFile, AdapterSet, fingerprint, save_adapter
from unified.checkpoints.arbooth import verify as arbooth_verify
from unified.checkpoints.arbooth.losses import PriorLoss, SubjectLoss, held_to, map_numbers, rollout
from unified.checkpoints.arbooth.tuning import Subject, freeze_but, load_subject, save_subject, selected
from unified.checkpoints.infinity import Infinity
from unified.checkpoints.infinity_config import InfinityConfig
from unified.checkpoints.infinity_published import training_loss
from unified.decoding.sampling import Sampler

sys.path.insert(0, str(Path(__file__).parents[3]))
from golden_folders import GOLDEN, copied, differing, left_out, needs, randomised, refused, spoilt, without

SHAPES = ((1, 1), (2, 2), (3, 2))
LISTS = ("selected_default", "selected_sa_only", "all_parameters", "n_all_layer")


def tiny(seed: int = 0, **options: object) -> Infinity:
    return randomised(Infinity(InfinityConfig(cell_bits=3, **options)), seed)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def texts() -> list[Tensor]:
    return [drawn(5, 128), drawn(3, 128, seed=1)]


# Against the published code -------------------------------------------------------------------------------


@needs("arbooth", "infinity_transformer")
def test_every_published_output_is_recomputed() -> None:
    found = left_out("arbooth", *LISTS)
    assert set(found.values()) == {"not compared: an input"}
    inputs = {"logits", "labels", "student_reg", "teacher", "text", "text_lens"}
    assert {name.split(".")[-1] for name in found} == inputs


@needs("arbooth", "infinity_transformer")
def test_changed_outputs_are_noticed(tmp_path: Path) -> None:
    (tmp_path / "infinity_transformer").symlink_to(GOLDEN / "infinity_transformer")
    names = ("loss_hard.losses", "loss_temp.grad_prior_head", "rollout.student_logits", "rollout.x_in")
    folder = copied(
        "arbooth",
        tmp_path,
        io=lambda stored: spoilt(stored, *names, by=1e-3),
        config=lambda options: options["selected_default"].pop(),
    )
    assert differing(folder) == {*names, "selected_default"}


@needs("arbooth")
def test_without_the_weights_of_infinity_the_rollout_says_what_it_needs(tmp_path: Path) -> None:
    checks = {check.name: check for check in arbooth_verify.verify(copied("arbooth", tmp_path))}
    reason = "not compared: needs the folder infinity_transformer beside this one"
    assert checks["rollout.x_in"].detail == checks["selected_default"].detail == reason
    assert checks["loss_default.losses"].ok


@needs("arbooth")
@pytest.mark.parametrize("name", ["loss_default.logits", "loss_hard.teacher"])
def test_a_missing_input_is_named(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert name in refused(copied("arbooth", tmp_path, io=lambda stored: stored.pop(name)), capsys)


@needs("arbooth")
@pytest.mark.parametrize("path", [("runs",), ("runs", "loss_hard", "schedule")])
def test_a_missing_option_is_named(
    path: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copied("arbooth", tmp_path, config=lambda options: without(options, *path))
    assert path[-1] in refused(folder, capsys)


# What is trained ------------------------------------------------------------------------------------------


def test_cross_attention_and_feed_forward_are_selected_of_ours_and_of_published_names() -> None:
    names = [name for name, _ in tiny().named_parameters()]
    chosen = selected(names)
    assert {name.split(".")[2] for name in chosen} == {"ca", "ffn"}
    assert len(chosen) == 2 * 10
    assert "blocks.0.ca_norm.weight" not in chosen
    assert selected(["block_chunks.1.module.3.sa.q_bias", "head.weight"], ("sa",)) == [
        "block_chunks.1.module.3.sa.q_bias"
    ]


def test_gradients_reach_what_is_chosen_alone() -> None:
    model = tiny()
    chosen = selected([name for name, _ in model.named_parameters()])
    assert len(freeze_but(model, chosen)) == len(chosen)
    model(texts(), drawn(2, 10, 3), SHAPES).square().mean().backward()
    given = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert given == set(chosen)
    with pytest.raises(ValueError, match=r"no parameter blocks\.9"):
        freeze_but(model, ["blocks.9"])


def test_the_subject_takes_the_place_of_its_symbol() -> None:
    subject, text = randomised(Subject(6, 3)), drawn(4, 6)
    found = subject(text, torch.tensor([False, True, False, True]))
    want = torch.cat([text[:1], subject.vectors, text[2:3], subject.vectors])
    assert torch.equal(found, want)
    assert torch.equal(subject(text, torch.zeros(4, dtype=torch.bool)), text)
    found.sum().backward()
    assert torch.equal(subject.vectors.grad, torch.full((3, 6), 2.0))
    with pytest.raises(ValueError, match="needs as many marks"):
        subject(text, torch.zeros(3, dtype=torch.bool))
    with pytest.raises(ValueError, match="at least one vector"):
        Subject(6, 0)


# Losses ---------------------------------------------------------------------------------------------------


def test_equal_weights_give_the_loss_of_training() -> None:
    logits, bits = drawn(2, 11, 3, 2), (drawn(2, 11, 3, seed=2) > 0).long()
    loss = SubjectLoss(rest=1.0)(logits, bits, SHAPES)
    assert torch.allclose(loss, training_loss(logits, bits, SHAPES, by_scale=False), atol=1e-6)
    assert torch.allclose(SubjectLoss(rest=1.0, total=True)(logits, bits, SHAPES), 3 * loss, atol=1e-5)


def test_late_maps_weigh_less() -> None:
    logits, bits = drawn(1, 11, 3, 2), torch.zeros(1, 11, 3, dtype=torch.long)
    plain = torch.nn.functional.cross_entropy(logits.flatten(0, 2), bits.flatten(), reduction="none")
    by_map = [part.mean(dim=(1, 2)) * part.shape[1] for part in plain.view(1, 11, 3).split([1, 4, 6], 1)]
    want = (by_map[0] + 0.25 * (by_map[1] + by_map[2])) / 11
    assert torch.allclose(SubjectLoss(weights=(1.0,), rest=0.25)(logits, bits, SHAPES), want, atol=1e-6)
    assert map_numbers(SHAPES).tolist() == [0, *[1] * 4, *[2] * 6]


@pytest.mark.parametrize("hard", [False, True])
def test_the_prior_of_the_teacher_itself(hard: bool) -> None:
    logits = 1000 * drawn(2, 11, 3, 2).requires_grad_()
    loss = PriorLoss(hard=hard)(logits, logits.detach())
    assert loss.item() == pytest.approx(0.0, abs=1e-3 if hard else 1e-6)
    assert PriorLoss(hard=hard, weight=2.0)(drawn(2, 11, 3, 2, seed=5), logits.detach()) > 0.1


# Rollout --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"patchify": True}, {"depth": 4, "level_every": 2}])
def test_the_first_map_is_what_a_causal_pass_says_and_later_ones_are_not(options: dict[str, object]) -> None:
    model = tiny(**options)
    made = rollout(model, texts(), SHAPES, Sampler())
    with torch.no_grad():
        forced = held_to(model, model, texts(), made, SHAPES)
    assert torch.allclose(made.logits[:, :1], forced[:, :1], atol=1e-5)
    assert not torch.allclose(made.logits[:, 1:], forced[:, 1:], atol=1e-2)
    assert torch.equal(rollout(model, texts(), SHAPES, Sampler()).bits, made.bits)


# Files ----------------------------------------------------------------------------------------------------


def test_a_subject_is_saved_loaded_and_taken_away_without_a_trace(tmp_path: Path) -> None:
    base, path = tiny(), tmp_path / "subject.safetensors"
    tuned, subject = copy.deepcopy(base), randomised(Subject(128), 4)
    with torch.no_grad():
        for parameter in freeze_but(tuned, selected([name for name, _ in tuned.named_parameters()])):
            parameter.add_(0.1)
    save_subject(path, tuned, base, subject)
    before, adapters = fingerprint(base), AdapterSet(base)
    with torch.no_grad():
        want, plain = (model(texts(), drawn(2, 10, 3), SHAPES) for model in (tuned, base))
        assert torch.equal(load_subject(path, adapters, "dog").vectors, subject.vectors)
        assert torch.allclose(base(texts(), drawn(2, 10, 3), SHAPES), want, atol=1e-4)
        adapters.remove("dog")
        assert torch.equal(base(texts(), drawn(2, 10, 3), SHAPES), plain)
    assert fingerprint(base) == before
    with pytest.raises(ValueError, match=r"made for Infinity \(\w+\), but this Infinity is"):
        load_subject(path, AdapterSet(tiny(1)), "dog")


def test_an_adapter_that_is_no_subject_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    base, path = tiny(), tmp_path / "other.safetensors"
    save_adapter(path, AdapterFile("style", {"pos_start": torch.ones(1, 1, 64)}, fingerprint(base)))
    adapters = AdapterSet(base)
    with pytest.raises(ValueError, match="'style' is no subject"):
        load_subject(path, adapters, "dog")
    assert adapters.names == []
    assert fingerprint(base) == adapters.hash
