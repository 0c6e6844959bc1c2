"""IG-LLM (arXiv 2404.15228): are the numbers of scene programs better said by value than digit by digit, or
in bins, and does that carry over to places that training never showed?"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from unified.eval.lab.arms import output
from unified.eval.lab.experiment import (
    Criterion,
    Experiment,
    Numbers,
    Results,
    Trial,
    at_least,
    at_most,
    not_applicable,
)
from unified.eval.lab.ground import reading, streams
from unified.eval.lab.ground.bases import MOST_SIDE, Rows
from unified.eval.lab.ground.scenes import SIDE
from unified.eval.lab.ground.streams import Parts, Piece
from unified.eval.lab.ground.training import Course, train
from unified.eval.lab.sizes import Sizes
from unified.tasks.programs.program import PERIODS, WORDS, Part, Program
from unified.tasks.programs.program_task import ProgramConfig, compare, program
from unified.tasks.programs.render import render

from unified.decoding.grammar import Grammar, in_turn
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.heads.numbers import NumberHead, waves
from unified.model import UnifiedModel
from unified.stream.vocabulary import CONTINUOUS, Vocabulary

PARTS = 2  # of every picture
SHARE = 0.6  # of the base models' steps
VALUE_WEIGHT = 1.0
NUMBER = "number"  # the placeholder of values that are read again
NAMES = [name for names in WORDS.values() for name in names]
NUM = len(NAMES)  # the id in place of a number
FIRST = NUM + 1  # of digits or bins
BINS = {"64 bins": 64, "256 bins": 256}
GREEDY = Sampler(temperature=0)
CONFIG = ProgramConfig(size=SIDE, least=PARTS, most=PARTS, held_out="stripe")
SCORES = ("attributes", "shape", "colour", "size", "position", "angle", "iou")
LEAST = 0.5  # of words right, below which pictures are not read


# Ways to write numbers --------------------------------------------------------------------------------------


class Way(Protocol):
    """How the numbers of a part are written: ids after its three words."""

    @property
    def base(self) -> int:
        """Ids that it needs from FIRST on."""
        ...

    def slots(self) -> list[range]:
        """The ids that may stand in each place."""
        ...

    def write(self, part: Part) -> list[int]: ...

    def read(self, ids: list[int]) -> tuple[float, float, float]:
        """x, y and angle in units of the period."""
        ...


class Digits:
    """Hundredths of x, y and of the period, two digits each."""

    base = 10

    def slots(self) -> list[range]:
        return [range(FIRST, FIRST + 10)] * 6

    def write(self, part: Part) -> list[int]:
        hundredths = [min(99, round(100 * value)) for value in numbers(part)]
        return [FIRST + digit for n in hundredths for digit in divmod(n, 10)]

    def read(self, ids: list[int]) -> tuple[float, float, float]:
        digits = [n - FIRST for n in ids]
        x, y, angle = ((10 * digits[k] + digits[k + 1]) / 100 for k in (0, 2, 4))
        return x, y, angle


@dataclass(frozen=True)
class Uniform:
    """One of `base` equal bins for each, read as its middle."""

    base: int

    def slots(self) -> list[range]:
        return [range(FIRST, FIRST + self.base)] * 3

    def write(self, part: Part) -> list[int]:
        return [FIRST + min(self.base - 1, int(value * self.base)) for value in numbers(part)]

    def read(self, ids: list[int]) -> tuple[float, float, float]:
        x, y, angle = ((n - FIRST + 0.5) / self.base for n in ids)
        return x, y, angle


WAYS: dict[str, Way] = {"digits": Digits(), **{name: Uniform(count) for name, count in BINS.items()}}


def numbers(part: Part) -> tuple[float, float, float]:
    """x, y and the angle in units of its shape's period, each from 0 to 1."""
    return part.x, part.y, part.angle / PERIODS[part.shape]


def to_values(part: Part) -> list[float]:
    """As a numeric head says them: x and y about [-1, 1], cosine and sine of the angle."""
    x, y, angle = numbers(part)
    turn = 2 * np.pi * angle
    return [2.5 * (x - 0.5), 2.5 * (y - 0.5), float(np.cos(turn)), float(np.sin(turn))]


