"""Every family of decoders computes in our loop what the library computes, and in a session what one pass
does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModel
from unified.tokenizers.text import byte_tokenizer

from unified.backbone.decoder import LibraryLayers, run_layers
from unified.backbone.layer_pass import Pass
from unified.config import text_decoder
from unified.decoding.guidance import Constant
from unified.decoding.session import Session
from unified.layout.attention import Index, Seen, attends
from unified.stream.messages import Stream

SIZE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 1024,
}
SECTIONS = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 1, 1]}
WINDOWED = ["sliding_attention", "full_attention", "sliding_attention"]
FAMILIES: dict[str, dict[str, Any]] = {
    "qwen3_vl_text": text_decoder(width=32, layers=3, heads=4, kv_heads=2),
    "qwen2_5_vl_text": {**SIZE, "rope_parameters": SECTIONS},
    "qwen2": SIZE,
    "qwen3": SIZE,
    "llama": SIZE,
    "gemma3_text": {**SIZE, "layer_types": WINDOWED, "sliding_window": 64, "query_pre_attn_scalar": 8},
}
COUNT = 12


def decoder(family: str, attention: str, **changes: Any) -> Any:
    """A decoder of transformers with large random weights, the same for every attention."""
    options = {**FAMILIES[family], "vocab_size": 40, "model_type": family, **changes}
    made = AutoModel.from_config(AutoConfig.for_model(**options), attn_implementation=attention).eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=generator)
    return made


def states(family: str, dtype: torch.dtype = torch.float32, **changes: Any) -> tuple[Any, Any]:
    """Hidden states of causal text [2, COUNT, 32]: ours, and those of the library's own call."""
    library, ours = (decoder(family, kind, **changes).to(dtype) for kind in ("sdpa", "unified"))
    embeds = torch.randn(2, COUNT, 32, generator=torch.Generator().manual_seed(1)).to(dtype)
    label = torch.arange(COUNT).expand(2, -1)
    zero = torch.zeros_like(label)
    index, positions = Index(zero, zero, zero, label), label.expand(3, -1, -1)
    run = Pass(index, positions.float(), seen=Seen(attends(index, index)[:, None]))
    layers = LibraryLayers(ours)
    with torch.no_grad():
        places = positions if layers.spatial else label
        want = library(inputs_embeds=embeds, position_ids=places, use_cache=False).last_hidden_state
        return run_layers([layers], embeds, run)[0], want


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_loop_computes_what_the_library_does_bit_for_bit(family, dtype):
    got, want = states(family, dtype)
    assert torch.equal(got, want)


def test_the_attention_rule_decides_what_sliding_window_layers_see():
    """Layers of a sliding window keep their rotary embedding, and see as far as the attention rule says: a
    window of fewer positions than are run makes the library's states others than ours, and leaves ours."""
    wide, narrow = (states("gemma3_text", sliding_window=size) for size in (COUNT, 4))
    assert torch.equal(wide[0], narrow[0])
    assert torch.equal(narrow[0][:, :4], narrow[1][:, :4]), "within the window nothing differs"
    assert not torch.allclose(narrow[0][:, 4:], narrow[1][:, 4:], atol=1e-2)


# Sessions ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=FAMILIES)
def model(request, make_model):
    return make_model(backbone={**FAMILIES[request.param], "model_type": request.param})


def opened(model, **options):
    """A session of two rows of unequal lengths, one with an image, after some words of the model's own."""
    stream = Stream(model.vocabulary, byte_tokenizer())
    shown = {"type": "image", "codes": [1, 2, 3, 4, 5, 6], "shapes": [[2, 3]]}
    asked = ["draw", [{"type": "text", "text": "a longer request"}, shown]]
    session = Session(model, rows=2, seed=3, **options)
    session.feed([stream.encode([{"role": "user", "content": said}], prompt=True) for said in asked])
    list(session.text(max_tokens=3, draw=False, end=False))
    return session


def test_a_session_says_what_one_pass_gives(model):
    """Text, an image step by step, actions and text after it: the states of each row alone in one pass."""
    session = opened(model)
    session.draw([1, 2, (2, 3)])
    list(session.text(max_tokens=3, draw=False, end=False))
    session.action()
    for row, ids in enumerate(session.streams):
        with torch.no_grad():
            want = model(torch.tensor([ids])).hidden_states[0, -1]
        torch.testing.assert_close(session.last[row], want, atol=2e-4, rtol=1e-3)


def test_guided_steps_are_two_passes_combined(model):
    session, scale, found = opened(model), 3.0, []
    before = session.streams
    session.draw([1, 2, (2, 3)], guidance=Constant(scale), hook=lambda step: found.append(step) or step)
    predicted = torch.cat([step.logits[:, :, 0] for step in found], dim=1)  # [2, 11, V]
    for row, ids in enumerate(session.streams):
        written = ids[len(before[row]) :]
        streams = ids, [*model.null_stream(before[row]), *written]
        with torch.no_grad():
            whole, blind = (codes_of(model, torch.tensor([one])) for one in streams)
        want = scale * whole - (scale - 1) * blind
        torch.testing.assert_close(predicted[row].log_softmax(-1), want.log_softmax(-1), atol=2e-3, rtol=1e-3)


def codes_of(model, ids):
    """Log-probabilities [T, V] of the WRITE codes of one stream."""
    start = model.vocabulary.visual_start
    logits = model(ids).logits[0, :, start : start + model.vocabulary.visual]
    return logits[logits.isfinite().all(dim=-1)].log_softmax(dim=-1)
