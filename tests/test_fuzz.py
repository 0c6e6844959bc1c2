"""Files of others, spoilt at random: every command ends with status 0, or with 2 and a clear refusal.

Seeded and in-process. Values are replaced by ones of another kind, numbers and nesting without end; keys are
lost and added; bytes are changed, cut and put in. `ROUNDS` spoilt files of each kind are tried.
"""

import copy
import json
import os
import random
import shutil
import warnings

import pytest
from PIL import Image
from unified.envs.recordings import line_of, read_track
from unified.tasks.__main__ import main as tasks
from unified.train.__main__ import main as train

from unified.apps.cli import main as unified
from unified.apps.demo import random_model
from unified.checkpoints.__main__ import main as checkpoints
from unified.pretrained import save_model

ROUNDS = int(os.environ.get("UNIFIED_FUZZ_ROUNDS", "25"))
DEEP: list = []
for _ in range(150):
    DEEP = [DEEP]
POISON = [
    *(None, True, -1, 0, 3, 1.5, 1e300, float("nan"), float("inf"), 10**400, -(10**20)),
    *("", "x", "\ud83d", "\0", "../x", "~", "a" * 5000, "<image>"),
    *([], {}, [1], [[]], {"a": 1}, [None], [{"type": "tool"}], DEEP),
]
PIECES = [
    b"\xef\xbb\xbf",
    b"\xff",
    b"\0",
    b"\r\n",
    b"[" * 3000,
    b'{"a":' * 3000,
    b"NaN",
    b"1e999",
    b'"',
    b"}",
    b"]",
]


