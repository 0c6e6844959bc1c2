"""Comparison with another checkout: whose code is measured, in which order, and what is marked."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from unified.eval.bench import __main__ as command
from unified.eval.bench import rows
from unified.eval.bench.comparison import MEASURED, Checkout, Compared, compare, line, summary
from unified.eval.bench.images import Case
from unified.eval.bench.rows import Measurement, Row

CASE = """
import dataclasses

@dataclasses.dataclass
class Case:
    method: str
    batch: int
"""
MEASURE = """
import json, os, pathlib, sys
import unified.helper
root = pathlib.Path(unified.__file__).parents[1]
with open(os.environ["LOG"], "a") as log:
    log.write(root.name + " ")
if root.name == "old" and "break" in sys.argv:
    sys.exit("it broke")
print("words before")
print(json.dumps({"seconds": {old} if root.name == "old" else 3.0, "cwd": os.getcwd()}))
""".replace("{old}", "2.0")


def checkout(root: Path, **modules: str) -> Checkout:
    """A small checkout with those modules of the bench; it imports its sub-packages as ours does."""
    bench = root / "eval" / "bench"
    bench.mkdir(parents=True)
    (root / "unified").mkdir()
    (root / "pyproject.toml").write_text("")
    append = "import pathlib\n__path__.append(str(pathlib.Path(__file__).parents[1]))\n"
    (root / "unified" / "__init__.py").write_text(append)
    (root / "unified" / "helper.py").write_text("")
    (bench / "__init__.py").write_text("")
    for name, text in {"images": CASE, **modules}.items():
        (bench / f"{name}.py").write_text(text)
    return Checkout.at(root)


SECONDS = Row(name="one", seconds=lambda result: result["seconds"])
MEMORY = Row(name="process", megabytes=lambda result: result["process_peak_mb"])


@pytest.fixture
def log(tmp_path, monkeypatch):
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    return tmp_path / "log"


def measurement(*arguments: str, row_list=(SECONDS, MEMORY)) -> Measurement:
    return Measurement(module="verbs", arguments=arguments, rows=tuple(row_list))


def test_processes_alternate_and_each_measures_its_own_code(tmp_path, log):
    old, new = checkout(tmp_path / "old", verbs=MEASURE), checkout(tmp_path / "new", verbs=MEASURE)
    time, memory = compare([measurement("--json")], new, old, rounds=2)
    assert log.read_text().split() == ["old", "new", "old", "new"]
    assert (time.old_seconds, time.new_seconds, time.time_ratio) == (2.0, 3.0, 1.5)
    assert time.marks == ["time 1.50"]
    assert time.old_mb is None
    assert 1 < memory.old_mb < 100  # of the small process, not of this large one
    assert memory.time_ratio is None
    assert new.run(measurement())["cwd"] == str(tmp_path / "new")
    assert old.fields() == {"method", "batch"}


def test_what_one_checkout_lacks_or_cannot_run_is_said_and_not_counted(tmp_path, log):
    old, new = checkout(tmp_path / "old"), checkout(tmp_path / "new", verbs=MEASURE)
    time, _ = found = list(compare([measurement()], new, old, rounds=1))
    assert time.new_seconds is None  # nothing to compare it with
    assert time.note == f"not in {tmp_path / 'old'}"
    assert (
        summary(found)
        == "none of 0 rows more than 5 % slower or larger; 2 without a comparison: one, process"
    )
    (tmp_path / "old/eval/bench/verbs.py").write_text(MEASURE)
    time, _ = compare([measurement("break")], new, old, rounds=1)
    assert time.old_seconds is None
    assert time.note.endswith("it broke")
    lacking = Row(name="a later row", seconds=lambda result: result["nothing of that name"])
    (row,) = compare([measurement(row_list=[lacking])], new, old, rounds=1)
    assert row.time_ratio is None


def test_code_of_another_checkout_is_never_measured(tmp_path):
    checkout(tmp_path / "old")
    wanted = tmp_path / "wanted"
    wanted.mkdir()
    result = subprocess.run(
        [sys.executable, "-P", str(MEASURED), str(wanted), "fields"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "old")},
        check=False,
    )
    assert result.returncode == 1
    assert len(result.stderr.strip().splitlines()) == 1
    assert f"is not of the checkout {wanted}" in result.stderr


def test_marks_stand_only_above_the_limit():
    found = [
        Compared(name="a", old_seconds=1.0, new_seconds=1.04, old_mb=100, new_mb=107),
        Compared(name="b", old_seconds=1.0, new_seconds=1.05),
        Compared(name="c", old_seconds=1.0, new_seconds=1.2, old_mb=100, new_mb=90),
    ]
    assert [row.marks for row in found] == [["memory 1.07"], [], ["time 1.20"]]
    assert summary(found) == "2 of 3 rows more than 5 % slower or larger: a (memory 1.07), c (time 1.20)"
    assert "ABOVE: memory 1.07" in line(found[0])
    assert "1000.00 |   1040.00 |  1.04 |    100 |    107 |  1.07" in line(found[0])
    moved = Compared(name="crafter", yardstick=True, old_seconds=1.0, new_seconds=1.2)
    assert "other programs" in summary([moved])
    assert "other programs" not in summary(found)


def test_rows_are_chosen_by_name_and_cases_pass_only_known_fields():
    everything = rows.measurements(repeats=2, batches=[1, 4], seconds=1.0, fields={"method", "batch"})
    names = [row.name for one in everything for row in one.rows]
    assert len(names) == len(set(names))
    assert json.loads(everything[0].arguments[0]) == {"method": "published", "batch": 1}
    (voxel,) = rows.chosen(everything, "voxel 64x64")
    assert [row.name for row in voxel.rows] == ["voxel 64x64 frame"]
    assert rows.chosen(everything, None) == everything
    with pytest.raises(ValueError, match=r"contains 'vuxel'.*voxel 64x64 frame"):
        rows.chosen(everything, "vuxel")


def test_rates_are_read_as_times():
    found = rows.measurements(repeats=2, batches=[1], seconds=1.0, fields=set(Case.__dataclass_fields__))
    read = {row.name: row.seconds for one in found for row in one.rows}
    assert read["imagined frames"]({"imagined_frames": 4.0}) == 0.25
    assert read["first token"]({"first_token": 0.3}) == 0.3
    assert read["voxel 64x64 frame"]({"frames_per_second": {"voxel 64x64": 500.0}}) == 0.002
    assert read["layout of one generated token x64"]({"milliseconds": {"64": 2.0}}) == 0.002


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--against", "{nowhere}"], "is no checkout of this project"),
        (["--rounds", "0"], "--rounds must be at least 1"),
    ],
)
def test_what_cannot_be_compared_is_one_line(tmp_path, capsys, arguments, said):
    with pytest.raises(SystemExit) as ended:
        command.main([argument.format(nowhere=tmp_path) for argument in arguments])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err.strip().splitlines()[-1]


def test_the_command_writes_json_and_a_table(tmp_path, log, monkeypatch, capsys):
    old, new = checkout(tmp_path / "old", verbs=MEASURE), checkout(tmp_path / "new", verbs=MEASURE)
    monkeypatch.setattr(command, "ROOT", new.root)
    monkeypatch.setattr(command.rows, "measurements", lambda **_: [measurement()])
    output = tmp_path / "out" / "report.json"
    arguments = ["--against", str(old.root), "--rounds", "1", "--only", "one", "--output", str(output)]
    assert command.main(arguments) == 0
    report = json.loads(output.read_text())
    assert report["summary"] == "1 of 1 rows more than 5 % slower or larger: one (time 1.50)"
    assert [(row["name"], row["time_ratio"]) for row in report["rows"]] == [("one", 1.5)]
    assert report["summary"] in capsys.readouterr().out
    assert report["summary"] in output.with_suffix(".md").read_text()
