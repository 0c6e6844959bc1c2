"""Small talk and requests that the model cannot serve, answered politely: text alone.

The words of a request decide its split by hash, so no split asks what another has asked. The compositional
split joins openings and topics that are both common in training but never joined there. An answer is right if
it is one of the replies that fit the kind of request.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from unified.tasks import talk
from unified.tasks.grammar import expand
from unified.tasks.hand import typed
from unified.tasks.sample import Sample, check_split, generator, split_of

MOST_DRAWS = 10_000

HELLOS = ("", "", "", "Hello! ", "Hi there. ", "Good morning! ", "Good evening. ", "Hey! ")
OPENINGS = (*HELLOS, "Excuse me. ", "Quick question. ", "Sorry to bother you. ", "One request. ")
CLOSINGS = ("", "", "", " Thank you.", " Please.", " Thanks in advance!")

OUTSIDE = {
    "the news": (
        "What happened in {place} today?",
        "Tell me the latest news from {place}.",
        "Who won the election in {place}?",
    ),
    "the weather": (
        "What will the weather be in {place} tomorrow?",
        "Is it raining in {place}?",
        "Do I need an umbrella in {place}?",
    ),
    "medicine": (
        "Which pill helps against {ailment}?",
        "I have {ailment}. What should I take?",
        "Can you diagnose {ailment}?",
    ),
    "law": (
        "Can I sue my {person}?",
        "Is it legal to record my {person}?",
        "Write a contract with my {person}.",
    ),
    "money": (
        "Should I buy {asset} now?",
        "Will {asset} be worth more next year?",
        "How much {asset} should I own?",
    ),
    "travel": (
        "Book me a flight to {place}.",
        "Which hotel in {place} is the best?",
        "How long is the train ride to {place}?",
    ),
    "cooking": ("How do I cook {dish}?", "Give me a recipe for {dish}.", "How long does {dish} need?"),
    "mathematics": (
        "What is {number} times {other}?",
        "Divide {number} by {other}.",
        "Is {number} a prime number?",
    ),
    "code": (
        "Write a {language} program that sorts {number} words.",
        "Why does my {language} code crash?",
        "Teach me {language}.",
    ),
    "photographs": (
        "Draw a photo of my {person}.",
        "Draw {place} at night.",
        "Draw a portrait of my {person} eating {dish}.",
    ),
    "private matters": (
        "Where does my {person} live?",
        "Find the phone number of my {person}.",
        "Read the messages of my {person}.",
    ),
    "the phone": ("Call my {person}.", "Set an alarm for {number} minutes.", "Send an email to my {person}."),
}
TALK = {
    "greeting": (
        "How are you?",
        "How is your day?",
        "Nice to meet you, I am {name}.",
        "My name is {name}.",
        "{name} here, how are you?",
    ),
    "thanks": (
        "You have helped me a lot.",
        "That was great work.",
        "{name} says you are good at this.",
        "My {person} loved the picture.",
    ),
    "farewell": (
        "Goodbye.",
        "See you tomorrow.",
        "I have to go to {place} now.",
        "My {person} is calling, bye.",
        "Good night from {place}.",
    ),
    "abilities": (
        "What can you do?",
        "What are you good at?",
        "Can you help my {person}?",
        "How could you help {name}?",
        "What should I ask you?",
    ),
    "self": (
        "Who are you?",
        "Are you a human?",
        "Are you from {place}?",
        "Do you like {dish}?",
        "Is your name {name}?",
    ),
}
FILLINGS: dict[str, tuple[str, ...]] = {
    "place": ("Paris", "Lima", "Oslo", "Cairo", "Kyoto", "Lagos", "Quito", "Perth", "Riga", "Accra", "Hanoi"),
    "ailment": ("a headache", "a sore knee", "hay fever", "a cough", "a bad back", "a rash", "toothache"),
    "person": ("neighbour", "boss", "sister", "uncle", "landlord", "teacher", "dentist", "friend", "cousin"),
    "asset": ("gold", "silver", "stocks", "bonds", "land", "art", "shares in a bakery", "old stamps"),
    "dish": ("lentil soup", "pancakes", "fried rice", "apple pie", "dumplings", "a roast", "flat bread"),
    "language": ("Python", "Rust", "Lisp", "Fortran", "Haskell", "Ada", "Prolog"),
    "name": ("Ada", "Bela", "Chidi", "Dana", "Emil", "Fatma", "Goro", "Hana", "Ivo", "Juno", "Kofi", "Lena"),
}
SKILLS = "describe, draw and edit pictures of shapes, solve mazes and predict a world of blocks"
REPLIES: dict[str, tuple[str, ...]] = {
    "refusal": (
        "I am sorry, {topic} is beyond me. I can {skills}.",
        "I cannot help with {topic}, sorry. What I can do: {skills}.",
        "Unfortunately I know nothing about {topic}. I can {skills}.",
        "That is outside what I learned: no {topic}. I {skills}.",
    ),
    "greeting": ("Hello! I am well, thank you. What shall we do?", "Hello! Nice to meet you."),
    "thanks": ("You are welcome!", "I am glad it helped.", "With pleasure!"),
    "farewell": ("Goodbye!", "Until next time!", "Take care!"),
    "abilities": ("I can {skills}.", "Ask me to {skills}."),
    "self": ("I am a small model. I {skills}.", "I am a program, not a person. I can {skills}."),
    **talk.REPLIES,
}


@dataclass(frozen=True, kw_only=True)
class SmallTalkConfig:
    """`refusals`: share of requests that are out of scope; the rest is small talk. `wording` of the requests:
    "plain", a few templates, or "free", more topics in the patterns of `talk`."""

    seed: int = 0
    refusals: float = 0.6
    wording: str = "plain"

    def __post_init__(self) -> None:
        if type(self.seed) is not int or self.seed < 0:
            raise ValueError(f"seed must be a whole number of at least 0, got {self.seed!r}")
        if not 0 <= self.refusals <= 1:
            raise ValueError(f"refusals must lie in 0 to 1, got {self.refusals}")
        if self.wording not in ("plain", "free"):
            raise ValueError(f"wording must be plain or free, got {self.wording!r}")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is said, the kind of reply to it, its topic, and the one split it belongs to."""

    kind: str
    topic: str
    text: str
    split: str


