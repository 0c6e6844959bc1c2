"""The whole suite on a tiny random model, through the verbs and the chat."""

import json
from dataclasses import replace

import numpy as np
import pytest
from unified.eval.measurement import Run, plain
from unified.eval.report import write_report
from unified.eval.suites.ood import ood
from unified.eval.suites.ood.asking import Case, Talk, reply_to
from unified.eval.suites.ood.suite import KINDS, SKETCHES

from unified.apps import drawing as drawing_module
from unified.apps import solving
from unified.apps.assistant import Assistant
from unified.apps.commands import chat as chat_command
from unified.apps.demo import random_model

SETTINGS = {
    "DRAWING": (drawing_module, chat_command),
    "EDITING": (drawing_module, chat_command),
    "SOLVING": (solving,),
}


class Brief(Assistant):
    """A random model does not stop talking: it is stopped early."""

    def ask(self, question, image=None, **options):
        return super().ask(question, image, look=False, max_tokens=6)

    def chat(self, **options):
        return super().chat(max_tokens=6)


@pytest.fixture
def assistant(monkeypatch):
    for name, users in SETTINGS.items():
        short = replace(getattr(users[0], name), max_tokens=6)
        for user in users:
            monkeypatch.setattr(user, name, short)
    return Brief(*random_model(), side=32)


def test_the_suite_runs_is_repeatable_and_reports_what_failed(assistant, tmp_path, monkeypatch):
    run = Run(assistant=assistant, count=8)
    result = ood(run)
    numbers = plain(result.numbers)
    assert set(numbers["by_kind"]) == {*KINDS, SKETCHES}
    assert all(numbers["by_kind"][name]["trials"] == 1 for name in KINDS)
    assert not any(goal.reached for goal in result.goals)
    write_report(tmp_path, {}, {"ood": result})
    assert "| wanted" in (tmp_path / "report.md").read_text()
    assert json.loads((tmp_path / "report.json").read_text())["suites"]["ood"]["numbers"] == numbers
    assert (tmp_path / "ood.png").exists()
    again = {name: KINDS[name] for name in ("questions", "drawings, 1 object", "small talk")}
    monkeypatch.setitem(ood.__globals__, "KINDS", again)
    assert all(
        numbers["by_kind"][name] == found
        for name, found in plain(ood(run).numbers)["by_kind"].items()
        if name in again
    )


@pytest.mark.slow
def test_the_chat_is_typed_as_a_user_does(assistant, tmp_path):
    picture = np.full((48, 64, 3), 200, np.uint8)
    asked = {"kind": "", "right": bool, "picture": picture}
    drawn = reply_to(
        assistant, Case(words="a star", verb="draw", channel="command", **asked | {"picture": None}), tmp_path
    )
    assert len(drawn.pictures) == 1
    edited = reply_to(assistant, Case(words="no star", verb="edit", channel="command", **asked), tmp_path)
    assert [image.shape for image in edited.pictures] == [(24, 32, 3)]
    said = reply_to(
        assistant, Case(words="Hi", verb="ask", channel="chat", earlier=("Ho",), **asked), tmp_path
    )
    assert "pixels, seen at" not in said.text
    talk = Talk(assistant, tmp_path)
    assert talk.say("/edit it").text == "", "an error is no answer"
