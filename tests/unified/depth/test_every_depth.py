"""What must hold for every registered depth policy, at its defaults, and for others that skip much."""

import pytest
import torch

from unified.cache.policy import Full, Window
from unified.checkpoints.adaln import Drops
from unified.config import text_decoder
from unified.decoding.guidance import Constant
from unified.decoding.session import Session
from unified.depth import DEPTHS
from unified.depth.variant import VARiant, VARiantConfig
from unified.layout.layout import Layout
from unified.orders import BEFORE, NOTHING, ORDERS, Plan, ReadOuts, SelfFeed

SHAPES = [1, 2, (2, 3), 4]


class Changing:
    """Layers that stop and begin again, and some that the first step skips."""

    def runs(self, layer, layers, plan, step):
        return (layer + step) % 3 != 1


class Never:
    """One layer is for text alone."""

    def runs(self, layer, layers, plan, step):
        return layer != 1


POLICIES = {
    **DEPTHS,
    "half": lambda: VARiant(VARiantConfig(layers=3, bridge=2)),
    "no bridge": lambda: VARiant(VARiantConfig(layers=2, bridge=0)),
    "changing": Changing,
    "never": Never,
}
every_policy = pytest.mark.parametrize("depth", POLICIES.values(), ids=POLICIES)


def asked(stream, texts=("draw a cat", "x")):
    return [stream.encode([{"role": "user", "content": text}], prompt=True) for text in texts]


def talk(model, stream, depth, order="next_scale", guidance=None, policy=None, texts=("draw a cat", "x")):
    """Text, two images and text: the streams, and what was drawn."""
    session = Session(model, rows=len(texts), seed=3, depth=depth, policy=policy)
    session.feed(asked(stream, texts))
    list(session.text(max_tokens=3, draw=False))
    drawn = [session.draw(SHAPES, order=order, guidance=guidance) for _ in range(2)]
    list(session.text(max_tokens=3, draw=False))
    return session, drawn


@every_policy
@pytest.mark.parametrize("order", ["next_scale", "raster"])
def test_one_pass_likelihood_equals_what_was_sampled(depth, order, model, stream):
    session, drawn = talk(model, stream, depth(), order)
    for row, ids in enumerate(session.streams):
        ids = torch.tensor([ids])
        layout = Layout.of(ids, model.vocabulary)
        found = model(ids, layout=layout, depth=depth()).log_probs
        written = torch.cat([found[0, group.slots()[n]] for group in layout.writes for n in range(2)])
        sampled = torch.cat([drawing.log_probs[row] for drawing in drawn])
        torch.testing.assert_close(written, sampled, atol=1e-4, rtol=1e-4)


@every_policy
def test_no_leak(depth, model, stream):
    """A code changes no prediction of its own or an earlier step, nor anything after the image."""
    double = type(model)(model.config).double().eval()
    double.load_state_dict(model.state_dict())
    image = {"type": "image", "codes": list(range(27)), "shapes": [[1, 1], [2, 2], [2, 3], [4, 4]]}
    reply = [{**image, "order": "next_scale"}, {"type": "text", "text": "done"}]
    ids = torch.tensor(
        [stream.encode([{"role": "user", "content": "draw"}, {"role": "assistant", "content": reply}])]
    )
    layout = Layout.of(ids, model.vocabulary)
    first, plan = int(layout.writes[0].starts[0]), layout.writes[0].plan
    with torch.no_grad():
        before = double(ids, layout=layout, depth=depth()).hidden_states
        for slot in (0, 3, 7, 20):
            changed = ids.clone()
            changed[0, first + slot] += 9
            after = double(changed, layout=layout, depth=depth()).hidden_states
            moved = (after - before).abs().amax(dim=-1)[0]
            assert (moved[first : first + plan.length][plan.labels <= plan.labels[slot]] == 0).all()
            assert (moved[:first] == 0).all()
            assert (moved[first + plan.length + 1 :] == 0).all(), "the WRITE part is visible later"
            assert slot == 20 or (moved > 0).any()


@every_policy
@pytest.mark.parametrize("guidance", [None, Constant(3.0)])
def test_a_row_says_the_same_alone_and_in_a_batch(depth, guidance, model, stream):
    texts = ("draw a cat", "x", "a much longer request")
    together, _ = talk(model, stream, depth(), guidance=guidance, texts=texts)
    for row, text in enumerate(texts):
        alone = Session(model, seed=3 + row, depth=depth())
        alone.feed(asked(stream, [text]))
        list(alone.text(max_tokens=3, draw=False))
        for _ in range(2):
            alone.draw(SHAPES, guidance=guidance)
        list(alone.text(max_tokens=3, draw=False))
        assert alone.streams[0] == together.streams[row]


@every_policy
@pytest.mark.parametrize("policy", [Full, lambda: Window(48, keep=2)], ids=["full", "window"])
def test_cache_policies_go_with_it(depth, policy, model, stream):
    """Guided, with a second image after the first. What a policy keeps of written images nobody sees."""
    found, _ = talk(model, stream, depth(), guidance=Constant(2.0), policy=policy())
    held = found.context.cache.lengths_by_layer
    if policy is Full:
        usual, _ = talk(model, stream, depth(), guidance=Constant(2.0))
        assert found.streams == usual.streams
        assert held.max() > usual.context.cache.lengths.max()
    else:
        assert (held == held[0]).all(), "after an image all layers hold the same"
        assert held.max() <= 48 + 3  # ids said since


