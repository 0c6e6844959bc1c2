"""VARiant: which layers run, what the cache holds, and that full depth is the plain model."""

import pytest
import torch

from unified.cache.policy import Full
from unified.config import text_decoder
from unified.decoding.guidance import Constant, Ramp
from unified.decoding.session import Session
from unified.depth.variant import VARiant, VARiantConfig, bridge_steps, equidistant
from unified.orders import plan_for
from unified.orders.shapes import area, as_shapes

SIDES = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)  # the published schedule
SHAPES = as_shapes([1, 2, (2, 3), 4])
LAYERS = 5
TEXTS = ("draw a cat", "x")


def variant(layers=None, bridge=2, unit="steps"):
    return VARiant(VARiantConfig(layers=layers, bridge=bridge, unit=unit))


def asked(stream):
    return [stream.encode([{"role": "user", "content": text}], prompt=True) for text in TEXTS]


# Layers and zones -------------------------------------------------------------------------------------------


def test_layers_are_equidistant_and_not_always_nested():
    assert sorted(equidistant(30, 8)) == [0, 4, 8, 12, 16, 20, 24, 29]
    assert sorted(equidistant(30, 2)) == [0, 29]
    assert not equidistant(30, 8) <= equidistant(30, 16)
    assert equidistant(13, 4) < equidistant(13, 7) < equidistant(13, 13) == set(range(13))
    assert equidistant(1, 1) == {0}
    for layers in range(2, 40):
        for count in range(2, layers + 1):
            kept = equidistant(layers, count)
            assert len(kept) == count
            assert {0, layers - 1} <= kept <= set(range(layers))


@pytest.mark.parametrize(
    ("unit", "bridge", "steps"),
    [("steps", 6, 6), ("steps", 0, 0), ("steps", 99, 10), ("side", 6, 6), ("side", 7, 6), ("side", 16, 10)],
)
def test_the_bridge_in_steps_and_by_side(unit, bridge, steps):
    assert bridge_steps(plan_for("next_scale", as_shapes(SIDES)), bridge, unit) == steps


@pytest.mark.parametrize(("share", "steps"), [(91 / 680, 6), (0.13, 5), (1, 10), (0, 0)])
def test_the_bridge_as_a_share_of_the_codes(share, steps):
    assert bridge_steps(plan_for("next_scale", as_shapes(SIDES)), share, "share") == steps


def test_the_bridge_of_a_free_schedule_ends_at_the_first_larger_map():
    plan = plan_for("next_scale", as_shapes([1, (2, 3), (5, 2), 3, 7]))
    assert bridge_steps(plan, 3, "side") == 2
    assert [variant(3, 3, "side").runs(1, LAYERS, plan, step) for step in range(5)] == [True] * 2 + [
        False
    ] * 3
    assert bridge_steps(plan_for("raster", as_shapes([4])), 0.25, "share") == 4


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"layers": 1}, "layers must be at least 2"),
        ({"unit": "maps"}, "unknown unit 'maps' of the bridge: choose one of steps, share, side"),
        ({"bridge": 2.5}, "the bridge of 2.5 steps must be at least 0, steps being whole"),
        ({"bridge": -1, "unit": "side"}, "the bridge of -1 side must be at least 0"),
        ({"bridge": 1.5, "unit": "share"}, "a share of the codes is at most 1, got 1.5"),
    ],
)
def test_bad_configurations_are_refused(config, message):
    with pytest.raises(ValueError, match=message):
        VARiantConfig(**config)


def test_more_layers_than_there_are_are_refused(model, stream):
    session = Session(model, rows=2, depth=variant(16))
    session.feed(asked(stream))
    with pytest.raises(ValueError, match="a depth of 16 layers, but the backbone has 5: choose at most 5"):
        session.draw(SHAPES)


# Full depth -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [VARiant(), variant(LAYERS, 0), variant(2, 9)], ids=["all", "d=D", "N=K"])
@pytest.mark.parametrize("guidance", [None, Constant(3.0)])
def test_full_depth_is_the_plain_model_bit_for_bit(depth, guidance, model, stream):
    found = []
    for given in (None, depth):
        session = Session(model, rows=2, seed=3, depth=given)
        session.feed(asked(stream))
        steps = [choice.logits for choice in session.image(SHAPES, guidance=guidance)]
        list(session.text(max_tokens=4, draw=False))
        ids = [torch.tensor([row]) for row in session.streams]
        scores = [model(row, depth=given).log_probs for row in ids]
        found.append([*ids, *steps, *scores, session.last])
    assert all(torch.equal(mine, other) for mine, other in zip(*found, strict=True))


