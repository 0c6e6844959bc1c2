"""What is particular to each kind of tokenizer that can be trained by name; what holds for all is the
conformance suite's (`tests/eval/test_tokenizer_conform.py`)."""

import pytest
import torch
from unified.tokenizers.codebook import export
from unified.tokenizers.kinds import KINDS, Wanted, kind_name, kind_of
from unified.tokenizers.reconstruction import example, maps_of, reconstruct
from unified.tokenizers.visual import Moment
from unified.train.code_restarts import books_of
from unified.train.tokenizer import _groups

TINY = Wanted(size=16, stride=4, codes=64, dim=4, tokens=16, frames=2)


def made(kind, **more):
    torch.manual_seed(0)
    return kind_of(kind).build(kind_of(kind).small(Wanted(**{**vars(TINY), **more}))).eval()


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def one_pass(tokenizer, **moment):
    images = example(tokenizer)
    moment = {"step": 5, "steps": 10, "noise": seeded(), "shared": seeded(), **moment}
    shapes = tokenizer.training_shapes(images, 1, seeded())
    return tokenizer.train().training_pass(images, shapes, 0.0, Moment(**moment))


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_known_by_its_tokenizer(kind):
    assert kind_name(made(kind)) == ("vq" if kind == "fvq" else kind)
    assert isinstance(kind_of(kind).small(Wanted()), kind_of(kind).config)


def test_former_names_and_unknown_ones():
    assert kind_of("residual_vq") is kind_of("residual")
    with pytest.raises(ValueError, match="unknown kind 'zebra': choose one of vq, residual"):
        kind_of("zebra")


@pytest.mark.parametrize(
    ("kind", "shapes"),
    [
        ("vq", [(4, 6)]),
        ("residual", [(1, 1), (1, 2), (3, 4), (4, 6)]),
        ("kl", []),
        ("gigatok", [(1, 16)]),
        ("composite", [(1, 20)]),
    ],
)
def test_maps_of_an_image(kind, shapes):
    assert maps_of(made(kind), 16, 24) == shapes


def test_fvq_moves_all_codes_and_is_saved_as_a_plain_table():
    tokenizer = made("fvq")
    assert not tokenizer.codebook().any()  # the published start
    with torch.no_grad():
        tokenizer.table.bridge.final_layer.linear.weight.normal_(generator=seeded())
    tokenizer.vectors(torch.tensor([3])).sum().backward()
    before = tokenizer.codebook().detach().clone()
    with torch.no_grad():
        for weight in tokenizer.table.parameters():
            weight -= 0.1 * weight.grad
    assert bool((tokenizer.codebook() != before).any(dim=1).all())
    plain, images = export(tokenizer), example(tokenizer)
    assert torch.equal(plain.encode(images)[0], tokenizer.encode(images)[0])
    assert sum(weight.numel() for weight in plain.table.parameters()) == 64 * 4


def test_gigatok_is_drawn_to_a_teacher_and_auxiliary_terms_end():
    tokenizer = made("gigatok", features=3)
    result = one_pass(tokenizer, features=torch.randn(2, 3, 8, 8, generator=seeded()))
    assert 0 <= result.terms["semantic"] <= 2
    result.terms["semantic"].backward()
    assert tokenizer.network.encoder.conv_in.weight.grad.abs().sum() > 0  # through the codes
    assert not one_pass(made("gigatok")).terms
    tokenizer.config.__dict__["auxiliary"] = 0.5  # of a frozen dataclass
    assert "direct" in one_pass(tokenizer, step=4).terms
    assert "direct" not in one_pass(tokenizer, step=5).terms


def test_hitas_last_codes_change_nothing_and_its_first_codes_much():
    tokenizer = made("hita")
    (ids,) = tokenizer.encode(example(tokenizer))
    shift, first = tokenizer.config.network.shift, tokenizer.first
    assert ids[:, : tokenizer.holistic].max() < first <= ids[:, tokenizer.holistic :].min()
    images = reconstruct(tokenizer, example(tokenizer)).images
    changed = ids.clone()
    changed[:, -shift:] = first + (changed[:, -shift:] - first + 1) % 64
    shapes = [(1, tokenizer.line)]
    assert torch.equal(tokenizer.decode_maps([changed], shapes).clamp(-1, 1), images)
    changed[:, 0] = (changed[:, 0] + 1) % 64
    assert not torch.equal(tokenizer.decode_maps([changed], shapes).clamp(-1, 1), images)
    books = books_of(tokenizer)
    assert [(book.only, book.first) for book in books] == [(0, 0), (1, 64)]


def test_larp_draws_its_codes_and_its_prior_learns_at_its_own_rate():
    tokenizer = made("larp")
    with torch.no_grad():
        tokenizer.network.bottleneck.in_linear.weight.mul_(1e-3)
        tokenizer.network.bottleneck.in_linear.bias.copy_(torch.tensor([1.0, 0.5, 0.2, 0.1]))
    same = [one_pass(tokenizer, noise=seeded(1)).ids[0] for _ in range(2)]
    assert torch.equal(*same)
    assert not torch.equal(one_pass(tokenizer, noise=seeded(2)).ids[0], same[0])
    result = one_pass(tokenizer)
    result.terms["prior"].backward()
    rows = tokenizer.network.bottleneck.regularizer.embedding.weight
    assert rows.grad is None or not rows.grad.any()  # the codebook counts as a constant
    assert tokenizer.network.encoder_latent_query_embed.grad.abs().sum() > 0
    assert sorted(group["factor"] for group in _groups(tokenizer)) == [1.0, 5.0]


def test_selftok_writes_coarse_codes_first():
    """Pure noise sees every code; a nearly clean image the finest alone, which come last in a line."""
    from unified.checkpoints.selftok.schedule import STEPS, visible

    tokenizer = made("selftok")
    index = tokenizer.schedule.index(STEPS * torch.tensor([1.0, 0.01]))
    seen = visible(index, tokenizer.line).flip(1)  # in the order of a line
    assert seen[0].all()
    assert seen[1].sum() < tokenizer.line / 2
    assert seen[1, -1]
    assert not seen[1, 0]
    (ids,) = tokenizer.encode(example(tokenizer))
    raw = tokenizer.network.encoder.encode(tokenizer.folded(example(tokenizer)))
    assert torch.equal(ids, raw.flip(1))


def test_selftoks_dead_codes_come_back():
    tokenizer = made("selftok")
    book = tokenizer.network.encoder.quantizer._codebook
    book.cluster_size[0, :8] = 0.01
    before = book.embed[0].clone()
    result = one_pass(tokenizer)
    assert result.terms["revived"] == 8
    assert (book.embed[0, :8] - before[:8]).abs().sum(dim=1).min() > 0
    assert book.cluster_size[0, :8].min() > 0.9
