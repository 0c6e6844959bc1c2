"""The model: likelihoods, saving, training, other backbones and heads."""

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM
from unified.tokenizers.text import byte_tokenizer

from unified.decoding.session import Session
from unified.layout.attention import attends, block_mask, mask_mod
from unified.layout.layout import IGNORED, Layout, pack
from unified.model import UnifiedConfig, UnifiedModel
from unified.stream.messages import Stream

LLAMA = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def sample(vocabulary, shapes=((1, 1), (2, 2), (3, 3)), codes=None):
    stream = Stream(vocabulary, byte_tokenizer())
    total = sum(h * w for h, w in shapes)
    codes = codes or [(7 * n) % vocabulary.visual for n in range(total)]
    drawn = {"type": "image", "codes": codes, "shapes": [list(s) for s in shapes], "order": "next_scale"}
    reply = [{"type": "text", "text": "here"}, drawn, {"type": "action", "ids": list(range(11))}]
    return torch.tensor(
        [stream.encode([{"role": "user", "content": "draw it"}, {"role": "assistant", "content": reply}])]
    )


def test_loss_logits_and_log_probs_agree(model):
    ids = sample(model.vocabulary)
    labels = Layout.of(ids, model.vocabulary).labels(ids)
    output = model(ids, labels=labels)
    targets = labels != IGNORED
    chosen = output.logits.log_softmax(-1).gather(-1, ids[..., None])[..., 0]
    torch.testing.assert_close(output.log_probs[targets], chosen[targets], atol=1e-5, rtol=0)
    assert (output.log_probs[~targets] == 0).all()
    torch.testing.assert_close(output.loss, -output.log_probs.sum() / targets.sum())
    probabilities = output.logits[targets].softmax(-1).sum(-1)
    torch.testing.assert_close(probabilities, torch.ones_like(probabilities))


def test_sums_by_segment_and_step(model):
    ids = sample(model.vocabulary)
    output, layout = model(ids), Layout.of(ids, model.vocabulary)
    torch.testing.assert_close(output.segment_sums.sum(), output.log_probs.sum())
    for step in range(3):
        want = output.log_probs[layout.step == step].sum()
        torch.testing.assert_close(output.step_sums[0].sum(0)[step], want)
    for tensor in (output.loss, output.log_probs, output.segment_sums, output.step_sums):
        assert tensor is None or tensor.dtype == torch.float32


def test_read_codes_and_prompts_are_never_targets(model):
    ids = sample(model.vocabulary)
    everything = model(ids, labels=ids).log_probs
    layout = Layout.of(ids, model.vocabulary)
    assert (everything[layout.index.kind == 2] == 0).all()
    prompt = model(ids, labels=layout.labels(ids)).log_probs
    assert (prompt[~layout.answers] == 0).all()


def test_save_load_and_auto_classes(model, tmp_path):
    model.save_pretrained(tmp_path)
    ids = sample(model.vocabulary)
    for loaded in (UnifiedModel, AutoModel, AutoModelForCausalLM):
        again = loaded.from_pretrained(tmp_path).eval()
        assert isinstance(again, UnifiedModel)
        assert torch.equal(again(ids).log_probs, model(ids).log_probs)
    config = AutoConfig.from_pretrained(tmp_path)
    assert config.words == model.vocabulary
    assert (config.hidden_size, config.vocab_size) == (64, model.vocabulary.size)


def test_gradient_checkpointing_gives_the_same_gradients(make_model):
    gradients = []
    for checkpointing in (False, True):
        model = make_model().train()
        if checkpointing:
            model.activation_checkpointing_enable()
        ids = sample(model.vocabulary)
        model(ids, labels=ids).loss.backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, checkpointed)


def test_every_parameter_that_is_used_learns(make_model):
    model = make_model().train()
    ids = sample(model.vocabulary)
    model(ids, labels=ids).loss.backward()
    missing = [name for name, p in model.named_parameters() if p.grad is None]
    assert missing == []


def test_a_batch_without_images_touches_every_parameter_too(make_model):
    """So that data-parallel processes with and without images in their part agree."""
    model = make_model().train()
    ids = Stream(model.vocabulary, byte_tokenizer()).encode([{"role": "assistant", "content": "hi"}])
    model(torch.tensor([ids]), labels=torch.tensor([ids])).loss.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("head", ["categorical", "bitwise"])
