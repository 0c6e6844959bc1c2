"""Positions that stand for 2 x 2 codes."""

from dataclasses import replace

import torch

from unified.decoding.guidance import Constant
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.layout.layout import Layout
from unified.layout.patch_merging import blocks_of, merged_steps, positions_of
from unified.orders import plan_for


def chat(words, side, *more):
    image = words.read_segment([n % words.visual for n in range(side * side)], [(side, side)])
    return [words.begin, words.user, *more, *image, words.end, words.assistant]


def test_large_even_maps_whose_blocks_are_known_together_are_merged():
    shapes = ((1, 1), (3, 3), (2, 4), (4, 6))
    blocks = blocks_of(shapes, 2)
    assert blocks.members[:2].tolist() == [[10, 11, 14, 15], [12, 13, 16, 17]]
    assert len(blocks.members) == 2 + 6
    assert blocks.positions == 1 + 9 + 2 + 6
    assert len(blocks_of(shapes, 4).members) == 6
    assert len(blocks_of(shapes, 0).members) == 0
    assert len(blocks_of(((4, 4),), 2, plan_for("raster", ((4, 4),))).members) == 0
    assert positions_of(((4, 4),), 2) == 4


def test_a_block_stands_in_the_middle_of_its_codes(make_model):
    words = make_model(vocabulary={"merge": 4}).vocabulary
    row = chat(words, 4)
    layout = Layout.of([row], words)
    index, positions = layout.merged()
    start = row.index(words.read) + 3
    places = (positions[1:] - positions[:1])[:, 0, start : start + 4]
    assert places.T.tolist() == [[0.5, 0.5], [0.5, 2.5], [2.5, 0.5], [2.5, 2.5]]
    assert index.sample.shape == (1, len(row) - 12)


def test_rows_of_other_lengths_end_together(make_model):
    model = make_model(vocabulary={"merge": 2})
    words = model.vocabulary
    rows = [chat(words, 4), chat(words, 2, *[5] * 12)]
    assert len(rows[0]) == len(rows[1])
    layout = Layout.of(rows, words)
    assert layout.merging is not None
    assert layout.merging.real.sum(dim=1).tolist() == [len(rows[0]) - 12, len(rows[1]) - 3]
    together = model(torch.tensor(rows), return_logits=True).logits
    for row, ids in enumerate(rows):
        torch.testing.assert_close(together[row], model(torch.tensor([ids])).logits[0], atol=1e-4, rtol=0)


def test_every_slot_of_a_step_has_its_position():
    plan = plan_for("next_scale", ((1, 1), (2, 2), (4, 4)))
    sizes = [len(step.slots) for step in merged_steps(plan, 4)]
    assert sizes == [1, 4, 4]
    last = merged_steps(plan, 4)[2]
    assert last.position.tolist() == [0, 0, 1, 1, 0, 0, 1, 1, 2, 2, 3, 3, 2, 2, 3, 3]


def test_some_rows_draw_with_guidance_and_the_rest_is_as_if_alone(make_model):
    model = make_model(vocabulary={"merge": 2})
    words = model.vocabulary
    prompts = [chat(words, 4), chat(words, 2, 9, 9)]
    options = {"guidance": Constant(2.0), "sampler": Sampler(top_p=0.9)}
    both = Session(model, rows=2, seed=[3, 4])
    both.feed(prompts)
    both.draw([1, 2, 4], rows=[False, True], **options)
    alone = Session(model, seed=4)
    alone.feed(prompts[1])
    alone.draw([1, 2, 4], **options)
    assert both.streams[1] == alone.streams[0]
    assert both.streams[0] == prompts[0]


def test_what_is_copied_grows_with_what_a_state_asks_for(make_model):
    model = make_model(vocabulary={"merge": 2})
    torch.nn.init.normal_(model.extras["copy_gate"].gate.weight)
    torch.nn.init.zeros_(model.extras["reference"].projection.weight)
    words = model.vocabulary
    found = []
    for side in (4, 2):  # an image of another size is no reference
        session = Session(model, seed=3)
        session.feed(chat(words, side))
        drawing = session.draw([1, 4])
        whole = model(torch.tensor(session.streams)).log_probs
        slots = Layout.of(session.streams, words).writes[0].slots()[0]
        torch.testing.assert_close(whole[0, slots], drawing.log_probs[0], atol=1e-4, rtol=0)
        torch.nn.init.zeros_(model.extras["copy_gate"].gate.weight)
        found.append(bool(torch.allclose(model(torch.tensor(session.streams)).log_probs, whole)))
        torch.nn.init.normal_(model.extras["copy_gate"].gate.weight)
    assert found == [False, True]


def test_dropped_ids_take_no_position_and_change_nothing_before_them(make_model):
    model = make_model(vocabulary={"merge": 2})
    words = model.vocabulary
    picture = words.open_write("next_scale", [(1, 1), (2, 2), (4, 4)])
    codes = [words.visual_start + n % words.visual for n in range(21)]
    rows = torch.tensor([[*chat(words, 2), *picture, *codes, words.close, words.end]] * 2)
    layout = Layout.of(rows, words)
    dropped = (layout.step == 2) & torch.tensor([[True], [False]])
    short = replace(layout, merging=layout.merging.without(dropped))
    assert (
        short.merging.real.sum(dim=1).tolist()
        == (layout.merging.real.sum(dim=1) - torch.tensor([4, 0])).tolist()
    )
    found, expected = (model(rows, layout=each).log_probs for each in (short, layout))
    kept = ~dropped & (layout.step >= 0)
    torch.testing.assert_close(found[kept], expected[kept], atol=1e-5, rtol=0)
    torch.testing.assert_close(found[1], expected[1], atol=1e-5, rtol=0)
    assert not torch.allclose(found[dropped], expected[dropped])
