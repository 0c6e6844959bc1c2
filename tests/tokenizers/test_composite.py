"""Semantic codes before pixel codes: what each of them decides."""

import pytest
import torch
from unified.tokenizers.composite import CompositeConfig
from unified.tokenizers.kinds import Wanted, kind_of
from unified.tokenizers.visual import Moment

TINY = Wanted(size=16, stride=4, codes=32, dim=4)


def made(**more):
    torch.manual_seed(0)
    kind = kind_of("composite")
    return kind.build(kind.small(Wanted(**{**vars(TINY), **more}))).eval()


def pictures():
    return torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_the_plan_comes_first_and_decodes_to_nothing():
    tokenizer = made()
    assert (tokenizer.plan, tokenizer.line, tokenizer.codes) == (4, 20, 64)
    (ids,) = tokenizer.encode(pictures())
    assert ids[:, :4].max() < 32 <= ids[:, 4:].min()
    other = ids.clone()
    other[:, :4] = (ids[:, :4] + 1) % 32
    shapes = [(1, 20)]
    assert torch.equal(tokenizer.decode_maps([ids], shapes), tokenizer.decode_maps([other], shapes))
    other[:, 4:] = 32 + (ids[:, 4:] - 31) % 32
    assert not torch.equal(tokenizer.decode_maps([ids], shapes), tokenizer.decode_maps([other], shapes))


def test_a_teacher_shapes_the_semantic_codes_alone():
    tokenizer = made(features=5).train()
    features = torch.randn(2, 5, 8, 8, generator=torch.Generator().manual_seed(2))
    shapes = tokenizer.training_shapes(pictures(), 0, torch.Generator())
    assert shapes == [(2, 2), (4, 4)]
    result = tokenizer.training_pass(pictures(), shapes, 0.0, Moment(features=features))
    result.terms["semantic"].backward()
    reached = {name.split(".")[0] for name, weight in tokenizer.named_parameters() if weight.grad is not None}
    assert reached == {"semantic", "predict"}
    with pytest.raises(ValueError, match="none are given"):
        tokenizer.training_pass(pictures(), shapes)


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="multiple of 16"):
        CompositeConfig(side=24)
