import json
import re
import subprocess
import sys
from dataclasses import fields

import numpy as np
import pytest
from unified.tasks.mazes import TASKS, Record, read_records, write_records
from unified.tasks.mazes.metrics import read_segments, score_text
from unified.tasks.mazes.records import INDEX, record_messages
from unified.tasks.mazes.trace import CLOSING
from unified.tasks.outside import Faults

FIELDS = ["input_text", "label_text", "input_img", "label_img", "label_actions", "rl_label_img", "total_step"]


def some(name, count=4, split="compositional"):
    return [TASKS[name]().sample(index, split) for index in range(count)]


def same(a, b):
    return all(
        x["type"] == y["type"] and np.array_equal(x[x["type"]], y[y["type"]])
        for x, y in zip(a, b, strict=True)
    )


@pytest.mark.parametrize("name", TASKS)
def test_records_give_the_conversation_back(name, tmp_path):
    chosen = some(name)
    assert write_records(chosen, tmp_path) == len(chosen)
    records = read_records(tmp_path)
    assert [field.name for field in fields(Record)] == FIELDS
    assert all(list(json.loads(line)) == FIELDS for line in (tmp_path / INDEX).read_text().splitlines())
    for sample, record in zip(chosen, records, strict=True):
        for before, after in zip(sample.messages, record_messages(record, tmp_path), strict=True):
            assert before["role"] == after["role"]
            assert same(before["content"], after["content"])
        assert record.label_actions == sample.meta["actions"]
        assert record.rl_label_img == record.label_img
        assert record.total_step == 0
        assert score_text(record.label_text, record.label_actions).accuracy == 1
        for path in record.input_img + record.label_img:
            assert re.search(r"size_(\d+)_(\d+)", path).groups() == tuple(map(str, sample.meta["size"]))


def test_one_record_per_image_continues_the_one_before(tmp_path):
    chosen = some("maze")
    count = write_records(chosen, tmp_path, per_image=True)
    assert count == sum(len(sample.meta["parts"]) for sample in chosen)
    records = iter(read_records(tmp_path))
    for sample in chosen:
        parts = [next(records) for _ in sample.meta["parts"]]
        for step, record in enumerate(parts):
            assert record.total_step == step
            assert len(record.label_img) == 1
            assert record.rl_label_img == [part.label_img[0] for part in parts[step:]]
            segments = read_segments(record.label_text)
            assert record.label_actions[: len(segments[0])] == segments[0]
            if step:
                assert record.input_text == parts[step - 1].input_text + parts[step - 1].label_text
                assert record.input_img == parts[step - 1].input_img + parts[step - 1].label_img
        assert parts[-1].label_text.endswith(CLOSING)
        assert parts[0].label_actions == sample.meta["actions"]


def test_the_command_writes_the_same_bytes_with_two_workers(tmp_path):
    contents = []
    for workers in ("1", "2"):
        folder = tmp_path / workers
        command = [sys.executable, "-m", "unified.tasks.mazes.write", "frozen_lake", str(folder)]
        options = ["--count", "20", "--split", "validation", "--workers", workers]
        done = subprocess.run(command + options, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("20 records")
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        contents.append({str(path.relative_to(folder)): path.read_bytes() for path in files})
    assert contents[0] == contents[1]


@pytest.mark.parametrize(
    "options", [["--count", "0"], ["--image-size", "20"], ["--seed", "-3"], ["--split", "dev"]]
)
def test_the_command_refuses_bad_options_and_writes_nothing(options, tmp_path):
    command = [sys.executable, "-m", "unified.tasks.mazes.write", "maze", str(tmp_path / "new")]
    done = subprocess.run(command + options, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_existing_records_are_kept(tmp_path):
    write_records(some("maze", 1), tmp_path)
    before = (tmp_path / INDEX).read_bytes()
    with pytest.raises(FileExistsError, match="choose another folder"):
        write_records(some("maze", 2), tmp_path)
    assert (tmp_path / INDEX).read_bytes() == before


def test_a_failed_write_leaves_no_index(tmp_path):
    good = some("maze", 1)[0]
    with pytest.raises(ValueError, match="lacks actions, parts, size"):
        write_records([good, type(good)(task="other", messages=[])], tmp_path / "a")
    with pytest.raises(ValueError, match="one question and one answer"):
        write_records([type(good)(task="maze", messages=[], meta=good.meta)], tmp_path / "b")
    with pytest.raises(ValueError, match="no samples"):
        write_records([], tmp_path / "c")
    with pytest.raises(ValueError, match="no state image"):
        write_records(some("maze_text", 1), tmp_path / "d", per_image=True)
    assert not list(tmp_path.glob(f"*/{INDEX}*"))


def test_malformed_records_are_refused_with_their_line(tmp_path):
    with pytest.raises(ValueError, match="cannot read"):
        read_records(tmp_path)
    write_records(some("maze", 2), tmp_path)
    first, second = (tmp_path / INDEX).read_text().splitlines()
    data = json.loads(second)
    spoiled = {
        "not JSON": second[:-5],
        "a record has the fields": json.dumps({"input_text": data["input_text"]}),
        "field total_step": json.dumps({**data, "total_step": "0"}),
        "field label_actions": json.dumps({**data, "label_actions": [["go forward"]]}),
        "field input_text": json.dumps({**data, "input_text": None}),
        "input_text has 1 <image> but input_img names 0": json.dumps({**data, "input_img": []}),
        "image nowhere.png is missing": json.dumps({**data, "input_img": ["nowhere.png"]}),
    }
    for message, line in spoiled.items():
        (tmp_path / INDEX).write_text(f"{first}\n{line}\n")
        with pytest.raises(ValueError, match=f"line 2: .*{message}") as caught:
            read_records(tmp_path)
        assert "\n" not in str(caught.value)


def test_bad_records_can_be_left_out_and_further_fields_are_told_once(tmp_path):
    write_records(some("maze", 2), tmp_path)
    good = (tmp_path / INDEX).read_text().splitlines()
    more = json.dumps({**json.loads(good[1]), "id": 7})
    (tmp_path / INDEX).write_bytes("\n".join([good[0], "[" * 5000, more, '"\\ud83d"']).encode() + b"\n\xff\n")
    faults = Faults("skip")
    with pytest.warns(UserWarning, match=r"left out: .* line 2: nested more .* and 2 more") as told:
        records = read_records(tmp_path, faults)
    assert len(records) == 2
    assert len(faults.lines) == 3
    assert [str(warning.message) for warning in told][1:] == ["records.jsonl: keys that are not used: 'id'"]
