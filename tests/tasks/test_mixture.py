"""Which task makes which sample, and what a configuration file may hold."""

import json
from collections import Counter

import pytest
from unified.tasks.mixture import Mixture, MixtureConfig, Part, read_config
from unified.tasks.packing import digest
from unified.tasks.registry import make

PARTS = (
    Part(task="maze", weight=3),
    Part(task="small_talk"),
    Part(task="scene_question", options={"seed": 9}),
)


def test_shares_follow_the_weights_and_every_index_is_used_once():
    mixture = Mixture(MixtureConfig(parts=PARTS, size=5000))
    shares = Counter(mixture._choice.tolist())
    assert shares[0] / 5000 == pytest.approx(0.6, abs=0.03)
    assert shares[1] / 5000 == pytest.approx(0.2, abs=0.03)
    for part, count in shares.items():
        assert mixture._index[mixture._choice == part].tolist() == list(range(count))


def test_a_longer_mixture_begins_with_the_shorter_one():
    short, long = (Mixture(MixtureConfig(parts=PARTS, size=size, shard=7)) for size in (20, 300))
    assert [digest(sample) for sample in short] == [digest(long[index]) for index in range(20)]
    assert len(list(short)) == len(short) == 20


def test_samples_are_those_of_the_tasks():
    mixture = Mixture(MixtureConfig(parts=PARTS, size=60, seed=4, split="test"))
    mine = [sample for sample in mixture if sample.task == "scene_question"]
    task = make("scene_question", seed=9)
    assert [digest(sample) for sample in mine] == [digest(task.sample(k, "test")) for k in range(len(mine))]
    talk = next(sample for sample in mixture if sample.task == "small_talk")
    assert digest(talk) == digest(make("small_talk", seed=4 + 1).sample(0, "test"))


def test_the_seed_changes_the_order():
    orders = [
        [sample.task for sample in Mixture(MixtureConfig(parts=PARTS, size=30, seed=s))] for s in (0, 1)
    ]
    assert orders[0] != orders[1]


def test_json_round_trip():
    config = MixtureConfig(parts=PARTS, size=3, seed=2, split="validation")
    again = MixtureConfig.from_json(json.loads(json.dumps(config.to_json())))
    assert again.fingerprint() == config.fingerprint()
    assert again.fingerprint() != MixtureConfig(parts=PARTS, size=4, seed=2).fingerprint()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sizes": 3}, "the configuration: unknown key 'sizes'"),
        ({"parts": []}, "parts is empty"),
        ({"parts": {}}, 'needs "parts", a list'),
        ({"parts": [{"weight": 2}]}, r'parts\[0\] needs "task"'),
        ({"parts": [{"task": "mase"}]}, r"parts\[0\]: unknown task 'mase'"),
        ({"parts": [{"task": "maze", "share": 2}]}, r"parts\[0\]: unknown key 'share'"),
        ({"parts": [{"task": "maze", "weight": 0}]}, r"parts\[0\]: weight must be a positive number, got 0"),
        ({"parts": [{"task": "maze", "weight": "2"}]}, "weight must be a positive number, got '2'"),
        ({"parts": [{"task": "maze", "weight": True}]}, "weight must be a positive number"),
        ({"parts": [{"task": "maze", "options": {"sise": 2}}]}, r"parts\[0\]: unknown option 'sise'"),
        ({"parts": [{"task": "maze", "options": [2]}]}, "options must be an object"),
        ({"parts": [{"task": "maze"}, {"task": "maze"}]}, "names 'maze' twice"),
        ({"parts": [{"task": "captions"}]}, "needs the option 'folder'"),
        ({"parts": ["maze"]}, r"parts\[0\] must be an object, got str"),
        ({"size": 0}, "size must be a whole number of at least 1, got 0"),
        ({"size": 2.5}, "size must be a whole number"),
        ({"seed": -1}, "seed must be a whole number of at least 0"),
        ({"shard": 0}, "shard must be"),
        ({"split": "dev"}, "unknown split 'dev'"),
        ({"format": "tokens"}, "unknown format 'tokens'"),
        ({"format": "ids"}, "needs a processor"),
        ({"processor": "a:b"}, '"messages" takes none'),
    ],
)
def test_bad_configurations_name_the_key_in_one_line(change, message, tmp_path):
    path = tmp_path / "mixture.json"
    path.write_text(json.dumps({"parts": [{"task": "maze"}], **change}))
    with pytest.raises(ValueError, match=message) as error:
        read_config(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ":1: not JSON"),
        ('{"parts": [\n  {"task": "maze",}\n]}', ":2: not JSON"),
        ('{"parts": [{"task": "maze", "weight": NaN}]}', "NaN is not a number"),
        ("[1]", "the configuration must be an object, got list"),
        (b"\xff\xfe", "UTF-8"),
    ],
)
def test_bad_files_are_refused_in_one_line(text, message, tmp_path):
    path = tmp_path / "mixture.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=message) as error:
        read_config(path)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"cannot be read .No such file"):
        read_config(tmp_path / "none.json")


def test_a_refused_option_names_its_part():
    config = MixtureConfig(parts=(Part(task="maze"), Part(task="maze", options={"image_size": -3})))
    with pytest.raises(ValueError, match=r"parts\[1\]: task 'maze'"):
        Mixture(config)


def test_indices_beyond_the_size_are_refused():
    with pytest.raises(IndexError):
        Mixture(MixtureConfig(parts=PARTS, size=5))[5]


def test_sizes_without_end_are_refused_before_memory_is_taken():
    with pytest.raises(ValueError, match="size must be at most"):
        MixtureConfig(parts=PARTS, size=10**30)
    with pytest.raises(ValueError, match="image size must be at most 4096"):
        make("maze", image_size=10**6)
