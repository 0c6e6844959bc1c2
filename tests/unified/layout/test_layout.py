"""What follows from the ids: positions, targets, the attention rule, packing."""

import pytest
import torch

from unified.layout.attention import Index, attends, visible
from unified.layout.layout import IGNORED, Layout, pack
from unified.stream.segments import Kind
from unified.stream.vocabulary import Vocabulary

WORDS = Vocabulary(visual=16)


def image(codes, shapes, order=None):
    item = {"type": "image", "codes": codes, "shapes": shapes}
    return item if order is None else {**item, "order": order}


DRAWN = image([1, 2, 3, 4, 5], [[1, 1], [2, 2]], "next_scale")
GIVEN = image([2, 3, 4, 5], [[2, 2]])


@pytest.fixture(scope="module")
def layout_of(stream):
    def build(*contents):
        roles = ("user", "assistant") * len(contents)
        ids = stream.encode([{"role": r, "content": c} for r, c in zip(roles, contents, strict=False)])
        return torch.tensor([ids]), Layout.of([ids], stream.vocabulary)

    return build


def test_text_is_causal_and_a_read_image_is_one_group(layout_of, stream):
    ids, layout = layout_of([GIVEN], "ok")
    sees = attends(layout.index, layout.index)[0]
    codes = stream.vocabulary.is_visual(ids[0])
    assert sees[codes][:, codes].all()
    text = layout.index.kind[0] == Kind.TEXT
    assert torch.equal(sees[text][:, text], torch.ones(int(text.sum()), int(text.sum())).tril().bool())


def test_a_scale_sees_itself_and_coarser_ones_and_nobody_later_sees_it(layout_of):
    _, layout = layout_of("draw", [DRAWN, {"type": "text", "text": "x"}])
    sees = attends(layout.index, layout.index)[0]
    write = (layout.step[0] >= 0).nonzero().flatten()
    coarse, fine = write[:1], write[1:]
    assert sees[coarse][:, coarse].all()
    assert sees[fine][:, fine].all()
    assert sees[fine][:, coarse].all()
    assert not sees[coarse][:, fine].any()
    later = torch.arange(int(write[-1]) + 2, sees.shape[0])
    assert not sees[later][:, layout.index.kind[0] == Kind.WRITE].any()


def test_a_drawn_image_stands_where_a_given_one_would(layout_of, stream):
    """Positions after the WRITE part are those of the stream without it."""
    _, drawn = layout_of("draw", [DRAWN, {"type": "text", "text": "done"}])
    _, given = layout_of("draw", [GIVEN, {"type": "text", "text": "done"}])
    kept = drawn.index.kind[0] != Kind.WRITE
    torch.testing.assert_close(drawn.positions[:, :, kept], given.positions)


def test_the_same_place_has_the_same_position_at_every_scale(layout_of):
    _, layout = layout_of("draw", [image(list(range(5)), [[1, 1], [2, 2]], "next_scale")])
    written = (layout.step[0] >= 0).nonzero().flatten()
    rows = layout.positions[1, 0, written]
    assert rows[0] == rows[1:].mean()


def test_targets_are_the_assistants_text_actions_and_written_codes(layout_of, stream):
    words = stream.vocabulary
    act = {"type": "action", "ids": [1] * 11}
    ids, layout = layout_of([{"type": "text", "text": "u"}, GIVEN, act], [DRAWN, act])
    labels = layout.labels(ids)[0]
    targets = labels[labels != IGNORED].tolist()
    assert targets == [
        words.write,
        *words.visual_ids([1, 2, 3, 4, 5]),
        *[words.action_start + 1] * 11,
        words.end,
    ]


def test_targets_are_read_where_the_rule_says(layout_of):
    _, layout = layout_of("draw", [DRAWN])
    places = torch.arange(layout.source.shape[1])
    written = layout.step[0] >= 0
    assert torch.equal(layout.source[0][written], places[written])
    assert torch.equal(layout.source[0][~written][1:], places[~written][1:] - 1)


def test_a_layout_can_be_built_piece_by_piece(layout_of, stream):
    ids, whole = layout_of([GIVEN], [DRAWN, {"type": "text", "text": "well"}])
    cut = ids[0].tolist().index(stream.vocabulary.assistant)
    first = Layout.of(ids[:, :cut], stream.vocabulary)
    second = Layout.of(ids[:, cut:], stream.vocabulary, first.cursors)
    torch.testing.assert_close(torch.cat([first.positions, second.positions], dim=2), whole.positions)
    joined = attends(first.index.cat(second.index), first.index.cat(second.index))
    assert torch.equal(joined, attends(whole.index, whole.index))


def test_plain_attention_is_used_only_where_the_rule_allows_all(layout_of):
    _, layout = layout_of([GIVEN], "ok")
    last = layout.index.map(lambda field: field[:, -1:])
    assert visible(last, layout.index) is None
    assert visible(layout.index, layout.index) is not None
    padded = Index.padding(1, 2).cat(layout.index)
    mask = visible(last, padded)
    assert mask is not None
    assert mask[0, 0, 0].tolist() == [False, False] + [True] * layout.source.shape[1]


def test_padding_sees_only_padding(stream):
    ids = stream.encode([{"role": "user", "content": "a"}])
    rows = pack([ids], len(ids) + 3, stream.vocabulary)
    sees = attends(*[Layout.of(rows, stream.vocabulary).index] * 2)[0]
    assert sees.any(dim=1).all()
    assert not sees[: len(ids), len(ids) :].any()
    assert not sees[len(ids) :, : len(ids)].any()


def test_packing_keeps_every_sample(stream):
    samples = [stream.encode([{"role": "user", "content": "x" * n}]) for n in (3, 20, 7, 1, 12)]
    rows = pack(samples, 30, stream.vocabulary)
    layout = Layout.of(rows, stream.vocabulary)
    found = []
    for row, numbers in zip(rows, layout.index.sample, strict=True):
        found += [row[numbers == n].tolist() for n in numbers.unique() if n >= 0]
    assert sorted(found) == sorted(samples)
    with pytest.raises(ValueError, match="does not fit a row of 5"):
        pack(samples, 5, stream.vocabulary)
    with pytest.raises(ValueError, match="must start with"):
        pack([[1, 2]], 5, stream.vocabulary)


def test_an_unknown_order_of_a_legal_id_is_refused():
    words = Vocabulary(orders=("next_scale", "spiral"))
    ids = [words.begin, *words.open_write("spiral", [(1, 1)]), words.visual_start, words.close]
    with pytest.raises(ValueError, match="the image at position 1: unknown order 'spiral'"):
        Layout.of([ids], words)


def test_ids_must_be_a_batch():
    with pytest.raises(ValueError, match="shape"):
        Layout.of(torch.tensor([1, 2]), WORDS)
