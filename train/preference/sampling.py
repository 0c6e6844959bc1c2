"""Replies of a model to the prompts of a task, as ids with their log-probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from unified.tasks.sample import Sample

from unified.apps.answering import GenerationSettings, Turn
from unified.decoding.guidance import Constant
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.orders.shapes import Shapes
from unified.stream.processor import Processor, frames

SPARE = 2  # times as many images and ids of text as the sample's own answer has


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How replies are drawn. At temperature 1 with `top_p` 0 and `guidance` 1 (off) they are samples of the
    model itself. `batch`: rows of a session. `max_tokens`: most ids of text in a reply."""

    temperature: float = 1.0
    top_p: float = 0.0
    guidance: float = 1.0
    batch: int = 16
    max_tokens: int = 256

    def __post_init__(self) -> None:
        Sampler(temperature=self.temperature, top_p=self.top_p)
        if self.batch < 1 or self.max_tokens < 1:
            raise ValueError(f"batch and max_tokens must be at least 1, got {self.batch}, {self.max_tokens}")


@dataclass(frozen=True)
class Reply:
    """`ids` of a reply after `prompt` ids, with the log-probability of each (NaN where it was not drawn), and
    its content items with pixels."""

    prompt: list[int]
    ids: list[int]
    log_probs: list[float]
    content: list[dict[str, Any]]


@dataclass(frozen=True)
class Kind:
    """What an answer is made of: `actions` alone, one image alone (`drawn`), or text with at most `images`;
    `shapes`: the maps of its images."""

    actions: int
    drawn: bool
    images: int
    shapes: Shapes


def kind_of(sample: Sample, processor: Processor) -> Kind:
    """What the sample's own answer is made of: replies are drawn to be of the same kind."""
    content = sample.messages[-1]["content"]
    types = [item["type"] for item in content]
    shapes: Shapes = ()
    if "image" in types:
        number = types.index("image")
        visual: Any = processor.visual
        if visual is None:
            raise ValueError(f"the task {sample.task} draws, the model has no visual tokenizer")
        height, width = content[number]["image"].shape[:2]
        grid = (height // visual.stride, width // visual.stride)
        shapes = processor.schedule(grid, frame=frames(sample.messages)[-1][number])
    return Kind(types.count("action"), types == ["image"], types.count("image"), shapes)


def replies(
    model: Any, processor: Processor, samples: Sequence[Sample], seeds: Sequence[int], sampling: Sampling
) -> list[Reply]:
    """One reply to each sample (which may be named several times), drawn with its own seed."""
    kinds = [kind_of(sample, processor) for sample in samples]
    found: dict[int, Reply] = {}
    for kind in dict.fromkeys(kinds):
        numbers = [n for n, other in enumerate(kinds) if other == kind]
        for start in range(0, len(numbers), sampling.batch):
            part = numbers[start : start + sampling.batch]
            drawn = _drawn(
                model, processor, [samples[n] for n in part], [seeds[n] for n in part], kind, sampling
            )
            found |= dict(zip(part, drawn, strict=True))
    return [found[number] for number in range(len(samples))]


def _drawn(
    model: Any,
    processor: Processor,
    samples: Sequence[Sample],
    seeds: Sequence[int],
    kind: Kind,
    sampling: Sampling,
) -> list[Reply]:
    prompts = [processor.encode(sample.messages[:-1], prompt=True) for sample in samples]
    session = Session(model, rows=len(samples), seed=seeds).record_log_probs()
    session.feed(prompts)
    if kind.actions:
        stops = _act(session, processor, kind.actions, sampling)
    else:
        turn = Turn(session, processor, kind.shapes, _settings(kind, sampling))
        for _ in turn.events():
            pass
        stops = turn.stops
    words, streams, log_probs = session.vocabulary, session.streams, session.log_probs
    made = []
    for prompt, stream, noted, stop in zip(prompts, streams, log_probs, stops, strict=True):
        ids = stream[len(prompt) : stop]
        content = processor.decode([words.begin, words.assistant, *ids])[0]["content"]
        made.append(Reply(prompt, ids, noted[len(prompt) : stop], content))
    return made


def _act(session: Session, processor: Processor, count: int, sampling: Sampling) -> list[int]:
    """Actions alone; returns where the replies end."""
    for _ in range(count):
        session.action(sampler=_sampler(sampling), choices=processor.action_choices)
    session.feed([session.vocabulary.end], defer=True)
    return [len(row.stream) for row in session.rows]


def _sampler(sampling: Sampling) -> Sampler:
    return Sampler(temperature=sampling.temperature, top_p=sampling.top_p)


def _settings(kind: Kind, sampling: Sampling) -> GenerationSettings:
    return GenerationSettings(
        text_sampler=_sampler(sampling),
        image_sampler=_sampler(sampling),
        guidance=Constant(sampling.guidance) if sampling.guidance != 1 else None,
        max_tokens=sampling.max_tokens,
        max_images=SPARE * kind.images,
        allow_images=kind.images > 0,
        image_only=kind.drawn,
        require_image=kind.images > 0 and not kind.drawn,
    )
