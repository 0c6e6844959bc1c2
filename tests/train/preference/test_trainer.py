"""DPO on streams: the reference in three ways, gradients however a step is cut, weights, what is refused."""

import math

import pytest
import torch
from peft import LoraConfig
from unified.train.preference.weighting import SCHEMES

LORA = {"r": 4, "target_modules": ["q_proj", "v_proj"], "init_lora_weights": True}
REFERENCES = {
    "copy": {},
    "adapters off": {"peft_config": LoraConfig(**LORA)},
    "precomputed": {"precompute_ref_log_probs": True},
}


@pytest.mark.parametrize("options", REFERENCES.values(), ids=REFERENCES.keys())
@pytest.mark.parametrize("weights", SCHEMES)
def test_the_first_loss_is_ln_2(make_trainer, logged, options, weights):
    trainer = make_trainer(steps=1, weights=weights, **options)
    trainer.train()
    assert logged(trainer, "loss")[0] == pytest.approx(math.log(2), abs=1e-5)
    assert logged(trainer, "rewards/margins")[0] == pytest.approx(0, abs=1e-4)


def curve(trainer, logged):
    trainer.train()
    return torch.tensor(logged(trainer, "loss"))


def test_references_of_all_kinds_give_one_loss_curve(make_trainer, logged, model):
    """Adapters are trained in all three runs, from the same start."""
    config = {"peft_config": LoraConfig(**LORA), "steps": 6}
    curves = [
        curve(make_trainer(**config, ref_model=model), logged),
        curve(make_trainer(**config), logged),
        curve(make_trainer(**config, precompute_ref_log_probs=True), logged),
    ]
    assert (curves[0] - curves[0][0]).abs().max() > 1e-2, "nothing was learned"
    for other in curves[1:]:
        torch.testing.assert_close(curves[0], other, atol=1e-4, rtol=0)


def test_a_precomputed_reference_trains_all_weights_like_a_copy(make_trainer, logged):
    options = {"weights": "coarse_first", "beta": 2.0, "steps": 4}
    found = [curve(make_trainer(**options, precompute_ref_log_probs=flag), logged) for flag in (False, True)]
    torch.testing.assert_close(*found, atol=1e-4, rtol=0)


def test_a_precomputed_reference_is_a_vector_of_sums_by_column(make_trainer, model):
    """Weights may be chosen after the reference was computed: its sums are of text, actions and each map."""
    trainer = make_trainer(precompute_ref_log_probs=True)
    row = trainer.train_dataset[0]
    ids = torch.tensor([row["prompt_ids"] + row["chosen_ids"]])
    found = model(ids, labels=labels_of(model, ids))
    steps = found.step_sums.sum(dim=1)[0]  # by map: each is a step
    rest = found.log_probs.sum() - steps.sum()
    torch.testing.assert_close(
        torch.tensor(row["ref_chosen_logps"]), torch.stack([rest, torch.zeros(()), *steps]), atol=1e-4, rtol=0
    )


def labels_of(model, ids):
    from unified.layout.layout import Layout

    return Layout.of(ids, model.vocabulary).labels(ids)


# Gradients --------------------------------------------------------------------------------------------------


def gradients(trainer):
    """Of the first step: those that the optimiser sees."""
    found = {}

    def keep(*_, **__):
        found.update(
            {name: p.grad.clone() for name, p in trainer.model.named_parameters() if p.grad is not None}
        )

    trainer.create_optimizer()
    trainer.optimizer.register_step_pre_hook(keep)
    trainer.train()
    return found


@pytest.mark.parametrize("options", [{}, {"sft": 0.5, "weights": "map", "beta": 3.0}], ids=["sum", "map+sft"])
def test_accumulation_gives_the_same_gradients(make_trainer, options):
    cuts = [
        gradients(make_trainer(steps=1, pairs_a_step=8, micro=micro, max_grad_norm=0, **options))
        for micro in (8, 4, 1)
    ]
    assert max(value.abs().max() for value in cuts[0].values()) > 1e-4
    for other in cuts[1:]:
        assert other.keys() == cuts[0].keys()
        for name, value in cuts[0].items():
            torch.testing.assert_close(other[name], value, atol=1e-6, rtol=1e-4, msg=name)


