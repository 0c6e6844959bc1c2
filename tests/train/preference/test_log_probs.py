"""The log-probabilities that DPO uses are those that a session recorded while it sampled, and those of the
model's own forward pass."""

import math

import pytest
import torch
from unified.tokenizers.text import byte_tokenizer

from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.layout.layout import Layout
from unified.stream.messages import Stream

SAMPLER = Sampler()  # temperature 1, no filters
SHAPES = [1, 2]


SHOWN = {"type": "image", "codes": [3, 4, 5, 6], "shapes": [[2, 2]]}
ACTION = {"type": "action", "ids": list(range(7, 18))}


def text(words):
    return {"type": "text", "text": words}


def say(session, count=12):
    for _ in session.text(sampler=SAMPLER, max_tokens=count, draw=False, end=False):
        pass


def end(session):
    session.feed([session.vocabulary.end], defer=True)


ANSWERS = {
    "text": ([text("what?")], say),
    "image": ([text("draw")], lambda s: s.draw(SHAPES, sampler=SAMPLER)),
    "image and text": ([text("maze")], lambda s: (say(s, 4), s.draw(SHAPES, sampler=SAMPLER), say(s, 4))),
    "edit": ([SHOWN, text("edit")], lambda s: s.draw(SHAPES, sampler=SAMPLER)),
    "frame": ([SHOWN, ACTION], lambda s: s.draw(SHAPES, sampler=SAMPLER)),
    "action": ([SHOWN], lambda s: s.action(sampler=SAMPLER)),
}


@pytest.mark.parametrize(("user", "answer"), ANSWERS.values(), ids=ANSWERS.keys())
def test_dpo_scores_what_a_session_recorded(user, answer, model, make_trainer):
    prompt = Stream(model.vocabulary, byte_tokenizer()).encode(
        [{"role": "user", "content": user}], prompt=True
    )
    sampled = []
    for seed in (0, 1):
        session = Session(model.eval(), seed=seed).record_log_probs()
        session.feed(prompt)
        answer(session)
        end(session)
        sampled.append((session.streams[0][len(prompt) :], session.log_probs[0]))
    row = {"prompt_ids": prompt, "chosen_ids": sampled[0][0], "rejected_ids": sampled[1][0]}
    trainer = make_trainer(dataset(row), steps=1, pairs_a_step=1, micro=1)
    scored = scored_by(trainer, row)
    ids = [torch.tensor([[*prompt, *reply]]) for reply, _ in sampled]
    for found, table, (_, recorded) in zip(scored, ids, sampled, strict=True):
        whole = model(table, labels=Layout.of(table, model.vocabulary).labels(table)).log_probs[0]
        torch.testing.assert_close(found[: len(whole)], whole.detach(), atol=1e-5, rtol=0)
        places = [n for n, value in enumerate(recorded) if not math.isnan(value)]
        assert len(places) >= 5
        noted = torch.tensor([recorded[n] for n in places])
        torch.testing.assert_close(found[places], noted, atol=1e-3, rtol=0)


def dataset(row):
    from datasets import Dataset

    return Dataset.from_list([row])


def scored_by(trainer, row):
    """Log-probabilities [2, T] that the loss is made of, in the places of the tokens."""
    batch = trainer.data_collator([row])
    labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100)
    given = {name: value for name, value in batch.items() if name != "completion_mask"}
    with torch.no_grad():
        shifted = trainer.model(**given, labels=labels, fused_lm_head=True).log_probs
    return torch.nn.functional.pad(shifted, (1, 0))


def test_the_choice_to_draw_is_recorded(model):
    """At the place of the id that opens the image."""
    session = Session(model.eval(), seed=0).record_log_probs()
    words = model.vocabulary
    session.feed([words.begin, words.user, 1, words.end, words.assistant])
    for _ in session.text(sampler=Sampler(), max_tokens=2000, end=False):
        pass
    assert session.stopped() == ["write"], "choose another seed"
    place = len(session.streams[0])
    session.draw(SHAPES, sampler=SAMPLER)
    ids = torch.tensor([[*session.streams[0], words.end]])
    expected = model(ids).log_probs[0].detach()
    recorded = session.log_probs[0]
    assert session.streams[0][place] == words.write
    assert recorded[place] == pytest.approx(float(expected[place]), abs=1e-3)


def test_without_recording_nothing_is_kept(model):
    session = Session(model.eval(), seed=0)
    session.feed([model.vocabulary.begin, model.vocabulary.assistant])
    say(session, 3)
    assert all(map(math.isnan, session.log_probs[0]))
