"""What a model says to itself is never an answer, whatever it is made to say."""

import numpy as np
import pytest
import torch

from unified.apps.assistant import Assistant
from unified.apps.conversation import Unasked
from unified.apps.demo import random_model
from unified.apps.inner_speech import Outspoken, spoken
from unified.apps.intent import information

INNER = {
    "Seen: top left nothing; centre a star.": "",
    "1 of 2: a large red star.": "",
    "star? centre a small red star: star 1. So yes": "",
    "So yes": "",
    "Here you are. 1 of 1: a star.": "Here you are.",
    "There are 2 of them.": "There are 2 of them.",
    "2": "2",
    "How are you? Fine.": "How are you? Fine.",
}


@pytest.fixture
def assistant():
    return Assistant(*random_model(), side=32)


@pytest.mark.parametrize("text", INNER)
def test_what_is_said_is_told_from_what_is_thought(text):
    assert spoken(text) == INNER[text]
    for size in (1, 3, 100):
        speech = Outspoken()
        pieces = [speech.hear(text[start : start + size]) for start in range(0, len(text), size)]
        assert "".join([*pieces, speech.flush()]).strip() == INNER[text]


def forced(assistant, monkeypatch, text):
    """The model says this text in every turn, whatever it reads."""
    words = assistant.model.vocabulary
    ids, step = [*assistant.processor.stream.text.encode(text), words.end], [0]

    def logits(hidden):
        out = torch.full((*hidden.shape[:-1], words.table_size), -1e4)
        out[..., ids[step[0] % len(ids)]] = 1e4
        step[0] += 1
        return out

    monkeypatch.setattr(assistant.model, "text_logits", logits)


@pytest.mark.parametrize("text", INNER)
@pytest.mark.parametrize("shown", [False, True])
def test_a_model_that_says_it_aloud_has_not_answered(assistant, monkeypatch, text, shown):
    forced(assistant, monkeypatch, text)
    image = np.zeros((32, 32, 3), np.uint8) if shown else None
    assert assistant.ask("Thanks!", image, look=False) == INNER[text]
    if not INNER[text]:
        assert assistant.ask("Thanks!", image) == ""


@pytest.mark.parametrize(("least", "kept"), [(float("inf"), False), (-float("inf"), True)])
def test_an_image_that_nobody_asked_for_is_taken_back(assistant, monkeypatch, least, kept):
    monkeypatch.setattr("unified.apps.conversation.ASKED_FOR", least)
    talk = assistant.chat(max_tokens=2)
    before = talk.saved()
    events = talk.say("Thanks!", draw_unasked=False, require_image=True)
    if kept:
        assert list(events)
        assert len(talk.ids) > len(before[0])
    else:
        with pytest.raises(Unasked):
            list(events)
        assert talk.ids == before[0]


@torch.no_grad()
def test_information_is_a_difference_of_likelihoods(assistant):
    model, processor = assistant.model, assistant.processor
    asked, null = (processor.encode(assistant.request(text), prompt=True) for text in ("Draw.", ""))
    said = processor.stream.text.encode("Here.")
    sums = [
        float(model(torch.tensor([[*prompt, *said]])).log_probs[0, len(prompt) :].sum())
        for prompt in (asked, null)
    ]
    assert information(model, asked, null, said) == pytest.approx(sums[0] - sums[1], abs=1e-4)
    assert information(model, asked, asked, said) == 0