def test_swapping_the_pair_negates_the_margin(make_trainer, pairs):
    """Of a policy that has moved away from its reference."""
    policy = make_trainer(steps=2)
    policy.train()
    back = {"chosen_ids": "rejected_ids", "rejected_ids": "chosen_ids"}
    swapped = pairs.rename_columns({name: f"{name}_" for name in back})
    swapped = swapped.rename_columns({f"{name}_": other for name, other in back.items()})
    margins = []
    for data in (pairs, swapped):
        policy.evaluate(data)
        margins.append(policy.state.log_history[-1]["eval_rewards/margins"])
    assert abs(margins[0]) > 1e-3
    assert margins[1] == pytest.approx(-margins[0], abs=1e-5)


# Weights and logs -------------------------------------------------------------------------------------------


def test_the_log_has_likelihoods_by_map(make_trainer, logged):
    trainer = make_trainer(steps=1, pairs_a_step=8, micro=8)
    trainer.train()
    for side in ("chosen", "rejected"):
        batch = trainer.data_collator(list(trainer.train_dataset))
        columns, mask = batch["columns"].chunk(2), batch["completion_mask"].chunk(2)
        part = int(side == "rejected")
        shares = [((columns[part] == c) & (mask[part] > 0)).any(dim=1).float().mean() for c in range(4)]
        names = ("text", "action", "map_0", "map_1")
        parts = [
            logged(trainer, f"logps/{name}/{side}")[0] * share
            for name, share in zip(names, shares, strict=True)
        ]
        assert sum(parts) == pytest.approx(logged(trainer, f"logps/{side}")[0], rel=1e-5)


def test_the_sft_term_is_the_likelihood_of_a_chosen_target(make_trainer, logged):
    plain, added = (
        make_trainer(steps=1, pairs_a_step=8, micro=8, sft=sft, weights="mean") for sft in (0, 0.5)
    )
    plain.train()
    added.train()
    nll = logged(added, "sft_loss")[0]
    assert nll > 1
    assert logged(added, "loss")[0] - logged(plain, "loss")[0] == pytest.approx(0.5 * nll, abs=1e-4)


def test_every_loss_of_trl_runs(make_trainer, logged):
    several = [
        "sigmoid",
        "hinge",
        "robust",
        "apo_zero",
        "apo_down",
        "nca_pair",
        "bco_pair",
        "discopop",
        "ipo",
    ]
    trainer = make_trainer(steps=1, loss_type=several, loss_weights=[0.1] * len(several))
    trainer.train()
    assert math.isfinite(logged(trainer, "loss")[0])
    assert 0 < logged(trainer, "entropy")[0] < 10
    assert logged(trainer, "mean_token_accuracy")[0] >= 0


def test_wpo_weighting_runs(make_trainer, logged):
    trainer = make_trainer(steps=1, use_weighting=True)
    trainer.train()
    assert 0 < logged(trainer, "loss")[0] < math.log(2)


# Refusals ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": "fine"}, "unknown weights 'fine'"),
        ({"weights": "map", "loss_type": ["ipo"]}, "takes means over targets itself"),
        ({"weights": "map", "loss_type": ["sigmoid", "sft"]}, "'sft' takes means over targets itself"),
        ({"weights": "mean", "use_weighting": True}, "use_weighting"),
        ({"ld_alpha": 0.5, "precompute_ref_log_probs": True}, "ld_alpha weighs targets by their place"),
        ({"sft": -1.0}, "sft must be a finite number of at least 0"),
        ({"beta": math.nan}, "beta must be a finite number"),
        ({"truncation_mode": "keep_end"}, "keep_start"),
        ({"max_length": 30}, r"pair 0: max_length=30 cuts an image at ids \d+ to \d+"),
        ({"max_length": 5}, "leaves nothing after a prompt"),
    ],
)
def test_what_cannot_be_is_refused_before_training(make_trainer, options, message):
    with pytest.raises(ValueError, match=message):
        make_trainer(**options)


def test_text_may_be_cut(make_trainer, pairs, logged):
    """The fifth pair ends with text after an image in neither reply: only its text answers are long."""
    trainer = make_trainer(pairs.select([2]), steps=1, pairs_a_step=1, micro=1, max_length=17)
    trainer.train()
    assert logged(trainer, "loss")[0] == pytest.approx(math.log(2), abs=1e-5)


def test_another_model_is_refused(make_trainer):
    with pytest.raises(ValueError, match="takes a UnifiedModel, got Linear"):
        make_trainer(policy=torch.nn.Linear(2, 2))


def test_a_table_without_ids_is_refused(make_trainer, pairs):
    with pytest.raises(ValueError, match="no column 'chosen_ids'"):
        make_trainer(pairs.remove_columns(["chosen_ids"]))
