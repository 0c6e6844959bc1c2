"""Preference tuning of a continuous head: one time and one noise for both replies, policy and reference."""

import math
import sys
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from unified.tokenizers.text import byte_tokenizer
from unified.train.preference.grpo import StreamGRPOConfig, StreamGRPOTrainer
from unified.train.preference.paired import pair_noise

from unified.layout.layout import Layout
from unified.objectives import DPO, Progress, Scores
from unified.stream.messages import Stream

sys.path.insert(0, str(Path(__file__).parents[2]))  # pytest's import mode adds no folder
from latent_models import latent_model


@pytest.fixture(params=["flow", "block_flow"])
def latents(request):
    return latent_model(request.param, steps=2)


def answer(model, seed):
    generator = torch.Generator().manual_seed(seed)
    codes = model.head.to_codes(torch.randn(4, 4, generator=generator)).tolist()
    image = {"type": "image", "codes": codes, "shapes": [[2, 2]], "order": "masked"}
    return [image, {"type": "text", "text": "so"}]


@pytest.fixture
def pairs(latents):
    stream, rows = Stream(latents.vocabulary, byte_tokenizer()), []
    for number in range(4):
        prompt = stream.encode([{"role": "user", "content": f"draw {number}"}], prompt=True)
        one, two = (stream.content(answer(latents, seed)) for seed in (number, 50 + number))
        end = latents.vocabulary.end
        rows.append({"prompt_ids": prompt, "chosen_ids": [*one, end], "rejected_ids": [*two, end]})
    return rows


def batch_of(pairs, sides=("chosen_ids", "rejected_ids")):
    ids = torch.tensor([[*row["prompt_ids"], *row[side]] for side in sides for row in pairs])
    return ids


def test_both_replies_have_the_same_times_and_noise(latents, pairs):
    ids = batch_of(pairs)
    layout = Layout.of(ids, latents.vocabulary)
    noise = pair_noise(latents, {"input_ids": ids, "layout": layout}, fresh=True)
    rows, places = (layout.step >= 0).nonzero(as_tuple=True)
    draws = noise.uniform(rows, places, 6).view(8, 4, 6)
    assert torch.equal(draws[:4], draws[4:])
    assert draws.flatten(0, 1).unique(dim=0).shape[0] == 16
    same = torch.cat([ids[:4], ids[:4]])
    scores = latents(same, bound_noise=noise).log_probs
    assert torch.equal(scores[:4], scores[4:])


def test_the_first_loss_is_ln_2(latents, pairs, make_trainer, logged):
    trainer = make_trainer(Dataset.from_list(pairs), policy=latents, steps=1)
    trainer.train()
    assert logged(trainer, "loss")[0] == pytest.approx(math.log(2), abs=1e-5)
    assert logged(trainer, "logps/map_0/chosen")[0] < 0


@pytest.mark.slow
def test_preferences_are_learned(latents, pairs, make_trainer, logged):
    data = Dataset.from_list(pairs)
    trainer = make_trainer(data, policy=latents, steps=30, learning_rate=3e-3, beta=2.0)
    trainer.train()
    losses = logged(trainer, "loss")
    assert sum(logged(trainer, "rewards/margins")[-5:]) > 0
    assert sum(losses[-5:]) / 5 < 0.6


def test_what_needs_log_probabilities_is_refused(latents, pairs, make_trainer, tmp_path):
    data = Dataset.from_list(pairs)
    with pytest.raises(ValueError, match="a precomputed reference would have others than the policy"):
        make_trainer(data, policy=latents, precompute_ref_log_probs=True)
    with pytest.raises(ValueError, match="use_weighting"):
        make_trainer(data, policy=latents, use_weighting=True)
    args = StreamGRPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False)
    with pytest.raises(ValueError, match="GRPO, whose ratios are of what was drawn, needs exact"):
        StreamGRPOTrainer(latents, None, None, args)


def test_the_objective_pairs_rows_that_alternate(latents, pairs):
    """`dpo` of the trainer: equal replies have equal scores, in policy and reference."""
    ids = batch_of(pairs[:1], ("chosen_ids", "chosen_ids"))
    layout = Layout.of(ids, latents.vocabulary)
    labels = layout.labels(ids)
    batch = {
        "input_ids": ids,
        "layout": layout,
        "labels": labels,
        "weights": (labels >= 0).float(),
        "rows": 2,
    }
    objective = DPO()
    prepared = objective.prepare(batch, Progress(step=3, seed=1))
    latents.train()
    policy, reference = (
        Scores.of(latents(ids, labels=labels, layout=layout, **prepared["options"]), layout, labels)
        for _ in range(2)
    )
    found = objective.loss(policy, reference, prepared)
    assert float(found.loss.detach()) == pytest.approx(math.log(2), abs=1e-6)
    assert torch.equal(policy.log_probs[0], policy.log_probs[1])