def from_values(values: list[float]) -> tuple[float, float, float]:
    x, y = (min(1.0, max(0.0, value / 2.5 + 0.5)) for value in values[:2])
    return x, y, float(np.arctan2(values[3], values[2]) / (2 * np.pi) % 1)


VALUES = 4


def made(words: list[int], given: tuple[float, float, float]) -> Part | None:
    """A part from the ids of its words; None if these are no shape, colour and size in turn."""
    names = [NAMES[n] if n < NUM else "" for n in words]
    if any(name not in known for name, known in zip(names, WORDS.values(), strict=True)):
        return None
    x, y, angle = given
    turned = min(angle * PERIODS[names[0]], 359.999)
    return Part(shape=names[0], colour=names[1], size=names[2], x=x, y=y, angle=turned)


# Models -----------------------------------------------------------------------------------------------------


def vocabulary(base: int = 0) -> Vocabulary:
    return Vocabulary(
        text=FIRST + base,
        visual=2,
        action=0,
        max_side=MOST_SIDE,
        orders=(streams.ORDER,),
        appended=(CONTINUOUS, f"{CONTINUOUS}:{NUMBER}"),
    )


class Reader(nn.Module):
    """A model that reads pictures, and a head that says values."""

    def __init__(self, sizes: Sizes, words: Vocabulary, seed: int) -> None:
        super().__init__()
        wide = waves(torch.zeros(1)).shape[-1]
        readers = {
            CONTINUOUS: {"kind": "linear", "width": reading.CHANNELS},
            NUMBER: {"kind": "linear", "width": wide},
        }
        self.model: UnifiedModel = streams.small_model(sizes, words, seed, readers)
        self.head = NumberHead(self.model.width)


def asked(words: Vocabulary, count: int) -> Parts:
    picture = words.read_ids([words.placeholder(CONTINUOUS)] * reading.CELLS**2, reading.SHAPES)
    return ("ask", Piece("raw", torch.tensor(picture).expand(count, -1)), "answer")


def as_ids(programs: list[Program], part: int) -> Tensor:
    """[B, 3]: the words of part number `part`."""
    return torch.tensor([[NAMES.index(name) for name in one[part].words] for one in programs])


def shown_number(words: Vocabulary) -> list[int]:
    return [words.read, words.placeholder(NUMBER), words.close]


def written(words: Vocabulary, programs: list[Program], way: Way | None, feedback: bool) -> Parts:
    """The answer of training rows; `way` None: [NUM] ids."""
    found: list[Piece | str] = []
    count = len(programs)
    for n in range(PARTS):
        found.append(Piece("text", as_ids(programs, n), scored=True))
        if way is not None:
            found.append(Piece("text", torch.tensor([way.write(one[n]) for one in programs]), scored=True))
            continue
        for _ in range(VALUES):
            found.append(Piece("text", torch.full((count, 1), NUM), scored=True))
            if feedback:
                found.append(Piece("raw", torch.tensor(shown_number(words)).expand(count, -1)))
    return (*found, "close")


def values_of(programs: list[Program]) -> Tensor:
    """[B, PARTS * 4]."""
    return torch.tensor([[v for part in one for v in to_values(part)] for one in programs])


@dataclass(frozen=True)
class Data:
    """`programs`, and the patches [N, 64, 49] of their pictures."""

    programs: list[Program]
    patches: Tensor


def data_of(split: str, first: int, count: int) -> Data:
    programs = [program(CONFIG, first + n, split) for n in range(count)]
    return Data(programs, reading.patches(np.stack([render(one, SIDE) for one in programs])))


