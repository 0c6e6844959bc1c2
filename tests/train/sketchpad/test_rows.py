"""What an image-text model reads of a conversation with sketches."""

import pytest
import sketch_models as models
import torch
from unified.train.sketchpad.rows import (
    IGNORED,
    batch_of,
    lay_row,
    pictures_of,
    text_only,
    up_to,
)

EVERY = pytest.mark.parametrize("name", models.FAMILIES)


def laid(load, name, messages=None, **options):
    loaded = load(name)
    pad = models.sketchpad(loaded)
    return pad, loaded[1], lay_row(pad, loaded[1], messages or models.talk(), **options)


@EVERY
def test_words_of_the_answer_are_the_targets(load, name):
    pad, processor, row = laid(load, name)
    question = processor.prompt(models.talk()[:1]).ids
    assert row.ids[: len(question)] == question
    targets = [token for token in row.labels if token != IGNORED]
    assert processor.text(targets) == (
        "Two red circles0<actions>here</actions>Two red circles1<actions>here</actions>and a blue square."
    )
    assert targets[-1] in pad.reader.ends
    assert all(label in (IGNORED, token) for token, label in zip(row.ids, row.labels, strict=True))
    framed = {pad.begin, pad.end, pad.reader.image}
    assert not framed & set(targets)
    assert row.written == [False, True, True]
    assert row.ids.count(pad.reader.image) == 3 * pad.tokens


@EVERY
def test_the_picture_to_be_predicted_is_the_last(load, name):
    pad, _, row = laid(load, name, up_to(models.talk(), 1), draw_last=True)
    assert len(row.drawn) == pad.tokens
    assert row.ids[row.drawn.start - 1] == pad.begin
    assert row.drawn.stop == len(row.ids)
    batch = batch_of(pad, [row, lay_row(pad, load(name)[1], up_to(models.talk(), 0), draw_last=True)])
    assert batch.drawn.sum(dim=1).tolist() == [pad.tokens] * 2
    assert batch.prefix.sum(dim=1).tolist() == [2 * pad.tokens, pad.tokens]
    assert torch.equal(batch.target[0], row.images.features[-1])
    assert (batch.labels[batch.drawn] == IGNORED).all()


def test_up_to_and_text_only_leave_the_conversation_as_it_is():
    messages = models.talk(3)
    assert len(pictures_of(up_to(messages, 1))) == 3
    more = [{**messages[0], "content": [*messages[0]["content"], models.image(9)]}, messages[1]]
    found = text_only(more)
    assert len(pictures_of(found)) == 1
    assert len(pictures_of(more)) == 5
    assert len(found[1]["content"]) == 4


def test_rows_that_do_not_fit_are_refused(load):
    loaded = load("qwen2_5_vl")
    pad = models.sketchpad(loaded)
    with pytest.raises(ValueError, match="one question and one answer"):
        lay_row(pad, loaded[1], models.talk()[:1])
    messages = up_to(models.talk(), 0)
    messages[1]["content"][-1] = {"type": "image", "image": models.picture(1, 40, 40)}
    row = lay_row(pad, loaded[1], messages, draw_last=True)
    with pytest.raises(ValueError, match="an image of 25 positions, the vision head draws 9"):
        batch_of(pad, [row])
    long = models.talk()
    long[1]["content"].append(models.text("blue " * 3000))
    with pytest.raises(ValueError, match="and the model's context has 2048"):
        lay_row(pad, loaded[1], long)
