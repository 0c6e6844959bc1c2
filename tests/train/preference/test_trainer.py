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
