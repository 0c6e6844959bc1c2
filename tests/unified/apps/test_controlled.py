"""Drawing under a picture: steps with a cache are teacher forcing, guided or not; enlarging by tiles."""

import numpy as np
import pytest
import torch
from torch import nn
from unified.train.adapters.controls import part_for

from unified.apps.adapters import Adapter
from unified.apps.assistant import Assistant
from unified.apps.controlled import enlarged, given_maps, joined, reading, tiles
from unified.apps.demo import random_model
from unified.decoding.guidance import Constant
from unified.decoding.session import Session
from unified.layout.layout import Layout
from unified.orders import plan_for


@pytest.fixture(scope="module")
def guide():
    return Assistant(*random_model(), side=32)


@pytest.fixture(scope="module")
def picture():
    return np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)


def adapter_of(guide, kind, condition="edges"):
    torch.manual_seed(1)
    part, _ = part_for(guide.model, kind)
    for parameter in part.parameters():
        nn.init.normal_(parameter, std=0.2)
    return Adapter(kind, {"condition": condition, "patch": 4}, {"part": part})


@torch.no_grad()
def forced(model, ids, parts):
    ids = torch.tensor([ids])
    slots = Layout.of(ids, model.vocabulary).writes[0].slots()[0]
    start = model.vocabulary.visual_start
    return model(ids, parts=parts).logits[0, slots, start : start + model.vocabulary.visual]


@pytest.mark.parametrize("kind", ["scale_control", "reference_attention"])
@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_cached_inference_is_teacher_forcing_with_the_picture_in_both_branches(guide, picture, kind, scale):
    model, order, shapes = guide.model, guide.processor.order, guide.shapes((32, 32))
    parts = [reading(adapter_of(guide, kind), picture, plan_for(order, shapes))]
    session, steps = Session(model, parts=parts), []
    prompt = guide.processor.encode(guide.request("A star."), prompt=True)
    session.feed(prompt)
    hook = lambda step: steps.append(step.logits) or step  # noqa: E731
    session.draw(shapes, order=order, guidance=Constant(scale), hook=hook)
    found, ids = torch.cat(steps, dim=1)[0, :, 0], session.streams[0]
    want = forced(model, ids, parts)
    if scale != 1:
        blind = [*model.null_stream(prompt), *ids[len(prompt) :]]
        want = torch.lerp(forced(model, blind, parts), want, scale)
    assert torch.allclose(found.log_softmax(-1), want.log_softmax(-1), atol=1e-4)
    assert not torch.allclose(found.log_softmax(-1), forced(model, ids, []).log_softmax(-1), atol=1e-2)


def test_tiles_cover_a_picture_and_join_without_a_seam():
    assert tiles(64, 64, 64) == [*tiles(64, 64, 64)]
    places = tiles(96, 128, 64)
    covered = np.zeros((96, 128))
    for place in places:
        covered[place.rows, place.columns] += 1
    assert covered.min() == 1
    assert covered.max() > 1
    picture = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    parts = [picture[place.rows, place.columns] for place in places]
    assert np.array_equal(joined(parts, places, 96, 128), picture)


def test_a_size_that_cannot_be_is_refused():
    picture = np.zeros((20, 40, 3), dtype=np.uint8)
    assert enlarged(picture, 64, 8).shape == (32, 64, 3)
    for to in (40, 32, 60, 2**13):
        with pytest.raises(ValueError, match="to must be a multiple of 8 above"):
            enlarged(picture, to, 8)


def test_an_enlarged_picture_begins_with_the_maps_of_the_small_one(guide, picture):
    shapes = guide.shapes((32, 32))
    given = given_maps(guide.processor, picture, shapes, 2.0)
    assert [codes.shape[1] for codes in given] == [h * w for h, w in shapes if h <= 2]
    guide.adapters._loaded["small"] = adapter_of(guide, "scale_control", "small")
    try:
        found = guide.upscale(picture[:24, :24], 40)
        assert found.shape == (40, 40, 3)
        assert np.array_equal(guide.upscale(picture[:24, :24], 40), found)
        with pytest.raises(ValueError, match="not edges"):
            guide.control("A star.", picture, edges=True)
    finally:
        guide.remove_adapter("small")
    with pytest.raises(ValueError, match=r"unified\.train upscale"):
        guide.upscale(picture, 64)
