"""Pretrained decoders take the place of the default one and compute what they computed."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3VLConfig, Qwen3VLForConditionalGeneration

from unified.config import text_decoder
from unified.decoding.session import Session
from unified.pretrained_backbone import from_backbone
from unified.stream.vocabulary import Vocabulary


def llama():
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=120,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
        )
    )


def qwen():
    text = {**text_decoder(width=32, layers=2, heads=2, kv_heads=1), "vocab_size": 120}
    vision = {
        "depth": 1,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_heads": 2,
        "out_hidden_size": 32,
        "deepstack_visual_indexes": [],
    }
    return Qwen3VLForConditionalGeneration(Qwen3VLConfig(text_config=text, vision_config=vision))


@pytest.mark.parametrize("build", [llama, qwen])
def test_text_is_continued_as_the_pretrained_model_would(build, tmp_path):
    torch.manual_seed(0)
    pretrained = build().eval()
    for parameter in pretrained.get_decoder().parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    pretrained.save_pretrained(tmp_path)
    model = from_backbone(tmp_path, Vocabulary(text=100)).eval()
    ids = torch.tensor([[3, 14, 15, 92, 65, 35]])
    with torch.no_grad():
        want = pretrained(input_ids=ids).logits[0, :-1, :100]
        got = model(ids).logits[0, 1:, :100]  # ours are aligned to the token itself
    torch.testing.assert_close(got, want, atol=1e-4, rtol=0)
    session = Session(model)
    words = model.vocabulary
    session.feed([words.begin, words.user, 3, 14, words.end, words.assistant])
    assert session.draw([1, 2]).codes.shape == (1, 5)


def test_a_model_with_too_few_ids_is_refused():
    with pytest.raises(ValueError, match="has 120 ids, the vocabulary 200 of text"):
        from_backbone(llama(), Vocabulary(text=200))