def taught(trial: Trial, way: Way | None, feedback: bool, data: Data, what: str) -> Reader:
    """Train one way to write numbers, by cross-entropy and, with [NUM], the squared error of its values."""
    sizes, words = trial.ground.sizes, vocabulary(way.base if way else 0)
    reader, batch = Reader(sizes, words, trial.seed), sizes.batch

    def loss(step: int) -> Tensor:
        chosen = streams.drawn_rows(trial.seed, step, len(data.programs), batch)
        programs = [data.programs[n] for n in chosen.tolist()]
        rows = streams.joined(words, (*asked(words, batch), *written(words, programs, way, feedback)))
        true = values_of(programs)
        found = output(reader.model, rows, values=given(data.patches[chosen], true, feedback))
        assert found.loss is not None
        if way is not None:
            return found.loss
        assert found.hidden_states is not None
        states = at_numbers(rows, states_of(found.hidden_states))
        return found.loss + VALUE_WEIGHT * reader.head.loss(states, true[..., None]).mean()

    course = Course(steps=sizes.steps(SHARE), what=f"{what}, seed {trial.seed}")
    train(reader, loss, course, trial.work)
    return reader.eval()


def given(patches: Tensor, true: Tensor, feedback: bool) -> dict[str, Tensor]:
    """What stands at the placeholders of a batch."""
    found = {CONTINUOUS: patches.flatten(0, 1)}
    return {**found, NUMBER: waves(true.flatten())} if feedback else found


def states_of(found: Any) -> Tensor:
    """[B, T, D]."""
    return found if isinstance(found, Tensor) else found[0]


def at_numbers(rows: Rows, states: Tensor) -> Tensor:
    """[B, PARTS * 4, D]: the states at [NUM] ids."""
    return states[rows.ids == NUM].unflatten(0, (len(states), PARTS * VALUES))


# Writing programs -------------------------------------------------------------------------------------------


def word_slots() -> list[range]:
    starts = np.cumsum([0, *(len(names) for names in WORDS.values())]).tolist()
    return [range(a, b) for a, b in pairwise(starts)]


def opened(reader: Reader, patches: Tensor) -> Session:
    words = reader.model.vocabulary
    session = Session(reader.model, rows=len(patches))
    lines = streams.prompts(words, asked(words, len(patches)))
    session.feed(lines, values={CONTINUOUS: patches.flatten(0, 1)})
    return session


def say(session: Session, count: int, grammar: Grammar | None) -> Tensor:
    """[B, count] ids, greedily."""
    lines = list(session.text(sampler=GREEDY, max_tokens=count, draw=False, end=False, grammar=grammar))
    return torch.tensor(lines).T


def in_words(reader: Reader, way: Way, patches: Tensor, free: bool) -> list[Program | None]:
    """Programs written with digits or bins; `free`: without the grammar. None for what is no program."""
    slots = [*word_slots(), *way.slots()] * PARTS
    said = say(opened(reader, patches), len(slots), None if free else in_turn(slots))
    size, found = len(slots) // PARTS, []
    for line in said.tolist():
        good = all(token in slot for token, slot in zip(line, slots, strict=True))
        parts = [line[k : k + size] for k in range(0, len(line), size)]
        found.append(_whole([made(p[:3], way.read(p[3:])) for p in parts]) if good else None)
    return found


def said_by_value(reader: Reader, patches: Tensor, feedback: bool) -> tuple[Tensor, Tensor]:
    """Ids of words [B, PARTS, 3] and values [B, PARTS, 4] that the head says at [NUM] ids; with `feedback`
    what follows reads them."""
    words, session = reader.model.vocabulary, opened(reader, patches)
    said: list[Tensor] = []
    values: list[Tensor] = []
    for _ in range(PARTS):
        said.append(say(session, 3, in_turn(word_slots())))
        for _ in range(VALUES):
            say(session, 1, in_turn([[NUM]]))
            session.read_pending()
            assert session.last is not None
            value = reader.head.distribution(session.last).mean[:, 0]
            values.append(value)
            if feedback:
                session.feed(shown_number(words), values={NUMBER: waves(value)})
    return torch.stack(said, dim=1), torch.stack(values, dim=1).unflatten(1, (PARTS, VALUES))


def by_value(reader: Reader, patches: Tensor, feedback: bool) -> list[Program | None]:
    """Programs whose numbers a head says."""
    both = (found.tolist() for found in said_by_value(reader, patches, feedback))
    return [
        _whole([made(names, from_values(values)) for names, values in zip(*parts, strict=True)])
        for parts in zip(*both, strict=True)
    ]


