"""How answers in words are judged: what a sentence says, whatever its form.

Inner speech (lists of parts, a sentence that begins with "So") is never right. Colours, shapes, sizes and
fills: the first one that the answer names and the question did not. Yes or no: by the first word, else by
negation. Counts: the only number. Places: the row and the column named, the middle where one is not. Small
talk: a word of the reply's category, and nothing drawn. Refusals: a word of not knowing or not being able.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from unified.eval.suites.ood.phrasings.drawings import SYNONYMS
from unified.tasks.scenes.scene import BACKGROUNDS, COLOURS, VALUES
from unified.tasks.scenes.words import MEANINGS, SINGULARS

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
YES = frozenset({"yes", "yeah", "yep", "yup", "sure", "indeed", "correct", "right", "true"})
NO = frozenset({"no", "nope", "not", "none", "false", "incorrect"})
NEGATIONS = NO | {"never", "neither", "nothing", "cannot", "without", "isnt", "arent", "doesnt", "dont"}
ROWS = {"top": "top", "upper": "top", "bottom": "bottom", "lower": "bottom"}
COLUMNS = {"left": "left", "right": "right"}
MIDDLES = frozenset(["middle", "centre", "center", "central"])

SMALL_TALK_WORDS: dict[str, tuple[str, ...]] = {
    "greeting": ("hello", "hi", "hey", "welcome", "good day", "good morning", "good evening",
                 "good afternoon", "nice to", "greetings", "well", "fine", "great", "how can i"),
    "thanks": ("welcome", "glad", "pleasure", "happy", "no problem", "any time", "anytime", "thank you",
               "my pleasure", "don't mention"),
    "farewell": ("bye", "goodbye", "see you", "next time", "take care", "farewell", "good night", "later",
                 "so long", "sleep well"),
    "abilities": ("draw", "edit", "answer", "describe", "solve", "maze", "picture", "image", "question"),
    "self": ("model", "program", "assistant", "machine", "computer", "ai", "not a person",
             "not a human", "unified"),
    "complaint": ("sorry", "apolog", "try again", "my mistake", "let me", "correct", "what should",
                  "tell me"),
}  # fmt: skip
REFUSAL_WORDS = (
    "sorry", "cannot", "can't", "can not", "unable", "not able", "beyond me", "don't know", "do not know",
    "not know", "know nothing", "not sure", "unsure", "outside", "unfortunately", "afraid",
    "do not recognise", "don't recognise", "don't recognize", "not recognise", "unfamiliar",
    "never learned", "not learn",
    "only know", "no idea", "not something i",
)  # fmt: skip
INNER = re.compile(r"^so\b|\bseen:|; ?(?:top|middle|bottom|centre)\b|^\d of \d:", re.IGNORECASE)
MEANS: dict[str, str] = {
    **{value: value for values in VALUES.values() for value in values},
    **MEANINGS,
    **SINGULARS,
    **{word: value for value, words in SYNONYMS.items() for word in words if " " not in word},
    "disk": "circle", "dot": "circle", "outlined": "outline", "contour": "outline", "filled": "solid",
    "plus": "cross", "middling": "medium", "gray": "grey",
}  # fmt: skip


def is_inner_speech(text: str) -> bool:
    """Whether this is what a model says to itself: a list of parts, a step of a drawing, a conclusion."""
    return bool(INNER.search(text.strip()))


def words_of(text: str) -> list[str]:
    return re.sub(r"[^a-z0-9 ]+", " ", text.lower().replace("'", "").replace("-", " ")).split()


def says(kind: str, text: str, question: str) -> str | None:
    """What an answer says, in the words of `tasks.scenes.questions`; None if nothing."""
    if not text.strip() or is_inner_speech(text):
        return None
    return READERS[kind](text, question)


def _value(names: Sequence[str], text: str, question: str) -> str | None:
    asked = {MEANS.get(word, word) for word in words_of(question)}
    named = [MEANS[word] for word in words_of(text) if word in MEANS and MEANS[word] in names]
    news = [value for value in named if value not in asked]
    return next(iter(news or named), None)


def _attribute(name: str) -> Callable[[str, str], str | None]:
    return lambda text, question: _value(VALUES[name], text, question)


def _object(text: str, question: str) -> str | None:
    colour, shape = (_value(VALUES[name], text, question) for name in ("colour", "shape"))
    return f"{colour} {shape}" if colour and shape else None


def _yes_or_no(text: str, _: str) -> str | None:
    words = words_of(text)
    if words[:1] and words[0] in YES | NO:
        return "yes" if words[0] in YES else "no"
    if any(word in NEGATIONS for word in words):
        return "no"
    return "yes" if {"is", "are", "has", "have", "do", "does", "can"} & set(words) else None


def _count(text: str, _: str) -> str | None:
    words = words_of(text)
    numbers = {str(NUMBERS.index(word)) for word in words if word in NUMBERS} | {
        w for w in words if w.isdigit()
    }
    if len(numbers) == 1:
        return numbers.pop()
    return "0" if not numbers and {"no", "none", "any"} & set(words) else None


def _where(text: str, _: str) -> str | None:
    words = words_of(text)
    row = next((ROWS[word] for word in words if word in ROWS), None)
    column = next((COLUMNS[word] for word in words if word in COLUMNS), None)
    if row is None and column is None:
        return "centre" if MIDDLES & set(words) else None
    return f"{row or 'middle'} {column or 'centre'}"


def _side(text: str, _: str) -> str | None:
    named = {word for word in words_of(text) if word in COLUMNS}
    return named.pop() if len(named) == 1 else None


def _ground(text: str, _: str) -> str | None:
    words = [MEANS.get(word, word) for word in words_of(text)]
    return next((word for word in words if word in {*COLOURS, *BACKGROUNDS, "cream"}), None)


READERS: dict[str, Callable[[str, str], str | None]] = {
    **{name: _attribute(name) for name in VALUES},
    "count": _count,
    "where": _where,
    "side": _side,
    "object": _object,
    "yes or no": _yes_or_no,
    "ground": _ground,
}


def fits_small_talk(category: str, text: str, pictures: int) -> bool:
    """Whether a reply to small talk is of its category: words alone, none of them inner speech or a refusal
    of what was no request, at least two skills where abilities were asked for."""
    if pictures or not text.strip() or is_inner_speech(text):
        return False
    if category not in ("complaint", "abilities", "self") and refuses(text, 0):
        return False
    named = _named(SMALL_TALK_WORDS, category, text)
    return named >= (2 if category == "abilities" else 1)


def refuses(text: str, pictures: int) -> bool:
    """Whether a reply says that this is not known or cannot be done, and draws nothing."""
    plain = text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    return not pictures and not is_inner_speech(text) and any(word in plain for word in REFUSAL_WORDS)


def _named(words: Mapping[str, Sequence[str]], category: str, text: str) -> int:
    plain = text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    return sum(bool(re.search(rf"\b{re.escape(word)}", plain)) for word in words[category])
