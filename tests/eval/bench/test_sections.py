"""The parts of the bench: ratios of pairs, the page, and what `make bench` refuses and keeps."""

import json
import math
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from unified.eval.bench import __main__ as command
from unified.eval.bench import generation, growth, machine, sections, speculative, startup, text, training
from unified.eval.bench.interleaved import Ratio, interleaved
from unified.eval.bench.page import page, quoted
from unified.eval.bench.sections import SECTIONS, Section
from unified.eval.bench.table import goal, rows_of

from unified.apps.demo import random_model
from unified.decoding.strategies import PromptLookup

RATIO = {"ours": 1.0, "theirs": 2.0, "times": 2.0, "low": 1.9, "high": 2.2, "pairs": 7}
WHERE = {"processor": "P", "cores_seen": 2, "other_programs": 0.01}


def test_a_ratio_is_that_of_pairs_run_in_turn(monkeypatch):
    order: list[str] = []
    clock = [0.0]

    def work(name: str, *seconds: float):
        turns = iter(seconds)

        def run() -> None:
            order.append(name)
            clock[0] += next(turns)

        return run

    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    ours, theirs = work("ours", 9, 1, 2, 4, 1), work("theirs", 9, 2, 2, 12, 4)
    ratio = interleaved(ours, theirs, pairs=4)
    assert order == ["ours", "theirs", "theirs", "ours", "ours", "theirs", "theirs", "ours", "ours", "theirs"]
    assert (ratio.times, ratio.low, ratio.high) == (2.5, 1.75, 3.25)  # of 2, 1, 3 and 4
    assert (ratio.ours, ratio.theirs) == (1.5, 3.0)
    with pytest.raises(ValueError, match="at least 2 pairs"):
        interleaved(ours, theirs, pairs=1)


def test_a_missed_goal_is_said():
    assert goal(1.2, 1.3) == "(goal at least 1.3: MISSED)"
    assert goal(2.0, 3.0, most=True, unit=" s") == "(goal at most 3 s: reached)"
    assert rows_of(("a", "b"), [(1, 2)]) == ["| a | b |", "| --- | --- |", "| 1 | 2 |"]


def measured(**parts):
    return {
        name: {"measured": found, "commit": "abc", "machine": WHERE, "versions": {"torch": "2"}}
        for name, found in parts.items()
    }


def test_the_page_has_every_part_measured_or_not():
    row = {"method": "var", "dtype": "float32", "batch": 1, "transformer": RATIO, "whole": RATIO}
    report = measured(generation=[{**row, "our_mb": 90.0, "their_mb": 100.0}],
                      startup={"torch": 1.5, "ask": 6.0, "info": 0.5})  # fmt: skip
    found = page(report)
    for section in SECTIONS.values():
        assert f"## {section.title}\n" in found
    assert found.count("Not measured yet") == len(SECTIONS) - 2
    assert "2.00 times as fast (goal at least 1.3: reached)" in found
    assert "4.50 s above `import torch` (goal at most 3 s: MISSED)" in found
    assert generation.NOT_FAST in found
    assert quoted(report)[0].endswith(
        "2.00 (1.90 to 2.20) times as fast as the published way, 0.90 of its memory"
    )
    assert len(quoted(report)) == 2
    assert quoted({}) == []


def test_exponents_are_slopes_on_logarithmic_axes():
    points = [{"value": n, "seconds": 3.0 * n**1.5, "peak_mb": 7.0} for n in (1, 4, 8)]
    assert growth.exponents(points, "seconds") == pytest.approx([1.5, 1.5])
    assert growth.exponents(points, "peak_mb") == pytest.approx([0, 0])
    assert "steepest exponent of time 1.50 (goal at most 1.1: MISSED)" in "\n".join(
        growth.lines({"rows": points})
    )


