"""TRL's `DPOTrainer` scores replies with the decoder and the output embeddings alone. On this model the
numbers are wrong, so the decoder refuses."""

import copy

import pytest
import torch
from unified.tokenizers.text import byte_tokenizer

from unified.backbone.library import build
from unified.layout.layout import Layout
from unified.model import UnifiedConfig, UnifiedModel
from unified.stream.messages import Stream

pytest.importorskip("trl", reason="TRL comes with the extra `train`")
pytest.importorskip("datasets", reason="datasets comes with the extra `train`")


@pytest.fixture(scope="module")
def model():
    from transformers import GenerationConfig

    torch.manual_seed(0)
    made = UnifiedModel(UnifiedConfig(vocabulary={"orders": ["next_scale"]}, initializer_range=0.2))
    made.generation_config = GenerationConfig()  # TRL's constructor asks for one
    return made


@pytest.fixture(scope="module")
def replies(model):
    """Two samples with an image, and how many ids of them are the prompt."""
    stream = Stream(model.vocabulary, byte_tokenizer())
    samples = []
    for codes in ([1, 2, 3, 4, 5], [9, 8, 7, 6, 5]):
        image = {"type": "image", "codes": codes, "shapes": [[1, 1], [2, 2]], "order": "next_scale"}
        samples.append(
            stream.encode([{"role": "user", "content": "draw"}, {"role": "assistant", "content": [image]}])
        )
    return samples, samples[0].index(model.vocabulary.assistant) + 1


@pytest.fixture
def make_trainer(model, replies, tmp_path):
    """TRL's trainer on one pair, for a copy of the model."""
    from datasets import Dataset
    from transformers import PreTrainedTokenizerFast
    from trl import DPOConfig, DPOTrainer

    from tokenizers import Tokenizer, models, pre_tokenizers

    words = model.vocabulary
    names = [f"<{n}>" for n in range(words.size)]
    raw = Tokenizer(models.WordLevel({name: n for n, name in enumerate(names)}, unk_token=names[0]))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token=names[words.pad], eos_token=names[words.end]
    )
    (chosen, rejected), prompt = replies
    texts = {"prompt": chosen[:prompt], "chosen": chosen[prompt:], "rejected": rejected[prompt:]}
    row = {name: " " * (name != "prompt") + " ".join(names[n] for n in ids) for name, ids in texts.items()}
    settings = {"max_steps": 1, "per_device_train_batch_size": 1, "use_cpu": True, "bf16": False}

    def make(peft_config=None):
        reference = None if peft_config else copy.deepcopy(model)
        return DPOTrainer(
            copy.deepcopy(model),
            ref_model=reference,
            args=DPOConfig(output_dir=str(tmp_path), report_to=[], gradient_checkpointing=False, **settings),
            train_dataset=Dataset.from_list([row]),
            processing_class=tokenizer,
            peft_config=peft_config,
        )

    return make


def test_what_trl_computes_without_the_refusal_is_wrong(make_trainer, replies):
    """The reason for the refusal; should this fail, TRL has learned to ask the model's own forward."""
    trainer = make_trainer()
    decoder = build(trainer.model.config.backbone_config(), pretrained=False)  # of the library, not refused
    decoder.load_state_dict(trainer.model.backbone.state_dict())
    decoder.config._attn_implementation = "sdpa"  # as a decoder of its own
    trainer.model.backbone = decoder
    batch = trainer.data_collator([trainer.train_dataset[0]])
    assert batch["input_ids"].tolist() == replies[0]
    labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100)
    with torch.no_grad():
        found = trainer.model(**batch_of(batch), labels=labels, fused_lm_head=True).log_probs.sum(1)
        layout = Layout.of(batch["input_ids"], trainer.model.vocabulary)
        true = trainer.model(batch["input_ids"], labels=layout.labels(batch["input_ids"])).log_probs.sum(1)
    print(f"TRL {found.tolist()}, true {true.tolist()}")
    assert (found - true).abs().min() > 10


def batch_of(batch):
    return {name: batch[name] for name in ("input_ids", "attention_mask")}


def test_trls_dpo_fails_in_one_clear_line(make_trainer):
    with pytest.raises(ValueError, match="PreferenceTrainer") as error:
        make_trainer().train()
    assert len(str(error.value).splitlines()) == 1


def test_trls_dpo_with_adapters_fails_too(make_trainer):
    from peft import LoraConfig

    with pytest.raises(ValueError, match="PreferenceTrainer"):
        make_trainer(LoraConfig(r=2, target_modules=["q_proj", "v_proj"])).train()
