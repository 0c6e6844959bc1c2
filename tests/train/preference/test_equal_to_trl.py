"""On text a stream is what TRL's own trainer reads: the same losses, of the same weights and rows."""

import copy

import pytest
import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM
from trl import DPOConfig, DPOTrainer

from tokenizers import Tokenizer, models, pre_tokenizers
from unified.model import UnifiedConfig, UnifiedModel

SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
SIZES |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512}
STEPS = 4


@pytest.fixture(scope="module")
def ours():
    torch.manual_seed(0)
    words = {"text": 64, "visual": 2, "max_side": 2, "orders": ["next_scale"], "appended": []}
    backbone = {"model_type": "qwen2", **SIZES}
    return UnifiedModel(UnifiedConfig(vocabulary=words, backbone=backbone, initializer_range=0.2))


@pytest.fixture(scope="module")
def plain(ours):
    """A Qwen2 with the same weights; its ids are the rows of our table."""
    made = Qwen2ForCausalLM(
        Qwen2Config(vocab_size=ours.vocabulary.table_size, **SIZES, tie_word_embeddings=False)
    )
    made.model.load_state_dict(ours.backbone.state_dict())
    made.lm_head.load_state_dict(ours.text_head.state_dict())
    return made


@pytest.fixture(scope="module")
def rows(ours):
    """Eight pairs of random texts."""
    words, generator = ours.vocabulary, torch.Generator().manual_seed(0)

    def text(length):
        return torch.randint(0, words.text, (length,), generator=generator).tolist()

    found = []
    for number in range(8):
        prompt = [words.begin, words.user, *text(3 + number), words.end, words.assistant]
        found.append((prompt, [*text(4 + number), words.end], [*text(9 - number), words.end]))
    return found


SETTINGS = {
    "max_steps": STEPS,
    "per_device_train_batch_size": 2,
    "learning_rate": 5e-3,
    "lr_scheduler_type": "constant",
    "logging_steps": 1,
    "beta": 0.5,
    "save_strategy": "no",
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "report_to": [],
    "disable_tqdm": True,
}


def stock(plain, ours, rows, folder, options):
    words = ours.vocabulary
    names = [f"<{n}>" for n in range(words.table_size)]
    raw = Tokenizer(models.WordLevel({name: n for n, name in enumerate(names)}, unk_token=names[0]))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token=names[words.pad], eos_token=names[words.end]
    )
    table = [
        {
            key: " " * bool(n) + " ".join(names[token] for token in ids)
            for n, (key, ids) in enumerate(zip(("prompt", "chosen", "rejected"), row, strict=True))
        }
        for row in rows
    ]
    return InOrder(
        copy.deepcopy(plain),
        ref_model=copy.deepcopy(plain),
        args=DPOConfig(output_dir=str(folder), max_length=None, **SETTINGS, **options),
        train_dataset=Dataset.from_list(table),
        processing_class=tokenizer,
    )


class InOrder(DPOTrainer):
    """TRL's trainer, that sees the rows in our order."""

    def _get_train_sampler(self, *_):
        from unified.train.preference.trainer import EpochOrder

        return EpochOrder(len(self.train_dataset), self.args.seed)


@pytest.mark.parametrize(
    "options",
    [{}, {"loss_type": ["ipo"]}, {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.3]}],
    ids=["sigmoid", "ipo", "sigmoid+sft"],
)
def test_a_text_run_has_the_losses_of_trls_own_trainer(plain, ours, rows, tmp_path, options):
    from unified.train.preference import PreferenceConfig, PreferenceTrainer

    table = [dict(zip(("prompt_ids", "chosen_ids", "rejected_ids"), row, strict=True)) for row in rows]
    args = PreferenceConfig(output_dir=str(tmp_path / "ours"), **SETTINGS, **options)
    mine = PreferenceTrainer(copy.deepcopy(ours), args=args, train_dataset=Dataset.from_list(table))
    theirs = stock(plain, ours, rows, tmp_path / "stock", options)
    for trainer in (mine, theirs):
        trainer.train()
    names = ["loss", "rewards/margins", "logps/chosen", "logps/rejected", "entropy", "mean_token_accuracy"]
    names += ["logits/chosen", "logits/rejected", "rewards/accuracies"]
    for name in names:
        found, expected = (
            [entry[name] for entry in trainer.state.log_history if name in entry]
            for trainer in (mine, theirs)
        )
        assert len(found) == STEPS
        tolerance = 1e-5 if name == "loss" else 1e-3
        assert found == pytest.approx(expected, abs=tolerance, rel=1e-5), name
    losses = [entry["loss"] for entry in mine.state.log_history if "loss" in entry]
    assert abs(losses[-1] - losses[0]) > 1e-2, "nothing was learned"
