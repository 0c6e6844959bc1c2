"""What is measured, by name. A suite is a function from a `Run` to a `Result`."""

from collections.abc import Callable

from unified.eval.measurement import Result, Run
from unified.eval.suites.drawing import drawing
from unified.eval.suites.editing import editing
from unified.eval.suites.mazes import mazes
from unified.eval.suites.ood import ood
from unified.eval.suites.questions import questions
from unified.eval.suites.tokenizer import tokenizer
from unified.eval.suites.vtbench import vtbench
from unified.eval.suites.world import world

SUITES: dict[str, Callable[[Run], Result]] = {
    "tokenizer": tokenizer,
    "vtbench": vtbench,
    "questions": questions,
    "drawing": drawing,
    "editing": editing,
    "mazes": mazes,
    "world": world,
    "ood": ood,
}

__all__ = ["SUITES"]
