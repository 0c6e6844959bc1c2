"""Bodies of requests, spoilt in many ways."""

import json
import string


def mutated(rng, body):
    """One of many ways to spoil a body."""
    kind = rng.randrange(7)
    if kind == 0:  # bytes changed
        held = bytearray(json.dumps(body).encode())
        for _ in range(rng.randrange(1, 6)):
            held[rng.randrange(len(held))] = rng.randrange(256)
        return bytes(held)
    if kind == 1:  # cut
        held = json.dumps(body).encode()
        return held[: rng.randrange(len(held))]
    if kind == 2:
        return rng.choice(
            [b"", b"[]", b"null", b"[" * 100_000, b'{"a":' * 50_000, b"NaN", b"1" * 6000, b"\xff"]
        )
    strange = [
        None,
        True,
        -1,
        0,
        2**70,
        1e308,
        float("nan"),
        "",
        "\ud800",
        "x\0",
        [],
        {},
        [[]],
        {"a": {}},
        "9",
    ]
    spoilt = json.loads(json.dumps(body))
    places = [spoilt]
    for place in places:
        inner = place.values() if isinstance(place, dict) else place
        places += [value for value in inner if isinstance(value, dict | list) and value]
    place = rng.choice([place for place in places if place])
    key = rng.choice(list(place) if isinstance(place, dict) else range(len(place)))
    if kind == 3:
        del place[key]
    elif kind == 4 and isinstance(place, dict):
        place[rng.choice(string.ascii_letters) + "\ud83d"] = rng.choice(strange)
    else:
        place[key] = rng.choice(strange)
    return json.dumps(spoilt).encode()