def _whole(parts: list[Part | None]) -> Program | None:
    kept = [part for part in parts if part is not None]
    return tuple(kept) if len(kept) == len(parts) else None


# Arms -------------------------------------------------------------------------------------------------------


def scored(found: list[Program | None], data: Data) -> Numbers:
    """Means of `compare`; what is no program counts as empty."""
    each = [compare(said or (), true) for said, true in zip(found, data.programs, strict=True)]
    means = {name: float(np.mean([one[name] for one in each])) for name in SCORES}
    return {**means, "valid": float(np.mean([one is not None for one in found]))}


def trial_data(trial: Trial) -> tuple[Data, dict[str, Data]]:
    sizes = trial.ground.sizes
    count = max(2, sizes.prompts)
    tests = {name: data_of(name, trial.seed * count, count) for name in ("test", "compositional")}
    return data_of("train", 0, max(4, sizes.scenes // 4)), tests


@torch.no_grad()
def tested(write: Any, tests: dict[str, Data], rows: int) -> Numbers:
    found: Numbers = {}
    for name, data in tests.items():
        programs = [one for part in data.patches.split(rows) for one in write(part)]
        found["stripe" if name == "compositional" else "inside"] = scored(programs, data)
    return found


def spelled(name: str, trial: Trial) -> Numbers:
    """Digits or bins; for digits without the grammar too."""
    data, tests = trial_data(trial)
    way, rows = WAYS[name], trial.ground.sizes.rows
    reader = taught(trial, way, False, data, name)
    found = tested(lambda part: in_words(reader, way, part, False), tests, rows)
    free = tested(lambda part: in_words(reader, way, part, True), {"test": tests["test"]}, rows)
    return {**found, "free": free["inside"], "ids": PARTS * (3 + len(way.slots()))}


def valued(feedback: bool, trial: Trial) -> Numbers:
    data, tests = trial_data(trial)
    reader = taught(trial, None, feedback, data, f"by value, feedback {feedback}")
    found = tested(lambda part: by_value(reader, part, feedback), tests, trial.ground.sizes.rows)
    return {**found, "ids": PARTS * (3 + VALUES)}


def judge(results: Results) -> list[Criterion]:
    def relative(other: str, place: str) -> list[float]:
        """The position error by value beside another way's."""
        ways = (results.values(arm, f"{place}/position") for arm in ("by value", other))
        return [a / max(b, 1e-9) for a, b in zip(*ways, strict=True)]

    what = "(1) position error by value beside that in digits"
    places = [(arm, place) for arm in results.found for place in ("inside", "stripe")]
    valid = [share for arm, place in places for share in results.values(arm, f"{place}/valid")]
    grammar = at_least("(4) share of programs written under the grammar that are valid", valid, 1.0)
    read = results.values("digits", "inside/attributes")
    if sum(read) / len(read) < LEAST:
        why = f"{100 * sum(read) / len(read):.0f} % of the words are right: pictures are not read"
        return [grammar, not_applicable(what, why, central=True)]
    words = results.difference("by value", "digits", "inside/attributes")
    return [
        at_most(what, relative("digits", "inside"), 0.9),
        at_most("(2) the same beside 64 bins", relative("64 bins", "inside"), 1.0),
        at_most("(3) beside digits, in the stripe that was held out", relative("digits", "stripe"), 1.0),
        grammar,
        at_least("(5) words right by value less those with digits, points", [100 * x for x in words], -3.0),
    ]


EXPERIMENT = Experiment(
    name="ig_llm",
    what="scene programs whose numbers are digits, bins, or said by a numeric head, read again or not",
    arms={
        **{name: partial(spelled, name) for name in WAYS},
        "by value": partial(valued, False),
        "by value, read again": partial(valued, True),
    },
    judge=judge,
    minutes=20,
    scaled="two parts in every picture of 32 x 32 pixels, read as patches by a linear reader; a model of an "
    "eighth of a base model's inner size for each way, 360 steps, so that digits are taught more ids than "
    "values; x from 0.6 to 0.8 held out, pairs of shape and colour are not; one size of training set; no "
    "mixture or flow head",
    shown=("inside/attributes", "inside/position", "inside/angle", "inside/iou", "stripe/position", "valid"),
)