def places(value, path=()):
    """The paths of all values within plain data."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in items:
        yield from places(part, (*path, key))


def spoilt(value, rng):
    """Plain data with one value replaced, lost or added."""
    value = copy.deepcopy(value)
    path = rng.choice(list(places(value))[1:] or [()])
    if not path:
        return rng.choice(POISON)
    parent = value
    for key in path[:-1]:
        parent = parent[key]
    how = rng.random()
    if how < 0.15:
        del parent[path[-1]]
    elif how < 0.25 and isinstance(parent, dict):
        parent[rng.choice(["id", "model", "\ud83d", "a b"])] = rng.choice(POISON)
    else:
        parent[path[-1]] = rng.choice(POISON)
    return value


def shaken(content, rng):
    """Bytes, some of them changed, lost or put in."""
    found = bytearray(content)
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(len(found) + 1)
        how = rng.random()
        if how < 0.4:
            found[place:place] = rng.choice(PIECES)
        elif how < 0.7 and place < len(found):
            found[place] = rng.randrange(256)
        else:
            del found[place : place + rng.choice([1, 5, 10**6])]
    return bytes(found)


def written(values, rng, lines):
    """A JSON or JSONL file of these values, one of them spoilt."""
    values = list(values)
    if rng.random() < 0.7:
        number = rng.randrange(len(values))
        values[number] = spoilt(values[number], rng)
    texts = [json.dumps(value) for value in values]
    content = ("\n".join(texts) if lines else f"[{','.join(texts)}]").encode()
    return content if rng.random() < 0.6 else shaken(content, rng)


@pytest.fixture
def ends_well(capsys, tmp_path, monkeypatch):
    """Runs a command; gives its status after looking at how it ended."""
    monkeypatch.chdir(tmp_path)

    def call(main, *arguments):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                status = main([str(argument) for argument in arguments])
            except SystemExit as stop:
                status = stop.code
        said = capsys.readouterr()
        assert status in (0, 2), said.err
        assert "Traceback" not in said.err
        assert "a bug" not in said.err
        assert status == 0 or said.err.strip()
        assert max(map(len, said.err.splitlines()), default=0) < 1000
        return status

    return call


TALK = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "Red."}]
PARTS = [{"type": "text", "text": "What?"}, {"type": "image", "path": "a.png"}]
ASKED = {"role": "user", "content": PARTS}
SAID = {"role": "assistant", "content": "Red."}
RECORDS = {
    "llava": [
        {"id": "1", "image": "a.png", "conversations": TALK},
        {"messages": [ASKED, SAID]},
        {"images": ["a.png"], "system": "Be brief.", "conversations": TALK},
    ],
    "preference": [
        {"prompt": "What? <image>", "chosen": "Red.", "rejected": "Blue.", "images": ["a.png"]},
        {"prompt": "Draw.", "chosen_image": "a.png", "rejected_image": "b.png"},
        {"chosen": [ASKED, SAID], "rejected": [ASKED, {"role": "assistant", "content": "Blue."}]},
    ],
    "captions": [
        {"file_name": "a.png", "text": "red"},
        {"file_name": "b.png", "caption": "blue", "label": 3},
    ],
}


@pytest.fixture
def pictures(tmp_path):
    for name, colour in (("a.png", "red"), ("b.png", "blue")):
        Image.new("RGB", (16, 16), colour).save(tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("kind", RECORDS)
def test_records(kind, pictures, ends_well):
    """What `validate` finds good, `build` takes."""
    rng = random.Random(f"records {kind}")
    for number in range(ROUNDS):
        lines = kind == "captions" or rng.random() < 0.5
        path = pictures / ("metadata.jsonl" if kind == "captions" else f"d.json{'l' if lines else ''}")
        path.write_bytes(written(RECORDS[kind], rng, lines))
        where = pictures if kind == "captions" else path
        status = ends_well(tasks, "validate", kind, where)
        if kind == "preference":
            continue
        option = {
            "folder" if kind == "captions" else "path": str(where),
            "validation": 0,
            "test": 0,
            "size": 8,
        }
        skips = rng.random() < 0.5
        part = {"task": kind, "options": {**option, "on_error": "skip" if skips else "raise"}}
        (pictures / "mixture.json").write_text(json.dumps({"size": 4, "parts": [part]}))
        out = pictures / f"out{number}"
        assert ends_well(tasks, "build", "mixture.json", out, "--quiet") == 0 or status == 2
        shutil.rmtree(out, ignore_errors=True)


def test_mixtures(pictures, ends_well):
    rng = random.Random("mixtures")
    good = {
        "seed": 0,
        "split": "train",
        "size": 2,
        "format": "messages",
        "shard": 5,
        "parts": [
            {"task": "scene_caption", "weight": 1.5, "options": {"size": 32}},
            {"task": "maze", "options": {"sizes": [3], "image_size": 64}},
        ],
    }
    for number in range(ROUNDS):
        content = json.dumps(spoilt(good, rng)).encode()
        (pictures / "m.json").write_bytes(content if rng.random() < 0.7 else shaken(content, rng))
        ends_well(tasks, "build", "m.json", f"out{number}", "--quiet")


def test_recordings(tmp_path):
    rng = random.Random("recordings")
    state = {"hotbar": 2, "isGuiOpen": True, "yaw": 1.0}
    good = [line_of({"forward": 1, "camera": [0, 3]}, state=state), {"ESC": 0, "camera": [1.5, 0]}] * 3
    for _ in range(8 * ROUNDS):
        (tmp_path / "track.jsonl").write_bytes(written(good, rng, lines=True))
        try:
            track = read_track(tmp_path / "track.jsonl")
        except ValueError:  # nothing in it can be used
            continue
        assert len(track.actions) == len(track.valid)
        assert track.valid.any()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "tiny"
    save_model(folder, *random_model())
    return folder


def test_model_folders(model, tmp_path, ends_well):
    rng = random.Random("models")
    folder = tmp_path / "spoilt"
    shutil.copytree(model, folder)
    names = ("config.json", "processor.json", "visual_config.json", "action.json", "text_tokenizer.json")
    for _ in range(2 * ROUNDS):
        name = rng.choice(names)
        content = (model / name).read_bytes()
        data = json.dumps(spoilt(json.loads(content), rng)).encode()
        (folder / name).write_bytes(data if rng.random() < 0.8 else shaken(content, rng))
        ends_well(unified, "info", "--model", folder, "--device", "cpu")
        shutil.copy(model / name, folder / name)


def test_scripts_of_actions(model, pictures, ends_well):
    rng = random.Random("scripts")
    good = [{"forward": 1}, {"camera": [0.0, 5.0], "jump": 1}]
    words = b"forward jump x2 camera 0 5\nwait\n# end\n"
    for _ in range(ROUNDS):
        spelt = rng.random() < 0.4
        (pictures / "walk").write_bytes(shaken(words, rng) if spelt else written(good, rng, lines=True))
        arguments = ["--model", model, "--device", "cpu", "--out", "o.gif"]
        ends_well(unified, "imagine", "a.png", "walk", *arguments)


def test_golden_folders(tmp_path, ends_well):
    rng = random.Random("golden")
    good = {
        "model": "var",
        "depth": 2,
        "patch_nums": [1, 2],
        "state_dict_manifest": {"a": [2, 2]},
        "options": {},
    }
    for _ in range(ROUNDS):
        content = json.dumps(spoilt(good, rng)).encode()
        (tmp_path / "config.json").write_bytes(content if rng.random() < 0.7 else shaken(content, rng))
        assert ends_well(checkpoints, "verify", tmp_path) == 2


def test_settings_of_training(tmp_path, ends_well):
    rng = random.Random("training")
    settings = ["seed", "stages.0.steps", "stages.0.mixture", "stages", "model", "stages.0.rate", "text"]
    for _ in range(ROUNDS):
        value = rng.choice(POISON)
        text = value if isinstance(value, str) else json.dumps(value)
        ends_well(train, "show", "nano_smoke", "--override", f"{rng.choice(settings)}={text}")
        (tmp_path / "zero.json").write_bytes(shaken(b'{"zero_optimization": {"stage": 2}}', rng)[:2000])
        if rng.random() < 0.3:
            ends_well(train, "nano_smoke", "--deepspeed", "zero.json", "--resume", "/nowhere", "--cpu")