@pytest.mark.parametrize("backbone", [None, LLAMA], ids=["qwen3_vl_text", "llama"])
def test_overfits_a_few_samples(head, backbone):
    torch.manual_seed(0)
    model = UnifiedModel(UnifiedConfig(head=head, backbone=backbone, initializer_range=0.05)).train()
    ids = torch.cat([sample(model.vocabulary, codes=[(5 * n + k) % 64 for n in range(14)]) for k in range(4)])
    labels = Layout.of(ids, model.vocabulary).labels(ids)
    layout = Layout.of(ids, model.vocabulary)
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 160)
    for _ in range(160):
        optimiser.zero_grad()
        loss = model(ids, labels=labels, layout=layout, return_logits=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    floor = 4 * torch.log(torch.tensor(4.0)) / (labels != IGNORED).sum()  # which of the four, said once a row
    assert loss < floor + 0.02


def test_a_backbone_with_one_axis_sees_where_a_code_is():
    """Without 3-D rotary embedding two codes of a READ image exchanged still change what follows."""
    torch.manual_seed(0)
    model = UnifiedModel(UnifiedConfig(backbone=LLAMA, initializer_range=0.3)).eval()
    stream = Stream(model.vocabulary, byte_tokenizer())

    def follow(codes):
        image = {"type": "image", "codes": codes, "shapes": [[1, 3]]}
        ids = torch.tensor([stream.encode([{"role": "user", "content": [image]}], prompt=True)])
        return model(ids, return_logits=False).hidden_states[0, -1]

    assert (follow([1, 2, 3]) - follow([3, 2, 1])).abs().max() > 1e-3


def test_a_bitwise_head_has_codes_beyond_any_table(make_model):
    model = make_model(head="bitwise", vocabulary={"visual": 2**32})
    assert sum(p.numel() for p in model.parameters()) < 200_000
    stream = Stream(model.vocabulary, byte_tokenizer())
    session = Session(model, seed=1)
    session.feed(stream.encode([{"role": "user", "content": "draw"}], prompt=True))
    drawing = session.draw([1, 2])
    assert drawing.codes.max() > 2**16
    output = model(torch.tensor(session.streams))
    assert output.logits is None
    torch.testing.assert_close(output.step_sums.sum(), drawing.log_probs.sum(), atol=1e-3, rtol=1e-5)


@torch.no_grad()
def test_eager_attention_follows_the_same_rule(make_model):
    ids = sample(make_model().vocabulary)
    drawn = []
    for name in ("sdpa", "eager"):
        model = make_model(attn_implementation=name)
        session = Session(model, seed=0)
        session.feed(ids[0, :12].tolist())
        drawn.append((model(ids).log_probs, session.draw([1, 2]).log_probs))
    torch.testing.assert_close(drawn[1], drawn[0], atol=1e-4, rtol=0)


@torch.no_grad()
def test_flex_attention_follows_the_same_rule(make_model):
    """The block mask in FlexAttention's own (slow, uncompiled) code on a processor; compiled code is for
    GPUs."""
    flex = pytest.importorskip("torch.nn.attention.flex_attention")
    model = make_model()
    index = Layout.of(sample(model.vocabulary), model.vocabulary).index
    query, key, value = torch.randn(3, 1, 2, index.label.shape[1], 8)
    dense = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=attends(index, index)[:, None]
    )
    torch.testing.assert_close(
        flex.flex_attention(query, key, value, block_mask=block_mask(index)), dense, atol=1e-5, rtol=0
    )


def test_blocks_that_see_one_another_are_kept_and_others_dropped(make_model):
    """By FlexAttention's own way: a table of all pairs."""
    flex = pytest.importorskip("torch.nn.attention.flex_attention")
    words = make_model().vocabulary
    samples = [sample(words)[0].tolist()] * 12
    index = Layout.of(pack(samples, 3 * 128, words), words).index
    rows, length = index.sample.shape
    table = flex.create_block_mask(mask_mod(index), rows, None, length, length, device="cpu")
    exact, ours = table.to_dense().bool(), block_mask(index).to_dense().bool()
    assert rows * length > 2 * 128
    assert not (exact & ~ours).any()
    assert not ours.all()


def uncompiled(function):
    """FlexAttention's own slow code, which has a gradient on a processor only in parts: dense attention with
    its mask."""

    def attend(query, key, value, block_mask, scale, enable_gqa):
        rows, length = query.shape[0], query.shape[2]
        batch, places = torch.arange(rows)[:, None, None], torch.arange(length)
        mask = block_mask.mask_mod(batch, 0, places[:, None], places[None, :])[:, None]
        return torch.nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, scale=scale, enable_gqa=enable_gqa
        )

    return attend


def test_bad_configurations_are_refused():
    with pytest.raises(ValueError, match="unknown head 'round'"):
        UnifiedConfig(head="round")
    with pytest.raises(ValueError, match="model_type"):
        UnifiedConfig(backbone={"hidden_size": 8})
    with pytest.raises(ValueError, match="GPT2Model has no `layers`"):
        UnifiedModel(UnifiedConfig(backbone={"model_type": "gpt2", "n_embd": 32, "n_layer": 1, "n_head": 2}))
    with pytest.raises(ValueError, match="power of two"):
        UnifiedModel(UnifiedConfig(head="bitwise", vocabulary={"visual": 100}))


@pytest.mark.parametrize("merge", [0, 2])
@pytest.mark.parametrize("kind", ["by_sample", "by_block"])
def test_attending_to_whole_batches_is_the_dense_mask(make_model, kind, merge, monkeypatch):
    """Packed rows with padding between and after: same likelihoods, same gradients."""
    monkeypatch.setattr("unified.backbone.attention.compiled", uncompiled)  # compiled code is for GPUs
    first, second = sample(make_model().vocabulary)[0].tolist(), sample(make_model().vocabulary, ((1, 1),))[0]
    found = []
    for name in ("sdpa", kind):
        model = make_model(attn_implementation=name, vocabulary={"merge": merge})
        ids = pack([first, second.tolist(), second.tolist()], len(first) + 5, model.vocabulary)
        output = model(ids, labels=Layout.of(ids, model.vocabulary).labels(ids))
        output.loss.backward()
        gradient = model.backbone.layers[0].self_attn.q_proj.weight.grad
        found.append((output.log_probs, gradient))
        session = Session(model, seed=0)  # goes on with SDPA
        session.feed(first[:12])
    torch.testing.assert_close(found[1], found[0], atol=1e-4, rtol=1e-4)
