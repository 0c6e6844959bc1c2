"""Ids and messages, spoilt at random: nothing but a ValueError in one line comes back."""

import copy
import os
import random

import numpy as np
import pytest
import torch

from unified.apps.demo import random_model
from unified.decoding.session import Session
from unified.layout.layout import Layout

ROUNDS = int(os.environ.get("UNIFIED_FUZZ_ROUNDS", "60"))
POISON = [
    *(None, True, -1, 0, 3, 1.5, 1e300, float("nan"), float("inf"), 10**400, -(2**70), 2**63),
    *("", "x", "\ud83d", "\0", "a" * 500, b"bytes", object(), ("a",), {1, 2}),
    *([], {}, [1], [[]], {"a": 1}, [None], [[[1, 2], [3]]], {"type": "text"}, {"type": ["image"]}),
    *(
        np.zeros(0),
        np.zeros((2, 2, 2, 2)),
        np.full((4, 4, 3), np.nan),
        np.zeros((3, 3), object),
        torch.zeros(1),
    ),
]
TEXT, ACTION = (
    {"type": "text", "text": "What?"},
    {"type": "action", "action": {"forward": 1, "camera": [0, 1]}},
)
CODES = {"type": "image", "codes": [1, 2, 3, 4], "shapes": [[2, 2]]}
LATENTS = {"type": "image", "latents": [[0.5, 1.0]], "shapes": [[1, 1]]}
FEATURES = {"type": "features", "name": "depth", "values": [[0.5]]}
PICTURE = {"type": "image", "image": np.zeros((16, 16, 3), np.uint8)}
DRAWN = {"type": "image", "codes": [0, 1, 2, 3, 4], "shapes": [[1, 1], [2, 2]], "order": "next_scale"}
GOOD = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [TEXT, PICTURE, ACTION, CODES]},
    {"role": "assistant", "content": [TEXT, DRAWN, copy.deepcopy(PICTURE)]},
    {"role": "user", "content": [LATENTS, FEATURES, ACTION]},
]


def places(value, path=()):
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in items:
        yield from places(part, (*path, key))


def spoilt(value, rng):
    value = copy.deepcopy(value)
    path = rng.choice(list(places(value)))
    if not path:
        return rng.choice(POISON)
    parent = value
    for key in path[:-1]:
        parent = parent[key]
    if rng.random() < 0.2:
        del parent[path[-1]]
    else:
        parent[path[-1]] = rng.choice(POISON)
    return value


def refuses_or(work, *arguments):
    """What the call gives, or None where it refuses in one line."""
    try:
        return work(*arguments)
    except ValueError as error:
        said = str(error)
    assert said
    assert "\n" not in said
    assert len(said) < 500
    return None


@pytest.fixture(scope="module")
def tiny():
    return random_model()


def test_messages(tiny):
    _, processor = tiny
    rng = random.Random("messages")
    for _ in range(3 * ROUNDS):
        messages = spoilt(spoilt(GOOD, rng) if rng.random() < 0.3 else GOOD, rng)
        encode = rng.choice([processor.encode, processor.encode_with_values, processor.stream.encode])
        ids = refuses_or(encode, messages)
        assert ids is None or len(getattr(ids, "ids", ids)) > 0
        if isinstance(messages, list) and messages:
            refuses_or(processor.turn, rng.choice(messages))


def test_ids(tiny):
    model, processor = tiny
    words = processor.vocabulary
    rng = random.Random("ids")
    row = processor.encode(GOOD[:3])
    special = list(words.special.values())
    for _ in range(ROUNDS):
        ids = list(row)
        for _ in range(rng.randint(1, 3)):
            place, how = rng.randrange(len(ids)), rng.random()
            if how < 0.4:
                ids[place] = rng.choice(special)
            elif how < 0.6:
                ids[place : place + rng.randint(1, 9)] = []
            elif how < 0.8:
                ids[place:place] = [rng.choice(special) for _ in range(rng.randint(1, 4))]
            else:
                ids[place] = rng.choice([-1, words.size, rng.randrange(words.size), 2**70, "a", None, 0.5])
            if not ids:
                break
        refuses_or(processor.decode, ids)
        refuses_or(Layout.of, [ids], words)
        session = Session(model)
        refuses_or(session.feed, ids)
        refuses_or(session.feed, processor.encode(GOOD[:1]))


@pytest.mark.parametrize("ids", POISON, ids=[f"{value!r:.20}" for value in POISON])
def test_what_is_no_row_of_ids(tiny, ids):
    model, processor = tiny
    session = Session(model)
    for work in (processor.decode, lambda ids: Layout.of(ids, processor.vocabulary), session.feed):
        refuses_or(work, ids)
        refuses_or(work, [ids])
    good = processor.encode(GOOD[:1])
    session.feed(good)
    assert session.streams[0][-len(good) :] == good