@pytest.mark.parametrize("kind", ["var", "flexvar"])
def test_full_depth_is_plain_var_bit_for_bit(kind, make_published):
    model = make_published(kind)
    vectors = torch.randn(2, 13, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([3, 5])
    found = []
    for depth in (None, VARiant()):
        steps, _ = drawn(model, depth)
        found.append([*[choice.logits for choice in steps], model(labels, vectors, depth=depth)])
    assert all(torch.equal(mine, other) for mine, other in zip(*found, strict=True))


# VAR and FlexVAR --------------------------------------------------------------------------------------------


def drawn(model, depth, policy=None):
    """The steps of two guided images, and their session."""
    session = Session(model, rows=2, seed=1, depth=depth, policy=policy)
    session.feed([model.prompt(3), model.prompt(5)])
    return list(session.image(((1, 1), (2, 2), (3, 3)), order=model.order, guidance=Ramp(1.0))), session


@pytest.mark.parametrize("kind", ["var", "flexvar"])
@pytest.mark.parametrize("depth", [variant(2, 1), variant(3, 2), variant(2, 0)], ids=["2,1", "3,2", "2,0"])
def test_one_pass_of_var_is_what_its_session_computes(kind, depth, make_published):
    model = make_published(kind)
    steps, session = drawn(model, depth)
    shapes = session.drawing.plan.shapes
    with torch.no_grad():
        vectors = model.tokenizer.transformer_inputs(session.drawing.maps(), shapes)
        own = model(torch.tensor([3, 5]), vectors, shapes, depth=depth)
        null = model(torch.tensor([model.null_label] * 2), vectors, shapes, depth=depth)
        plain = model(torch.tensor([3, 5]), vectors, shapes)
    parts = [found.split([1, 4, 9], dim=1) for found in (own, null)]
    for number, (choice, one, other) in enumerate(zip(steps, *parts, strict=True)):
        weight = number / 2  # of Ramp(1.0)
        expected = one + weight * (one - other)
        torch.testing.assert_close(choice.logits.squeeze(-2), expected, atol=1e-3, rtol=1e-3)
    assert not torch.allclose(own[:, -9:], plain[:, -9:], atol=1e-3)


@pytest.mark.parametrize(("layers", "bridge"), [(2, 1), (3, 2), (4, 2), (5, 1), (2, 0)])
def test_cached_entries_of_var_are_those_of_the_formula(layers, bridge, make_published):
    """D sum_{k <= N} t_k when the bridge ends, before it lets go; |I_d| sum_{k <= K} t_k after the last
    step."""
    model = make_published("var")
    session = Session(model, rows=2, depth=variant(layers, bridge), policy=Full())
    session.feed([model.prompt(3), model.prompt(5)])
    cache, sizes, kept = session.context.cache, (1, 4, 9), equidistant(LAYERS, layers)
    entry = 2 * 32 * 4 * 4  # keys and values of 32 float32 numbers; two rows and their null branch
    for step, _ in enumerate(session.image(((1, 1), (2, 2), (3, 3)), order="residual", guidance=Ramp(1.0))):
        by_layer = cache.lengths_by_layer
        ended = step >= bridge - 1  # of the last bridge step, what is let go is gone by now
        for layer in range(LAYERS):
            holds = sum(sizes[: step + 1]) if layer in kept or not ended else 0
            assert (by_layer[layer] == holds).all()
        running = layers if ended else LAYERS
        assert cache.nbytes() == entry * running * sum(sizes[: step + 1])
    assert cache.nbytes() == entry * layers * 14
    allocated = sum(store.both.numel() * 4 for store in cache.stores if store.both is not None)
    assert allocated == cache.nbytes(), "the memory of the layers that let go is given back"


def test_the_bridge_is_held_by_every_layer_until_it_ends(make_published):
    """The formula's first part, seen from within the last bridge step: a hook runs before layers let go."""
    model, seen = make_published("var"), []
    session = Session(model, rows=2, depth=variant(2, 2), policy=Full())
    session.feed([model.prompt(3), model.prompt(5)])

    def note(choice):
        seen.append(session.context.cache.lengths_by_layer.sum() // 2)
        return choice

    session.draw(((1, 1), (2, 2), (3, 3)), order="residual", hook=note)
    assert seen == [LAYERS * 1, LAYERS * 5, 2 * 14]


# Our model --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("guidance", [None, Constant(2.0)])
@pytest.mark.parametrize(("layers", "bridge"), [(3, 2), (2, 1), (4, 3)])
@torch.no_grad()
def test_cached_entries_of_our_model_are_those_of_the_formula(layers, bridge, guidance, model, stream):
    """Of the image, header included; what was said before it stays in every layer. Two images, the second
    after one that layers hold different parts of."""
    session = Session(model, rows=2, depth=variant(layers, bridge), policy=Full())
    session.feed(asked(stream))
    cache, kept = session.context.cache, equidistant(LAYERS, layers)
    for _ in range(2):
        session.read_pending()
        if guidance:
            session.read_null()
        before = cache.lengths_by_layer
        header = len(model.vocabulary.open_write("next_scale", SHAPES))
        for step, _ in enumerate(session.image(SHAPES, guidance=guidance)):
            written = cache.lengths_by_layer - before
            ended = step >= bridge - 1
            for layer in range(LAYERS):
                holds = header + area(SHAPES[: step + 1]) if layer in kept or not ended else 0
                assert (written[layer] == holds).all()
            entry = 2 * 16 * 4  # one key head of 16 float32 numbers, and values
            assert cache.nbytes() == entry * int((before + written).sum())


def test_text_after_an_image_is_the_same_bit_for_bit(model, stream):
    """Writes are dropped: what comes after the same codes does not know how deep they were written."""
    found, codes = [], None
    for depth in (variant(2, 1), None):
        session = Session(model, rows=2, seed=3, depth=depth)
        session.feed(asked(stream))

        def repeat(choice, codes=codes):
            choice.codes = choice.codes if codes is None else codes[:, choice.slots]
            return choice

        codes = session.draw(SHAPES, hook=repeat).codes
        list(session.text(max_tokens=4, draw=False))
        found.append(session)
    assert found[0].streams == found[1].streams
    assert torch.equal(found[0].last, found[1].last)
    assert found[0].context.cache.nbytes() == found[1].context.cache.nbytes()


@pytest.mark.parametrize(("layers", "bridge"), [(3, 2), (2, 1), (2, 0)])
def test_skipped_layers_are_not_executed(layers, bridge, model, stream):
    calls = [0] * LAYERS
    hooks = []
    for number, layer in enumerate(model.backbone.layers):

        def count(*_, number=number):
            calls[number] += 1

        hooks.append(layer.register_forward_hook(count))
    session = Session(model, rows=2, depth=variant(layers, bridge))
    session.feed(asked(stream))
    calls[:] = [0] * LAYERS
    session.draw(SHAPES, guidance=Constant(2.0))
    for hook in hooks:
        hook.remove()
    kept, null = equidistant(LAYERS, layers), 1
    alone = bridge == 0  # the header of an image runs every layer: here in a pass of its own
    expected = [null + alone + (4 if layer in kept else bridge) for layer in range(LAYERS)]
    assert calls == expected


def test_fused_layers_are_skipped_too(model, stream):
    other, found = type(model)(model.config).eval(), []
    other.load_state_dict(model.state_dict())
    for one in (model, other.fuse()):
        session = Session(one, rows=2, seed=3, depth=variant(3, 1))
        session.feed(asked(stream))
        found.append(session.draw(SHAPES, guidance=Constant(2.0)).log_probs)
        held = session.context.cache.lengths_by_layer
        assert (held == held[0]).all()
    torch.testing.assert_close(*found, atol=1e-3, rtol=1e-3)
    assert other.fused is not None


def test_folded_codes_and_other_attention_follow_it(make_model, stream):
    """2 x 2 codes that share a position, and a whole batch whose attention would need no dense mask."""
    depth = variant(2, 1)
    decoder = text_decoder(width=32, layers=LAYERS, heads=2, kv_heads=1)
    options = {"backbone": decoder, "vocabulary": {"merge": 2}}
    plain = make_model(**options)
    session = Session(plain, rows=2, seed=3, depth=depth)
    session.feed(asked(stream))
    drawing = session.draw([1, 2, 4])
    for attention in ("sdpa", "by_sample", "by_block"):
        model = make_model(**options, attn_implementation=attention)
        model.load_state_dict(plain.state_dict())
        for row, ids in enumerate(session.streams):
            found = model(torch.tensor([ids]), depth=depth)
            torch.testing.assert_close(
                found.step_sums[0].sum(), drawing.log_probs[row].sum(), atol=1e-3, rtol=1e-5
            )
