"""Continuous content: placeholders in the ids, values beside them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from unified.tokenizers.text import byte_tokenizer

from unified.layout.layout import Layout
from unified.orders import ORDERS, plan_for
from unified.orders.shapes import area, as_shapes
from unified.stream.messages import Stream
from unified.stream.processor import Processor
from unified.stream.segments import Kind, segments
from unified.stream.vocabulary import ROLES, Vocabulary

WORDS = Vocabulary(visual=16, max_side=8, merge=2).extended("continuous:depth")
STREAM = Stream(WORDS, byte_tokenizer())
SHARED, DEPTH = WORDS.special["continuous"], WORDS.special["continuous:depth"]
sides = st.integers(1, 4)


@st.composite
def images(draw):
    order = draw(st.sampled_from([None, "next_scale", "residual", "raster", "diagonal"]))
    count = 1 if order == "diagonal" else draw(st.integers(1, 3))
    shapes = draw(st.lists(st.tuples(sides, sides).map(list), min_size=count, max_size=count))
    latents = torch.randn(area(shapes), 3, generator=torch.Generator().manual_seed(draw(st.integers(0, 99))))
    image = {"type": "image", "latents": latents, "shapes": shapes}
    return image if order is None else {**image, "order": order}


features = st.builds(lambda n: {"type": "features", "name": "depth", "values": torch.rand(n, 2)}, sides)
texts = st.builds(lambda text: {"type": "text", "text": text}, st.text(max_size=3))
codes = st.just({"type": "image", "codes": [1, 2], "shapes": [[1, 2]]})
contents = st.lists(st.one_of(images(), features, texts, codes), max_size=4)
conversations = st.lists(
    st.builds(lambda r, c: {"role": r, "content": c}, st.sampled_from(ROLES), contents), max_size=3
)


def marked(item):
    """What decoding can know of an item."""
    if item["type"] == "features":
        return {"type": "features", "placeholder": "depth", "count": len(item["values"])}
    if "latents" in item:
        return {k: v for k, v in item.items() if k != "latents"} | {"placeholder": "continuous"}
    return item


def vectors_of(item):
    if "latents" not in item:
        return []
    parts = [item["latents"]]
    if "order" in item:
        parts.append(item["latents"][plan_for(item["order"], as_shapes(item["shapes"])).read])
    return parts


@settings(max_examples=100, deadline=None)
@given(conversations)
def test_placeholders_round_trip_and_values_stand_in_their_order(messages):
    found = STREAM.encode_with_values(messages)
    assert found.ids == STREAM.encode(messages)
    items = [item for message in messages for item in message["content"]]
    latents = [part for item in items for part in vectors_of(item)]
    depth = [item["values"] for item in items if item["type"] == "features"]
    for name, token, parts in (("latents", SHARED, latents), ("depth", DEPTH, depth)):
        assert found.ids.count(token) == sum(map(len, parts))
        assert (name in found.values) == bool(parts)
        if parts:
            assert torch.equal(found.values[name], torch.cat(parts))
    decoded = STREAM.decode(found.ids)
    assert decoded == [{**m, "content": [marked(item) for item in m["content"]]} for m in messages]
    assert STREAM.encode(decoded) == found.ids
    Layout.of([found.ids], WORDS)


def test_no_placeholder_is_a_target_and_later_images_do_not_go_on_from_latents():
    image = {"type": "image", "latents": torch.rand(4, 3), "shapes": [[2, 2]]}
    drawn = {"type": "image", "codes": [1] * 4, "shapes": [[2, 2]], "order": "raster"}
    line = {"type": "features", "name": "depth", "values": torch.rand(3, 2)}
    before = {"type": "image", "codes": [2] * 4, "shapes": [[2, 2]]}

    def layout(*items):
        ids = STREAM.encode([{"role": "assistant", "content": list(items)}])
        return Layout.of([ids], WORDS), torch.tensor([ids])

    for items, known in (((before, line, drawn), True), ((before, image, drawn), False)):
        made, ids = layout(*items)
        assert bool(made.writes[0].reference[0] >= 0) == known
        assert not made.predicted[(ids == SHARED) | (ids == DEPTH)].any()
        assert (made.index.kind[(ids == SHARED) | (ids == DEPTH)] == Kind.READ).all()
        assert int((made.step >= 0).sum()) == 4
    made, ids = layout({**image, "order": "raster"})
    written = made.step[0] >= 0
    assert written.sum() == 4
    assert not made.predicted[0, written].any()
    assert made.predicted[0, 2], "the choice to draw is one"


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"type": "image", "latents": [[1.0]] * 5, "shapes": [[2, 2]]}, "5 latents, but the sizes .* need 4"),
        ({"type": "image", "latents": [1.0] * 4, "shapes": [[2, 2]]}, r"latents must have shape \[vectors"),
        ({"type": "image", "latents": [[float("nan")]], "shapes": [[1, 1]]}, "latents must be finite"),
        ({"type": "image", "latents": [[1.0]], "codes": [1], "shapes": [[1, 1]]}, "unknown key 'codes'"),
        ({"type": "image", "latents": [["a"]], "shapes": [[1, 1]]}, "item 1: "),
        (
            {"type": "image", "latents": [[1.0, 2.0]], "shapes": [[1, 1]]},
            "latents of 2 channels after others",
        ),
        ({"type": "image", "placeholder": "sound", "shapes": [[1, 1]]}, "no placeholder called 'sound'"),
        ({"type": "image", "placeholder": "depth", "shapes": [[1, 1]]}, "has a placeholder, but no values"),
        ({"type": "features", "name": "text", "values": [[1.0]]}, "latents and text share the placeholder"),
        ({"type": "features", "values": [[1.0]]}, "misses 'name'"),
        ({"type": "features", "name": "depth", "values": torch.zeros(0, 2)}, "at least one vector"),
        ({"type": "features", "placeholder": "depth", "count": 0}, "at least one vector"),
    ],
)
def test_values_that_do_not_fit_are_refused(item, message):
    first = {"type": "image", "latents": [[1.0]], "shapes": [[1, 1]]}
    with pytest.raises(ValueError, match=message) as refusal:
        STREAM.encode_with_values([{"role": "user", "content": [first, item]}])
    assert "message 0, item 1" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_vocabulary_without_placeholders_takes_no_latents():
    stream = Stream(Vocabulary(orders=tuple(ORDERS)), byte_tokenizer())
    image = {"type": "image", "latents": [[1.0]], "shapes": [[1, 1]]}
    with pytest.raises(ValueError, match="message 0, item 0: the vocabulary has no placeholder for latents"):
        stream.encode([{"role": "user", "content": [image]}])


HEAD = [WORDS.begin, WORDS.user, WORDS.read]


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([*HEAD, *WORDS.sizes([(1, 3)]), SHARED, SHARED, WORDS.close], r"position 2 has 2 <\|continuous\|>"),
        ([*HEAD, *WORDS.sizes([(1, 2)]), SHARED, DEPTH, WORDS.close], r"position 2 has 1 <\|continuous\|>"),
        ([*HEAD, *WORDS.sizes([(1, 2)]), SHARED, WORDS.visual_start, WORDS.close], "position 2 has 1 <"),
        ([*HEAD, *WORDS.sizes([(1, 2)]), WORDS.visual_start, SHARED, WORDS.close], "position 2 has 1 codes"),
        ([*HEAD, *WORDS.sizes([(1, 1)]), SHARED, SHARED], "position 2 is not closed at position 6"),
        ([*HEAD, SHARED, SHARED], "the line of features at position 2 is not closed at position 5: the row"),
        ([*HEAD, SHARED, DEPTH, WORDS.close], r"features at position 2 is not closed at position 4: <\|cont"),
        ([WORDS.begin, WORDS.user, SHARED], r"<\|continuous\|> at position 2 stands outside an image"),
        ([WORDS.begin, WORDS.user, WORDS.write, SHARED], "position 3 must name the order"),
    ],
)
def test_malformed_placeholders_are_refused_with_a_position(ids, message):
    with pytest.raises(ValueError, match=message):
        segments(ids, WORDS)


@settings(max_examples=150, deadline=None)
@given(conversations, st.data())
def test_damaged_ids_are_decoded_or_refused_by_position(messages, data):
    ids = STREAM.encode(messages)
    place = data.draw(st.integers(0, len(ids) - 1))
    ids[place] = data.draw(st.sampled_from([SHARED, DEPTH, WORDS.close, WORDS.read, WORDS.visual_start, 65]))
    refusal = ""
    try:
        decoded = STREAM.decode(ids)
    except ValueError as error:
        refusal = str(error)
    if refusal:
        assert "position" in refusal
    else:
        assert STREAM.decode(STREAM.encode(decoded)) == decoded


def test_a_processor_passes_continuous_content_through():
    processor = Processor(WORDS, byte_tokenizer())
    image = {"type": "image", "latents": torch.rand(2, 3), "shapes": [[1, 2]]}
    messages = [{"role": "user", "content": [image]}]
    found = processor.encode_with_values(messages)
    assert torch.equal(found.values["latents"], image["latents"])
    assert processor.decode(found.ids)[0]["content"] == [marked(image)]
