"""The bench of the server on a tiny model for a moment, and what it counts."""

import pytest

pytest.importorskip("fastapi", reason="the server's packages are not installed")

from unified.eval.bench import machine, serving
from unified.eval.bench.serving import Load, lines, main, measure

from unified.apps.demo import random_model
from unified.pretrained import save_model


def test_answers_other_than_given_and_put_off_are_counted_and_growth_is_that_of_the_late_time():
    load = Load(memory=[100.0, 180.0, 200.0, 200.0, 200.0, 200.0, 230.0, 230.0])
    load.statuses.update({200: 5, 429: 2, 500: 1, 504: 3})
    assert load.others == 4
    assert load.growth == 30.0


def test_a_busy_machine_is_refused_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr(machine, "busy_cores", lambda seconds: 1.5)
    assert main([]) == 0
    assert capsys.readouterr().out == (
        "not measured: other programs use 1.5 cores of this machine: measure when it is idle, or --force\n"
    )


def test_idle_cores_are_counted_from_what_the_system_says(monkeypatch):
    told = iter([10.0, 13.0])
    monkeypatch.setattr(machine, "_busy_seconds", lambda: next(told))
    monkeypatch.setattr(machine.time, "sleep", lambda seconds: None)
    assert machine.busy_cores(2.0) == 1.5
    monkeypatch.setattr(machine, "_busy_seconds", lambda: None)
    machine.check_idle()


@pytest.mark.slow
def test_a_server_of_a_tiny_model_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(serving, "WORDS", 4)
    monkeypatch.setattr(serving, "CHATS", 4)
    save_model(tmp_path / "tiny", *random_model())
    measured = measure(str(tmp_path / "tiny"), clients=6, seconds=3.0)
    assert measured["others"] == 0, measured["failures"]
    assert measured["alive_at_the_end"]
    assert set(measured["statuses"]) <= {"200", "201", "429"}
    assert sum(measured["requests"].values()) >= 6
    assert measured["concurrent_ratio"] > 0
    assert len(lines(measured)) == 4