def test_text_is_written_to_its_end_by_both_sides():
    sizes = {"width": 32, "layers": 1, "heads": 2, "kv_heads": 2, "mlp": 64}
    (row,) = text.measure([2], 3, 2, sizes)
    assert row["rows"] == 2
    assert row["cache"] in text.CACHES
    assert math.isfinite(Ratio(**row["ratio"]).times)
    assert text.lines([row])[0].startswith("| rows |")


def test_lines_of_training_tell_time_and_memory():
    row = {
        "method": "own",
        "dtype": "bfloat16",
        "batch": 4,
        "step": RATIO,
        "our_mb": 150.0,
        "their_mb": 100.0,
    }
    found = "\n".join(training.lines([row]))
    assert "2.00 times as fast (goal at least 1.3: reached)" in found
    assert "1.50 of the memory (goal at most 1: MISSED)" in found


@pytest.fixture
def small(monkeypatch):
    """Two parts that are quick, in place of the real ones."""
    counted: list[str] = []

    def measured(self: Section, name: str):
        counted.append(name)
        if name == "second" and counted.count(name) == 1:
            raise RuntimeError("it broke")
        return [name, counted.count(name)]

    monkeypatch.setattr(Section, "measured", measured)
    parts = {
        name: Section(title=name.title(), lines=lambda found: [f"- {found}"], minutes=1)
        for name in ("first", "second")
    }
    for module in (sections, sys.modules["unified.eval.bench.page"]):
        monkeypatch.setattr(module, "SECTIONS", parts)
    monkeypatch.setattr(machine, "busy_cores", lambda seconds=2.0: 0.0)
    return counted


def test_what_was_measured_is_kept_when_a_later_part_fails(small, tmp_path, capsys):
    output = tmp_path / "new" / "bench.json"
    assert command.main(["--output", str(output)]) == 1
    assert "it broke" in capsys.readouterr().err
    assert json.loads(output.read_text())["first"]["measured"] == ["first", 1]
    assert command.main(["--output", str(output), "--only", "second"]) == 0
    report = json.loads(output.read_text())
    assert (report["first"]["measured"], report["second"]["measured"]) == (["first", 1], ["second", 2])
    assert "- ['second', 2]" in (output.parent / "speed.md").read_text()


def test_a_busy_machine_and_unknown_parts_are_refused(small, tmp_path, capsys, monkeypatch):
    output = tmp_path / "bench.json"
    monkeypatch.setattr(machine, "busy_cores", lambda seconds=2.0: 1.5)
    assert command.main(["--output", str(output)]) == 2
    assert "other programs use 1.5 cores" in capsys.readouterr().err
    assert command.main(["--output", str(output), "--force", "--only", "first"]) == 0
    assert command.main(["--output", str(tmp_path / "a" / "b.json"), "--only", "third"]) == 2
    assert "unknown part 'third': choose from first, second" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


def test_startup_runs_the_commands_that_it_names(tmp_path):
    for name, words in startup.commands(tmp_path / "a.png").items():
        assert name in startup.NAMES
        assert words[0] == sys.executable
    found = subprocess.run(
        startup.commands(tmp_path / "a.png")["info"], capture_output=True, text=True, check=True
    )
    assert found.stdout


def test_speculative_answers_are_those_of_one_pass_a_token():
    model, processor = random_model()
    assistant = SimpleNamespace(model=model, processor=processor)
    (row,) = speculative.measure(assistant, 1, 2, {"PromptLookup": PromptLookup()}, ["small_talk"])
    assert 0 < row["passes"] <= row["plain_passes"]
    assert speculative.lines([row])[2].startswith("| small_talk | PromptLookup |")


def test_a_file_that_is_no_report_is_refused_before_anything_is_measured(small, tmp_path, capsys):
    other = tmp_path / "other.json"
    for held in ("[1]", "{nope", '{"a": 1}'):
        other.write_text(held)
        assert command.main(["--output", str(other)]) == 2
        assert f"{other} is no report of the bench" in capsys.readouterr().err
        assert other.read_text() == held
    assert command.main(["--output", str(tmp_path)]) == 2
    assert "is a folder" in capsys.readouterr().err
    assert small == []