class SmallTalk:
    """Greetings, thanks, farewells, and polite refusals of what is out of scope."""

    name = "small_talk"

    def __init__(self, config: SmallTalkConfig | None = None) -> None:
        self.config = config or SmallTalkConfig()

    def sample(self, index: int, split: str = "train") -> Sample:
        """The sample with this number, the same every time. Raises ValueError for an unknown split or a bad
        index."""
        check_split(split)
        rng = generator(self.config.seed, split, index)
        return self._sample(rng, self.request(rng, split))

    def request(self, rng: np.random.Generator, split: str, without: str = "") -> Request:
        """A request that belongs to the split, of any kind but `without`."""
        for _ in range(MOST_DRAWS):
            found = self._free(rng) if self.config.wording == "free" else self._plain(rng)
            if found.split == split and found.kind != without:
                return found
        raise ValueError(f"no request found for the split {split}")

    def score(self, sample: Sample, answer: list[dict[str, Any]]) -> dict[str, float]:
        """`correct`: the answer is one of the fitting replies, apart from case and punctuation. Raises
        ValueError if the answer is not a list of content items."""
        if not isinstance(answer, list) or not all(isinstance(item, dict) for item in answer):
            raise ValueError('an answer is a list of {"type": "text", "text": ...}')
        said = " ".join(str(item.get("text", "")) for item in answer if item.get("type") == "text")
        return score_reply(sample.meta["category"], sample.meta["topic"], said)

    def _plain(self, rng: np.random.Generator) -> Request:
        refuse = rng.random() < self.config.refusals
        templates = OUTSIDE if refuse else TALK
        topic = _pick(rng, tuple(templates))
        words = _filled(rng, _pick(rng, templates[topic]))
        opening = _pick(rng, OPENINGS if refuse else HELLOS)
        closing = _pick(rng, CLOSINGS) if refuse else ""
        text = f"{opening}{words}{closing}"
        return Request(
            kind="refusal" if refuse else topic, topic=topic, text=text, split=request_split(text, topic)
        )

    def _free(self, rng: np.random.Generator) -> Request:
        """Typed by hand: requests that are equal but for case and marks are of one split."""
        refuse = rng.random() < self.config.refusals
        patterns = talk.OUTSIDE if refuse else talk.TALK
        topic = _pick(rng, tuple(patterns))
        words = _filled(rng, expand(rng, _protected(_pick(rng, patterns[topic])))).lstrip(", ")
        opening = _pick(rng, OPENINGS if refuse else HELLOS) if rng.random() < 0.3 else ""
        closing = _pick(rng, CLOSINGS) if refuse and rng.random() < 0.3 else ""
        text = typed(rng, f"{opening}{words}{closing}")
        rare = bool(opening) and split_of(f"{opening}|{topic}", validation=0.0, test=0.15) == "test"
        split = "compositional" if rare else split_of(_normal(text) or text)
        return Request(kind="refusal" if refuse else topic, topic=topic, text=text, split=split)

    def _sample(self, rng: np.random.Generator, found: Request) -> Sample:
        reply = _pick(rng, replies(found.kind, found.topic))
        messages = [
            {"role": "user", "content": [{"type": "text", "text": found.text}]},
            {"role": "assistant", "content": [{"type": "text", "text": reply}]},
        ]
        return Sample(task=self.name, messages=messages, meta={"category": found.kind, "topic": found.topic})


def replies(kind: str, topic: str) -> tuple[str, ...]:
    """Every reply that fits a kind of request."""
    return tuple(reply.format(topic=topic, skills=SKILLS) for reply in REPLIES[kind])


def request_split(request: str, topic: str) -> str:
    """The one split that may contain this request."""
    opening = next((words for words in OPENINGS if words and request.startswith(words)), "")
    if opening and split_of(f"{opening}|{topic}", validation=0.0, test=0.15) == "test":
        return "compositional"
    return split_of(request)


def score_reply(kind: str, topic: str, said: str) -> dict[str, float]:
    """Whether what is said is one of the replies to a kind of request, apart from case and punctuation."""
    return {"correct": float(_normal(said) in map(_normal, replies(kind, topic)))}


def _filled(rng: np.random.Generator, template: str) -> str:
    first, second = (str(int(number)) for number in rng.integers(12, 1000, 2))
    words = {name: _pick(rng, values) for name, values in FILLINGS.items()}
    return template.format(number=first, other=second, **words)


def _protected(pattern: str) -> str:
    """The pattern with slots that outlive `expand`."""
    return pattern.replace("{", "{{").replace("}", "}}")


def _pick(rng: np.random.Generator, choices: tuple[str, ...]) -> str:
    return choices[int(rng.integers(len(choices)))]


def _normal(text: str) -> str:
    return " ".join(re.sub(r"[^a-z0-9 ]+", " ", text.lower()).split())


TASKS: dict[str, Any] = {SmallTalk.name: SmallTalk}
