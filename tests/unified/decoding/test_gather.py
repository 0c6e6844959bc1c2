"""Rows that leave one session and join another go on as if they had been alone."""

import pytest

from unified.decoding.gather import gathered
from unified.decoding.guidance import Constant
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session

PROMPTS = [[1, 9, 8], [3, 4, 5, 6, 7, 11, 12], [20]]
SEEDS = [7, 900, 31]
MAPS = [(1, 1), (2, 2), (3, 3)]
WARM = Sampler(temperature=1.0, top_p=0.9)


def prompt(model, text):
    words = model.vocabulary
    return [words.begin, words.user, *text, words.end, words.assistant]


def started(model, number):
    session = Session(model, seed=[SEEDS[number]])
    session.feed(prompt(model, PROMPTS[number]))
    return session


def say(session, count):
    for _ in session.text(sampler=WARM, max_tokens=count, draw=False, end=False):
        pass


def draw(session):
    return session.draw(MAPS, sampler=WARM, guidance=Constant(1.5))


@pytest.fixture(scope="module")
def alone(model):
    """The streams of each conversation by itself: text, for the first an image, and text again."""
    found = []
    for number in range(3):
        session = started(model, number)
        say(session, 4)
        if number == 0:
            draw(session)
        say(session, 5)
        found.append(session.streams[0])
    return found


def test_rows_that_come_and_go_say_what_they_say_alone(model, alone):
    first, second = started(model, 0), started(model, 1)
    both = gathered([(first, 0), (second, 0)], SEEDS[:2])
    say(both, 4)
    image = gathered([(both, 0)], SEEDS[:1])
    rest = gathered([(both, 1), (started(model, 2), 0)], SEEDS[1:])
    draw(image)
    say(rest, 4)
    every = gathered([(rest, 1), (image, 0), (rest, 0)], [SEEDS[2], SEEDS[0], SEEDS[1]])
    say(every, 5)
    assert every.streams[1] == alone[0]
    assert every.streams[0] == alone[2]
    assert every.streams[2][: len(alone[1])][: len(alone[1]) - 4] == alone[1][:-4]  # it said four more before


def test_the_sessions_that_rows_come_from_are_unchanged(model):
    session = started(model, 0)
    before = session.streams, session.context.cache.lengths.copy(), session.last.clone()
    other = gathered([(session, 0), (session, 0)], [1, 2])
    say(other, 6)
    assert session.streams == before[0]
    assert (session.context.cache.lengths == before[1]).all()
    assert (session.last == before[2]).all()
    say(session, 6)
    alone = started(model, 0)
    say(alone, 6)
    assert session.streams == alone.streams


def test_what_cannot_be_gathered_is_one_line(model, make_model):
    session = started(model, 0)
    with pytest.raises(ValueError, match="at least one row"):
        gathered([], [])
    with pytest.raises(ValueError, match="seeds"):
        gathered([(session, 0)], [1, 2])
    with pytest.raises(ValueError, match="read nothing"):
        gathered([(Session(model), 0)], [1])
    other = make_model()
    with pytest.raises(ValueError, match="same model"):
        gathered([(session, 0), (started(other, 1), 0)], [1, 2])
