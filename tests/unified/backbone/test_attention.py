"""Ways to attend in a session give what scaled dot-product attention gives, under masks no larger than
needed."""

import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from unified.backbone import attention
from unified.backbone.attention import attend_all, of_session, sdpa, session_attention
from unified.decoding.guidance import Constant
from unified.decoding.session import Session
from unified.layout.attention import Index, Seen, attends, visible
from unified.layout.layout import Layout


def tensors(rows, heads, groups, count, length, dtype):
    generator = torch.Generator().manual_seed(0)
    shapes = ((rows, heads, count, 16), (rows, groups, length, 16), (rows, groups, length, 16))
    return [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]


def mask_of(rows, count, length):
    mask = torch.rand(rows, 1, count, length, generator=torch.Generator().manual_seed(1)) < 0.6
    mask[..., 0] = True
    return mask


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("count", [1, 40])
@pytest.mark.parametrize("masked", [0, 1, 3])
@torch.no_grad()
def test_heads_that_share_keys(dtype, count, masked):
    query, key, value = tensors(3, 6, 2, count, 50, dtype)
    mask = mask_of(masked, count, 50) if masked else None
    found = sdpa(query, key, value, Seen(mask), 0.25)
    repeated = [x.float().repeat_interleave(3, dim=1) for x in (key, value)]
    expected = scaled_dot_product_attention(query.float(), *repeated, attn_mask=mask, scale=0.25)
    tolerance = 1e-5 if dtype == torch.float32 else 3e-2
    torch.testing.assert_close(found.float(), expected.transpose(1, 2), atol=tolerance, rtol=tolerance)


def test_gradients_pass():
    query, key, value = tensors(1, 2, 2, 40, 50, torch.bfloat16)
    query.requires_grad_()
    attend_all(query, key, value, None, 0.25).sum().backward()
    assert query.grad is not None


@pytest.mark.parametrize("masked", [0, 1, 3])
@torch.no_grad()
def test_pieces_of_queries_change_nothing(monkeypatch, masked):
    query, key, value = tensors(3, 6, 6, 80, 50, torch.bfloat16)
    mask = mask_of(masked, 80, 50) if masked else None
    whole = attend_all(query, key, value, mask, 0.25)
    monkeypatch.setattr(attention, "SCORES", 1)
    torch.testing.assert_close(attend_all(query, key, value, mask, 0.25), whole, atol=1e-2, rtol=1e-2)


# Names ------------------------------------------------------------------------------------------------------


def test_names_of_transformers_mean_what_they_say(make_model, monkeypatch):
    monkeypatch.setitem(sys.modules, "flash_attn", SimpleNamespace(flash_attn_with_kvcache=None))
    names = {
        "sdpa": "sdpa",
        "flex_attention": "by_block",
        "flash_attention_2": "by_length",
        "by_sample": "by_sample",
    }
    model = make_model()
    for name, kind in names.items():
        made = make_model(attn_implementation=name)
        model.set_attn_implementation(name)
        assert (made.attention, model.attention) == (kind, kind)
        assert (made.attend is sdpa) == (model.attend is sdpa) == (kind != "by_length")
        assert made.config._attn_implementation == model.config._attn_implementation == name


def test_a_name_that_is_not_there_changes_nothing(make_model, monkeypatch):
    monkeypatch.setitem(sys.modules, "flash_attn", None)
    model = make_model()
    for name, said in (
        ("flash_attention_3", "use one of sdpa"),
        ("flash_attention_2", "needs the package flash-attn"),
    ):
        for ask in (model.set_attn_implementation, lambda name: make_model(attn_implementation=name)):
            with pytest.raises(ValueError, match=said) as error:
                ask(name)
            assert "\n" not in str(error.value)
    assert (model.attention, model.attend) == ("sdpa", sdpa)


def test_why_an_attention_runs(monkeypatch):
    half, cpu, gpu = torch.bfloat16, torch.device("cpu"), torch.device("cuda")
    assert "on cpu, flash-attention needs a GPU" in session_attention("sdpa", cpu, half)
    monkeypatch.setattr(attention, "find_spec", lambda name: None)
    assert "flash-attn is not installed" in session_attention("sdpa", gpu, half)
    monkeypatch.setattr(attention, "find_spec", lambda name: name)
    assert "the model is float32" in session_attention("by_block", gpu, torch.float32)
    assert "asks for it" in session_attention("sdpa", gpu, half)
    assert session_attention("by_length", gpu, half).startswith("flash-attention, as asked")


# flash-attention --------------------------------------------------------------------------------------------


def test_flash_attention_that_is_not_installed_is_refused_in_one_line(monkeypatch, make_model):
    monkeypatch.setitem(sys.modules, "flash_attn", None)  # as if it were not
    with pytest.raises(
        ValueError, match=r'attention "by_length" needs the package flash-attn: pip install'
    ) as e:
        make_model(attn_implementation="by_length")
    assert "\n" not in str(e.value)


@pytest.fixture
def reference(monkeypatch):
    """In place of the package: what its documentation says `flash_attn_with_kvcache` computes, row by row."""
    calls = []

    def with_kvcache(q, k_cache, v_cache, *, cache_seqlens, softmax_scale, causal):
        calls.append(cache_seqlens)
        assert (causal, cache_seqlens.dtype, q.dtype) == (False, torch.int32, torch.bfloat16)
        assert k_cache.stride(3) == 1
        found = []
        for row, length in enumerate(cache_seqlens.tolist()):
            one = (x[row : row + 1, :length].transpose(1, 2) for x in (k_cache, v_cache))
            query = q[row : row + 1].transpose(1, 2)
            out = scaled_dot_product_attention(query, *one, scale=softmax_scale, enable_gqa=True)
            found.append(out.transpose(1, 2))
        return torch.cat(found)

    monkeypatch.setitem(sys.modules, "flash_attn", SimpleNamespace(flash_attn_with_kvcache=with_kvcache))
    return calls


