"""Images without a grid, clips and latents in the stream: a segment of shape 1 x n; orders that need a grid
say so."""

import numpy as np
import pytest
import torch
from unified.tokenizers.kinds import Wanted, kind_of
from unified.tokenizers.text import byte_tokenizer

from unified.decoding.session import Session
from unified.model import UnifiedConfig, UnifiedModel
from unified.orders import LINEAR, ORDERS, needs_grid
from unified.stream.processor import Processor
from unified.stream.segments import Kind, segments
from unified.stream.vocabulary import Vocabulary

TINY = Wanted(size=16, stride=4, codes=32, dim=4, tokens=8, frames=2)
LINES = ("gigatok", "hita", "selftok", "larp", "composite")


def made(kind):
    torch.manual_seed(0)
    return kind_of(kind).build(kind_of(kind).small(TINY)).eval()


def words(visual, **more):
    return Vocabulary(text=256, visual=visual.codes, action=0, orders=tuple(ORDERS), max_side=64, **more)


def processor(kind, order="raster"):
    visual = made(kind)
    return Processor(words(visual), byte_tokenizer(), visual, order=order)


def shown(visual):
    shape = (16, 20, 3) if not getattr(visual, "frames", 0) else (visual.frames, 16, 20, 3)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("kind", LINES)
def test_a_line_is_read_and_written(kind):
    found = processor(kind)
    visual, picture = found.visual, shown(found.visual)
    say = lambda role: {"role": role, "content": [{"type": "image", "image": picture}]}  # noqa: E731
    ids = found.encode([say("user"), say("assistant")])
    parts = [part for part in segments(ids, found.vocabulary) if part.is_image]
    assert [part.kind for part in parts] == [Kind.READ, Kind.WRITE, Kind.READ]
    assert all(part.shapes == ((1, visual.line),) for part in parts)
    back = found.decode(ids)[0]["content"][0]["image"]
    frames = (visual.frames,) if getattr(visual, "frames", 0) else ()
    assert back.shape == (*frames, 16, 16, 3)
    expected = visual.decode_maps(visual.encode(found.pixels(picture)), [(1, visual.line)])
    pixels = torch.from_numpy(back).movedim(-1, 0).float() / 127.5 - 1
    assert torch.allclose(pixels, expected[0].detach().clamp(-1, 1), atol=0.005)


@pytest.mark.parametrize("order", sorted(set(ORDERS) - LINEAR))
def test_orders_that_need_a_grid_say_so(order):
    with pytest.raises(
        ValueError, match=rf"the order '{order}' needs a grid, but .* lie in a line of 8"
    ) as error:
        processor("gigatok", order)
    assert "choose one of masked, raster, rest" in str(error.value)
    assert "\n" not in str(error.value)


def test_columns_need_a_grid():
    assert needs_grid("raster(axis='columns')")
    assert not needs_grid("raster(axis='rows')")


def test_what_does_not_fit_a_line_is_refused():
    visual = made("gigatok")
    short = Vocabulary(text=256, visual=visual.codes, action=0, orders=("raster",), max_side=4)
    with pytest.raises(ValueError, match="a line of 8 codes needs a vocabulary with max_side"):
        Processor(short, byte_tokenizer(), visual, order="raster")
    with pytest.raises(ValueError, match="images of 16 x 16 pixels only"):
        processor("gigatok").schedule((2, 2))
    with pytest.raises(ValueError, match=r"a clip is 2 frames \[T, H, W, 3\], got 3"):
        processor("larp").pixels(np.zeros((3, 16, 16, 3), np.uint8))


@pytest.mark.parametrize("kind", ["gigatok", "larp"])
def test_a_model_draws_a_line(kind):
    found = processor(kind)
    model = UnifiedModel(UnifiedConfig(vocabulary=found.vocabulary.to_dict())).eval()
    vocabulary = found.vocabulary
    session = Session(model, seed=0)
    session.feed([vocabulary.begin, vocabulary.user, 7, vocabulary.end, vocabulary.assistant])
    drawing = session.draw(found.schedule((1, 1)), order="raster")
    item = {"codes": drawing.read()[0].tolist(), "shapes": drawing.plan.read_shapes}
    frames = (2,) if kind == "larp" else ()
    assert found.picture(item).shape == (*frames, 16, 16, 3)


def test_a_processor_with_a_line_is_saved_and_loaded(tmp_path):
    found, picture = processor("gigatok"), shown(made("gigatok"))
    found.save_pretrained(tmp_path)
    again = Processor.from_pretrained(tmp_path)
    message = [{"role": "user", "content": [{"type": "image", "image": picture}]}]
    assert found.encode(message) == again.encode(message)


def test_latents_travel_beside_the_ids():
    visual = made("kl")
    latent = visual.latent(torch.zeros(1, 3, 16, 16))[0].detach()  # [dim, 4, 4]
    empty = Vocabulary(text=256, visual=2, action=0, orders=tuple(ORDERS)).extended("continuous:latents")
    found = Processor(empty, byte_tokenizer())
    item = {"type": "image", "latents": latent.flatten(1).T, "shapes": [[4, 4]]}
    encoded = found.encode_with_values([{"role": "user", "content": [item]}])
    back = encoded.values["latents"].T.unflatten(1, (4, 4))[None]
    assert torch.equal(visual.decode_vectors(back), visual.decode_vectors(latent[None]))
