"""RAG-IGBench (arXiv 2512.05119): do its scores move when an answer of text and pictures is spoilt, does
teaching raise them, and do answers rest on the pages that were found?"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count as numbers

import numpy as np
import torch
from torch import Tensor
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
from unified.eval.lab.ground import streams
from unified.eval.lab.ground.bases import MOST_SIDE
from unified.eval.lab.ground.streams import Parts, Piece
from unified.eval.lab.ground.tokenizers import STRIDE, as_images
from unified.eval.lab.ground.training import Course, train
from unified.eval.lab.sizes import Sizes
from unified.eval.metrics.interleaved import SCORES, Embedders, Settings, averages, score_output
from unified.tasks.encyclopedia.answer_task import EncyclopediaConfig, Query, markdown, query
from unified.tasks.encyclopedia.pages import ORDINALS, STARTS, SYLLABLES, described
from unified.tasks.scenes.scene import COLOURS, SHAPES

from unified.decoding.grammar import Grammar, repeated
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.model import UnifiedModel
from unified.stream.vocabulary import CONTINUOUS, Vocabulary

SIDE = 16  # pixels of a picture
GRID = ((SIDE // STRIDE, SIDE // STRIDE),)
CHANNELS = 3 * STRIDE * STRIDE + 1
SHARE = 1.0  # of the base models' steps
DOCUMENTS = (2, 3, 5)  # that are found for a question, of two pictures each
STEPS = 2
MOST = max(DOCUMENTS) * STEPS  # candidates
KINDS = ("how-to", "what-is", "head-to-head")
WORDS = ("nothing", *KINDS, *SYLLABLES, *ORDINALS, *COLOURS, *SHAPES, *(f"IMG#{k + 1}" for k in range(MOST)))
NUMBER = {word: n for n, word in enumerate(WORDS)}
GREEDY = Sampler(temperature=0)
SETTINGS = Settings(context=30, clip=30, align_limits=(0.0, 1.0), clip_limits=(0.0, 1.0))
LEAST = 0.02  # that a score falls where its own fault is put in
Spoil = Callable[[Query], str]


def config(documents: int) -> EncyclopediaConfig:
    return EncyclopediaConfig(size=SIDE, documents=documents, steps=(STEPS,), unseen_steps=(STEPS + 1,))


# Scores without pretrained embedders ------------------------------------------------------------------------


def attributes(text: str) -> np.ndarray:
    """Colours and shapes that are named, and a constant."""
    words = set(text.replace(".", " ").replace('"', " ").split())
    return np.array([0.1, *(float(word in words) for word in (*COLOURS, *SHAPES))])


def embedders(found: Query) -> Embedders:
    """What words and pictures have in common here is colour and shape, so these are the vectors."""
    return Embedders(
        words=str.split,
        text=attributes,
        image=lambda number: attributes(" ".join(found.pictures[number].part)),
        clip_text=attributes,
    )


def scored(outputs: Sequence[str], queries: Sequence[Query]) -> Numbers:
    """The five scores, their means, and the share of answers by status. All 0 where nothing could be
    scored."""
    found = [
        score_output(text, markdown(one), len(one.pictures), embedders(one), SETTINGS)
        for text, one in zip(outputs, queries, strict=True)
    ]
    shares = {name: float(np.mean([one.status == name for one in found])) for name in
              ("scored", "invalid_format", "hallucination", "error")}  # fmt: skip
    right = np.mean([text == wrapped(markdown(one)) for text, one in zip(outputs, queries, strict=True)])
    if not shares["scored"]:
        return {**dict.fromkeys((*SCORES, "paper", "of_all"), 0.0), **shares, "exact": float(right)}
    mean = averages(found)
    return {**mean.scores, "paper": mean.paper, "of_all": mean.of_all, **shares, "exact": float(right)}


# Faults that each score is there to see ---------------------------------------------------------------------


def wrapped(answer: str) -> str:
    return json.dumps({"answer": answer})


def told(found: Query, said: Sequence[str], images: Sequence[int]) -> str:
    """Sentences, each with a picture; pictures beyond the sentences stand at the end."""
    captions = [described(found.pictures[k - 1].part) for k in images]
    tags = [f"![{caption}](IMG#{k})" for caption, k in zip(captions, images, strict=True)]
    count = max(len(said), len(tags))
    pieces = [part for n in range(count) for part in (*said[n : n + 1], *tags[n : n + 1])]
    return wrapped(" ".join(pieces))


def parts(found: Query) -> tuple[list[str], list[int]]:
    return [sentence for sentence, _ in found.answer], [k for _, k in found.answer]


def other_picture(found: Query) -> int:
    """The first candidate that the reference does not show and that shows another part."""
    shown = {k for _, k in found.answer}
    return next(k for k in numbers(1) if k not in shown)


def out_of_order(found: Query) -> str:
    said, images = parts(found)
    return told(found, said, images[::-1])


def one_missing(found: Query) -> str:
    said, images = parts(found)
    return told(found, said, images[:-1])


def one_too_many(found: Query) -> str:
    said, images = parts(found)
    return told(found, said, [*images, other_picture(found)])


def other_words(found: Query) -> str:
    """Sentences about other parts beside the right pictures."""
    said, images = parts(found)
    wrong = described(found.pictures[other_picture(found) - 1].part)
    kept = [sentence.split(" a ")[0].split(" an ")[0] + f" {wrong}." for sentence in said]
    return told(found, kept, images)


FAULTS: dict[str, tuple[Spoil, tuple[str, ...]]] = {
    "out of order": (out_of_order, ("edit_distance", "kendall_score")),
    "one missing": (one_missing, ("edit_distance",)),
    "one too many": (one_too_many, ("edit_distance", "kendall_score")),
    "other words": (other_words, ("rouge1_score", "alignment_score", "clip_score")),
}


def sensitivity(trial: Trial) -> Numbers:
    """How far each score falls under each fault, on references with two pictures."""
    few = max(4, trial.ground.sizes.prompts)
    found: list[Query] = []
    for index in numbers(trial.seed * 10 * few):
        one = query(config(3), index, "test")
        found += [one] if len(one.answer) > 1 else []
        if len(found) == few:
            break
    right = scored([wrapped(markdown(one)) for one in found], found)
    falls: Numbers = {"reference": right}
    for name, (spoil, _) in FAULTS.items():
        spoilt = scored([spoil(one) for one in found], found)
        falls[name] = {score: right[score] - spoilt[score] for score in SCORES}
    return falls


# A model that answers ---------------------------------------------------------------------------------------


def vocabulary() -> Vocabulary:
    return Vocabulary(
        text=len(WORDS),
        visual=2,
        action=0,
        max_side=MOST_SIDE,
        orders=(streams.ORDER,),
        appended=(CONTINUOUS,),
    )


def new_model(sizes: Sizes, seed: int) -> UnifiedModel:
    readers = {CONTINUOUS: {"kind": "linear", "width": CHANNELS}}
    return streams.small_model(sizes, vocabulary(), seed, readers)


def syllables(name: str) -> list[int]:
    """Three of two letters each."""
    low = name.lower()
    return [NUMBER[low[k : k + 2]] for k in (0, 2, 4)]


def asked_words(one: Query) -> list[int]:
    """[8]: the kind, the ordinal, the names that are asked about."""
    words = one.question.replace("?", "").replace(".", "").split()
    ordinal = next((word for word in words if word in ORDINALS), "nothing")
    names = [word for word in words if any(page.name == word for page in one.documents)]
    asked = [n for name in names for n in syllables(name)]
    return [NUMBER[one.kind], NUMBER[ordinal], *asked, *[0] * (6 - len(asked))]


def answer_words(one: Query) -> list[int]:
    """[3 n]: colour, shape and picture of every sentence."""
    found = []
    for _, k in one.answer:
        colour, shape = one.pictures[k - 1].part
        found += [NUMBER[colour], NUMBER[shape], NUMBER[f"IMG#{k}"]]
    return found


def shown(queries: Sequence[Query], documents: Sequence[Query]) -> tuple[Parts, Tensor]:
    """The prompt: the pages of `documents`, the questions of `queries`; and the patches [N, 49] of all
    pictures, row by row."""
    words = vocabulary()
    picture = words.read_ids([words.placeholder(CONTINUOUS)] * (GRID[0][0] * GRID[0][1]), GRID)
    found: list[Piece | str] = ["ask"]
    rows = len(queries)
    for n in range(len(documents[0].documents)):
        found.append(Piece("text", torch.tensor([syllables(one.documents[n].name) for one in documents])))
        for step in range(STEPS):
            told_ = [[NUMBER[f"IMG#{n * STEPS + step + 1}"], *map(NUMBER.get, one.documents[n].steps[step])]
                     for one in documents]  # fmt: skip
            found.append(Piece("text", torch.tensor(told_)))
            found.append(Piece("raw", torch.tensor(picture).expand(rows, -1)))
    found += [Piece("text", torch.tensor([asked_words(one) for one in queries])), "answer"]
    pictures = np.stack([one.pixels(SIDE) for query_ in documents for one in query_.pictures])
    return found, patches(pictures)


def patches(pictures: np.ndarray) -> Tensor:
    """uint8 [N, 16, 16, 3] -> [N * 16, 49]."""
    found = torch.nn.functional.unfold(as_images(pictures), STRIDE, stride=STRIDE).transpose(1, 2)
    return torch.cat([found, torch.ones_like(found[..., :1])], dim=-1).flatten(0, 1)


@dataclass(frozen=True)
class Questions:
    """By number of documents and of sentences in the answer, queries."""

    found: dict[tuple[int, int], list[Query]]

    @staticmethod
    def of(split: str, first: int, count: int) -> Questions:
        kept: dict[tuple[int, int], list[Query]] = {}
        for documents in DOCUMENTS:
            for n in range(count):
                one = query(config(documents), first + n, split)
                kept.setdefault((documents, len(one.answer)), []).append(one)
        return Questions(kept)


def taught(trial: Trial, data: Questions) -> UnifiedModel:
    sizes, words = trial.ground.sizes, vocabulary()
    model, keys = new_model(sizes, trial.seed), sorted(data.found)

    def loss(step: int) -> Tensor:
        rng = np.random.default_rng([trial.seed, step])
        queries = data.found[keys[int(rng.integers(len(keys)))]]
        chosen = [queries[n] for n in rng.integers(len(queries), size=max(2, sizes.batch // 2))]
        prompt, vectors = shown(chosen, chosen)
        answer = Piece("text", torch.tensor([answer_words(one) for one in chosen]), scored=True)
        end = Piece("raw", torch.full((len(chosen), 1), words.end), scored=True)
        rows = streams.joined(words, (*prompt, answer, end))
        found = output(model, rows, values={CONTINUOUS: vectors}).loss
        assert found is not None
        return found

    course = Course(steps=sizes.steps(SHARE), what=f"answers, seed {trial.seed}")
    train(model, loss, course, trial.work)
    return model.eval()


def grammar(candidates: int) -> Grammar:
    """Sentences of a colour, a shape and one of the candidates, two at most."""
    first = NUMBER["IMG#1"]
    names = [[NUMBER[word] for word in group] for group in (COLOURS, SHAPES)]
    return repeated([*names, range(first, first + candidates)], 2, vocabulary().end)


@torch.no_grad()
def answered(
    model: UnifiedModel, queries: Sequence[Query], documents: Sequence[Query], free: bool = False
) -> list[str]:
    """Answers as text, greedily, to questions with the pages of `documents`; `free`: without the grammar."""
    prompt, vectors = shown(queries, documents)
    words = model.vocabulary
    session = Session(model, rows=len(queries))
    session.feed(streams.prompts(words, prompt), values={CONTINUOUS: vectors})
    bound = None if free else grammar(len(documents[0].pictures))
    lines = list(session.text(sampler=GREEDY, max_tokens=7, draw=False, grammar=bound))
    rows = [[line[n] for line in lines if line[n] not in (None, words.end)] for n in range(len(queries))]
    return [as_answer(row, one) for row, one in zip(rows, queries, strict=True)]  # type: ignore[arg-type]


def as_answer(said: Sequence[int], one: Query) -> str:
    """The answer that words stand for, sentences as the kind of question asks for them. Words that are no
    sentences are left as they are, which is no JSON."""
    names = [WORDS[n] if n < len(WORDS) else "?" for n in said]
    triples = [names[k : k + 3] for k in range(0, len(names), 3)]
    good = all(
        len(t) == 3 and t[0] in COLOURS and t[1] in SHAPES and t[2].startswith("IMG#") for t in triples
    )
    if not triples or not good:
        return " ".join(names)
    asked = [word.strip("?.") for word in one.question.split()]
    pages = [
        word for word in asked if word[:1].isupper() and word.lower()[:2] in SYLLABLES and len(word) == 6
    ]
    found = []
    for n, (colour, shape, image) in enumerate(triples):
        part = described((colour, shape))
        name = pages[min(n, len(pages) - 1)]
        how = f"{STARTS[min(n, len(STARTS) - 1)]} {part}."
        sentence = how if one.kind == "how-to" else f"The part of the {name} is {part}."
        found.append(f"{sentence} ![{part}]({image})")
    return wrapped(" ".join(found))


def everything(trial: Trial) -> Numbers:
    """Faults; then a model before and after training, with its pages, another question's, and no grammar."""
    sizes = trial.ground.sizes
    data = Questions.of("train", 0, max(8, sizes.scenes // 8))
    count = max(4, sizes.prompts // 2)
    test = Questions.of("test", trial.seed * count, count)
    found: Numbers = {"faults": sensitivity(trial)}
    models = {"untaught": new_model(sizes, trial.seed).eval(), "taught": taught(trial, data)}
    for documents in DOCUMENTS:
        queries = [one for key in sorted(test.found) if key[0] == documents for one in test.found[key]]
        others = [*queries[1:], queries[0]]
        arms = {
            "untaught": answered(models["untaught"], queries, queries),
            "taught": answered(models["taught"], queries, queries),
            "foreign pages": answered(models["taught"], queries, others),
            "no grammar": answered(models["taught"], queries, queries, free=True),
            "no grammar, untaught": answered(models["untaught"], queries, queries, free=True),
        }
        for name, outputs in arms.items():
            found.setdefault(name, {})[str(documents)] = scored(outputs, queries)
    return found


def judge(results: Results) -> list[Criterion]:
    def points(one: str, other: str) -> list[float]:
        """Mean over numbers of documents, by seed."""
        found = []
        for k in DOCUMENTS:
            both = (results.values("all", f"{arm}/{k}/of_all") for arm in (one, other))
            found.append([100 * (a - b) for a, b in zip(*both, strict=True)])
        return [sum(x) / len(x) for x in zip(*found, strict=True)]

    falls = []
    for fault, (_, names) in FAULTS.items():
        for score in names:
            fall = results.values("all", f"faults/{fault}/{score}")
            falls.append(at_least(f"(1) {score} falls: {fault}", fall, LEAST))
    bound = [v for k in DOCUMENTS for v in results.values("all", f"taught/{k}/scored")]
    legal = at_least("(2) share of answers under the grammar that can be scored", bound, 1.0)
    taught_ = points("taught", "untaught")
    what = "(3) mean of all samples after training less that before, points"
    few = [100 * v for v in results.values("all", f"taught/{DOCUMENTS[0]}/of_all")]
    many = [100 * v for v in results.values("all", f"taught/{DOCUMENTS[-1]}/of_all")]
    learnt = sum(taught_) / len(taught_)
    if learnt < 3:
        why = f"training raised the mean by {learnt:.1f} points: it answers nothing yet"
        return [*falls, legal, not_applicable(what, why)]
    return [
        *falls,
        legal,
        at_least(what, taught_, 3.0),
        at_least("(4) what pages of another question cost, points", points("taught", "foreign pages"), 5.0),
        at_most(
            "(5) mean with five pages less that with two, points",
            [b - a for a, b in zip(few, many, strict=True)],
            0.0,
        ),
    ]


EXPERIMENT = Experiment(
    name="rag_igbench",
    what="faults in answers of text and pictures, and a model that answers from pages that were found",
    arms={"all": everything},
    judge=judge,
    minutes=20,
    scaled="an encyclopedia of invented things with two pictures a page, 2, 3 or 5 pages a question; vectors "
    "of text and pictures are the colours and shapes that they name or show, with limits of their own, so "
    "that scores are not those of the paper; answers name pictures by index, there is no pointer head and no "
    "drawn picture; a model of an eighth of a base model's inner size, 600 steps",
    shown=("of_all", "exact", "scored", "hallucination"),
)