@every_policy
def test_text_goes_on_as_if_nothing_had_been_skipped(depth, model, stream):
    """The same codes, written at full depth: what is read and said after them is the same."""
    shallow, drawn = talk(model, stream, depth())
    full = Session(model, rows=2, seed=3)
    full.feed(asked(stream))
    list(full.text(max_tokens=3, draw=False))
    for drawing in drawn:

        def repeat(choice, codes=drawing.codes):
            choice.codes = codes[:, choice.slots]
            return choice

        full.draw(SHAPES, hook=repeat)
    list(full.text(max_tokens=3, draw=False))
    assert full.streams == shallow.streams
    torch.testing.assert_close(full.last, shallow.last, atol=1e-4, rtol=1e-4)
    assert full.context.cache.nbytes() == shallow.context.cache.nbytes()


@every_policy
def test_an_image_that_is_broken_off_leaves_nothing(depth, model, stream):
    session = Session(model, rows=2, seed=3, depth=depth(), policy=Full())
    session.feed(asked(stream))
    session.draw([1, 2])
    session.read_pending()
    before = session.context.cache.lengths_by_layer
    for steps in (1, 2, 3):
        drawing = session.image(SHAPES)
        for _ in range(steps):
            next(drawing)
        drawing.close()
        assert (session.context.cache.lengths_by_layer == before).all()


def test_attention_with_dropout_follows_it(make_published):
    """Of published models in training: at a rate of almost nothing, what is computed without it."""
    model = make_published("var", drops=Drops(attention=1e-9))
    labels, vectors = torch.tensor([3, 5]), torch.randn(2, 13, 8, generator=torch.Generator().manual_seed(0))
    plain = model(labels, vectors)
    found = [made(labels, vectors, depth=Changing()) for made in (model.eval(), model.train())]
    torch.testing.assert_close(*found, atol=1e-3, rtol=1e-3)
    assert not torch.allclose(found[0], plain, atol=1e-2)


# Blocks behind the backbone ---------------------------------------------------------------------------------


def walk(shapes):
    """A self-fed plan: a slot is predicted at its left neighbour by head 0, at its upper one by head 1."""
    (height, width) = shapes[-1]
    slots = torch.arange(height * width).view(height, width)
    left, above = torch.full_like(slots, NOTHING), torch.full_like(slots, NOTHING)
    left[:, 1:], above[1:] = slots[:, :-1], slots[:-1]
    left[0, 0] = above[0, 0] = BEFORE
    source = torch.stack([left.flatten(), above.flatten()], dim=1)
    return Plan(
        shapes=shapes,
        labels=(torch.arange(height)[:, None] + torch.arange(width)).flatten(),
        feed=SelfFeed(height * width),
        read=slots.flatten(),
        read_shapes=shapes,
        read_outs=ReadOuts(source, torch.tensor([0, 1]).expand_as(source)),
    )


class Asked(Changing):
    """Notes the layers that it is asked for."""

    def __init__(self):
        self.seen = set()

    def runs(self, layer, layers, plan, step):
        self.seen.add((layer, layers))
        return super().runs(layer, layers, plan, step)


@every_policy
def test_self_fed_slots_and_two_heads(depth, make_model, monkeypatch):
    """A slot runs one step after it is decided: session and one pass agree on which layers that is."""
    monkeypatch.setitem(ORDERS, "walk", walk)
    decoder = text_decoder(width=32, layers=4, heads=2, kv_heads=1)
    model = make_model(backbone=decoder, read_outs=2, vocabulary={"orders": [*ORDERS]})
    words = model.vocabulary
    session = Session(model, rows=2, depth=depth())
    session.feed([words.begin, words.user, words.end, words.assistant], defer=True)
    drawing = session.draw([(3, 4)], order="walk", guidance=Constant(1.0))
    ids = torch.tensor(session.streams)
    layout = Layout.of(ids, words)
    found = model(ids, layout=layout, depth=depth()).log_probs
    written = found[layout.writes[0].rows[:, None], layout.writes[0].slots()]
    torch.testing.assert_close(written, drawing.log_probs, atol=1e-4, rtol=1e-4)


def test_blocks_behind_the_backbone_always_run(make_model, monkeypatch):
    monkeypatch.setitem(ORDERS, "walk", walk)
    decoder = text_decoder(width=32, layers=4, heads=2, kv_heads=1)
    model = make_model(backbone=decoder, read_outs=2, vocabulary={"orders": [*ORDERS]})
    words, depth = model.vocabulary, Asked()
    session = Session(model, depth=depth)
    session.feed([words.begin, words.user, words.end, words.assistant])
    ran = []
    model.read_outs[0].blocks[0].register_forward_hook(lambda *_: ran.append(1))
    session.draw([(2, 3)], order="walk")
    assert len(ran) == 4  # the header by itself, and the three of four steps that run slots
    model(torch.tensor(session.streams), depth=depth)
    assert depth.seen == {(layer, 4) for layer in range(4)}