def test_flash_attention_takes_half_precision_alone(reference):
    query, key, value = tensors(1, 2, 2, 1, 5, torch.float32)
    with pytest.raises(
        ValueError, match=r'attention "by_length" takes bfloat16 or float16, got torch.float32'
    ):
        of_session("by_length")(query, key, value, Seen(), 0.25)


def same_codes(choice):
    """So that rounding sends no image another way."""
    return replace(choice, codes=torch.zeros_like(choice.codes))


@pytest.mark.parametrize("static", [False, True], ids=["growing", "static"])
@torch.no_grad()
def test_sessions_hand_flash_attention_their_lengths(reference, make_model, stream, static):
    """Text token by token and the steps of a guided image go through it; prompts, which need the rule, do
    not."""
    found = []
    for kind in ("sdpa", "by_length"):
        model = make_model(attn_implementation=kind).to(torch.bfloat16)
        session, steps = Session(model, rows=2, seed=1), []
        if static:
            session.keep_in(model.new_cache(4, 100, static=True))
        asked = [[{"role": "user", "content": text}] for text in ("a", "a longer one")]
        session.feed([stream.encode(messages, prompt=True) for messages in asked])
        assert not reference, "a prompt goes through SDPA"
        session.draw(
            [1, 2, 3], guidance=Constant(2.0), hook=lambda x, steps=steps: steps.append(x) or same_codes(x)
        )
        assert len(reference) == (4 if kind == "by_length" else 0), (
            "two layers at the second and the third step"
        )
        list(session.text(max_tokens=2, draw=False, end=False))
        found.append(torch.cat([step.logits for step in steps], dim=1))
    assert len(reference) >= 6
    torch.testing.assert_close(*found, atol=0.3, rtol=0.05)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="flash-attention needs a GPU")
@pytest.mark.parametrize("static", [False, True], ids=["growing", "static"])
@torch.no_grad()
def test_flash_attention_is_sdpa(static):
    """On the layout of the caches, with rows of unequal lengths."""
    pytest.importorskip("flash_attn", reason="flash-attn is not installed")
    query, key, value = (x.cuda() for x in tensors(3, 6, 2, 4, 50, torch.bfloat16))
    if static:  # [R, K, G, D] in memory
        key, value = (x.transpose(1, 2).contiguous().transpose(1, 2) for x in (key, value))
    lengths = torch.tensor([50, 20, 7], dtype=torch.int32, device="cuda")
    seen = Seen((torch.arange(50, device="cuda") < lengths[:, None])[:, None, None], lengths)
    found = of_session("by_length")(query, key, value, seen, 0.25)
    torch.testing.assert_close(found, sdpa(query, key, value, seen, 0.25), atol=2e-2, rtol=2e-2)


# Masks ------------------------------------------------------------------------------------------------------


def index(sample, label, kind=0, segment=0):
    sample, label = torch.tensor(sample), torch.tensor(label)
    zero = torch.zeros_like(label)
    return Index(sample, zero + segment, zero + kind, label)


def test_one_step_of_rows_of_unequal_lengths_needs_a_mask_of_rows_and_keys():
    key = index([[0, 0, 0, 0], [0, 0, 0, -1]], [[0, 1, 2, 2], [0, 1, 1, 0]])
    query = index([[0, 0], [0, 0]], [[2, 2], [1, 1]])
    mask = visible(query, key)
    assert mask.shape == (2, 1, 1, 4)
    assert mask[:, 0, 0].tolist() == [[True] * 4, [True, True, True, False]]
    assert torch.equal(mask.expand(-1, -1, 2, -1)[:, 0], attends(query, key))


def test_one_step_of_equal_rows_needs_no_mask_and_text_the_rule():
    key = index([[0, 0, 0]], [[0, 1, 2]])
    assert visible(index([[0, 0]], [[2, 2]]), key) is None
    assert visible(index([[0, 0]], [[1, 2]]), key).tolist() == [[[[True, True, False], [True] * 3]]]


def test_queries_that_are_padding_see_something():
    key = index([[0, 0, 0], [0, 0, -1]], [[0, 1, 2], [0, 1, 0]])
    mask = visible(index([[0, 0], [0, -1]], [[1, 2], [1, 0]]), key)
    assert mask.any(dim=-1).all()


def test_a_long_sample_keeps_no_scores_for_the_backward_pass(make_model):
    words = make_model().vocabulary
    ids = torch.tensor([[words.begin, words.user, *[7] * (attention.LONG + 40), words.end]])
    found = {}
    for name in ("sdpa", "by_sample"):
        torch.manual_seed(0)
        model = make_model(attn_implementation=name).train()
        kept: list[int] = []

        def keep(tensor, kept=kept):
            kept.append(tensor.shape[-2] if tensor.ndim > 1 and tensor.shape[-1] == ids.shape[1] else 0)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            hidden = model.states(ids, Layout.of(ids, words))[0]
        hidden.square().sum().backward()
        found[name] = (hidden, model.get_input_embeddings().weight.grad, sum(n == ids.shape[1] for n in kept))
    torch.testing.assert_close(found["by_sample"][:2], found["sdpa"][:2], atol=1e-4, rtol=1e-4)
    layers = model.layer_count
    assert found["by_sample"][2] <= layers  # the mask alone, not the scores of every head
