"""Requests in free wording: what a turn's data asks for, as people might say it.

Only the user's words vary. They say all that the data states and nothing else, as those of `prompt_text`,
`instruct` and `ask` do; what the model answers is the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
from unified.tasks.grammar import commanded, expand, one_of
from unified.tasks.hand import Hand, typed
from unified.tasks.scenes import naming
from unified.tasks.scenes.choice import chance, pick
from unified.tasks.scenes.drawing import Prompt
from unified.tasks.scenes.editing import Edit
from unified.tasks.scenes.questions import Query
from unified.tasks.scenes.relations import cell
from unified.tasks.scenes.scene import SIZES, Filter

CAPTIONS: dict[str, tuple[str, ...]] = {
    "short": (
        "which shapes [are in this picture|does the image show|does it have]?",
        "[what|which] shapes [are there|can you see|do you see]?",
        "name the shapes[ in the picture| you see|]",
        "[give|write] a [short|brief] caption",
        "describe [it|this|the picture] [briefly|in a few words|shortly]",
        "caption [this|it] briefly",
        "list the shapes",
    ),
    "medium": (
        "what [is|'s] [in|on] [this|the] [picture|image]?",
        "what do you see[ here| in this picture| in the image|]?",
        "describe [this|it|the picture|the image|what you see]",
        "what does [this|the] [picture|image] show?",
        "tell me what [you see|is there|this shows]",
        "name the shapes and their colours",
        "what can you see?",
        "what is [this|that|shown here]?",
        "caption [this|the image] with colours",
    ),
    "complete": (
        (
            "describe [this|it|the picture|the image] [in full detail|in detail|completely|as exactly "
            "as you can]"
        ),
        "[give me|write] a [complete|full|detailed] description[ of this image|]",
        "describe everything[ you see| in the picture|]",
        "tell me everything about [this|the] [picture|image]",
        "what [exactly|all] is in the picture[, in detail|, with places]?",
    ),
}
QUESTIONS: dict[str, tuple[str, ...]] = {
    "existence": (
        (
            "[is there|do you see|can you see|can you find|is there maybe] {a}[ in the picture| here| "
            "in it| anywhere|]?"
        ),
        "does [it|the picture|the image|this] [have|contain|show] {a}?",
        "[are there|do you see|can you see] any {many}[ in the picture| here| at all|]?",
        "is {a} [in the picture|there|in this image|shown]?",
    ),
    "count": (
        "how many {many} [are there|do you see|can you see|are in the picture|does it have|are here]?",
        "count the {many}",
        "what is the number of {many}?",
        "[tell me|say] how many {many} there are",
        "how many {many}?",
    ),
    "shape": (
        "[what|which] shape [is|has] {the}?",
        "what [is|'s] the shape of {the}?",
        "what kind of shape is {the}?",
        "[tell me|name] the shape of {the}",
        "what form does {the} have?",
    ),
    "colour": (
        "[what|which] colour is {the}?",
        "what [is|'s] the colour of {the}?",
        "[what|which] colour does {the} have?",
        "[tell me|name] the colour of {the}",
        "in [what|which] colour is {the}?",
        "how is {the} coloured?",
    ),
    "size": (
        "[what|which] size is {the}?",
        "how [big|large] is {the}?",
        "is {the} small, medium or large?",
        "what [is|'s] the size of {the}?",
        "is {the} [big or small|small or large|large, medium or small]?",
    ),
    "fill": (
        (
            "is {the} [solid or outline|filled or hollow|filled or just an outline|solid or hollow|"
            "hollow or solid]?"
        ),
        "is {the} [outlined or filled|filled in or empty]?",
        "what [is|'s] the fill of {the}, solid or outline?",
    ),
    "where": (
        "where [is|'s] {the}?",
        "in [which|what] [part|corner or part|place|area] of the [picture|image] is {the}?",
        "where [can I find|do you see|in the picture is] {the}?",
        "what is the [place|position|location] of {the}?",
        "[tell me|show me] where {the} is",
    ),
    "relation": (
        "is {the} {relation} {other}?",
        "is it [true|right|correct] that {the} is {relation} {other}?",
        "[does|would] {the} [lie|stand|sit] {relation} {other}?",
    ),
    "side": (
        "is {the} {detail} {of}{other}?",
        "on [which|what] side of {other} is {the}, {detail}?",
        "{detail} - where is {the} from {other}?",
    ),
    "object": (
        "what is {the}?",
        "[which|what] colour and shape [is|has] {the}?",
        "what [colour and shape|kind of thing] is {the}?",
        "name the colour and the shape of {the}",
    ),
    "extreme": (
        "[what|which] is the {detail} [object|shape|thing]?",
        "[which|what] [object|shape|thing] is [the |]{detail}?",
        "what is [the |]{detail}?",
        "name the {detail} [object|shape]",
    ),
    "neighbour": (
        "[what|which object|which shape|which thing] is {relation} {other}?",
        "what [do you see|is there|lies|stands] {relation} {other}?",
        "[tell me|name] what is {relation} {other}",
    ),
    "more": (
        "are there {detail} {many} than {others}?",
        "do you see {detail} {many} than {others}?",
        "does the picture have {detail} {many} than {others}?",
        "is the number of {many} {number} than that of {others}?",
    ),
    "larger": (
        "is {the} {detail} than {other}?",
        "is {the} the {detail} one, compared with {other}?",
        "compared with {other}, is {the} {detail}?",
    ),
    "same": (
        "[is|has] {the} the same {detail} as {other}?",
        "[do|does] {the} and {other} have the same {detail}?",
        "are {the} and {other} [of the same {detail}|the same in {detail}|equal in {detail}]?",
        "do {the} and {other} share their {detail}?",
    ),
    "background": (
        "[what|which] colour is the [background|ground|backdrop]?",
        "what [is|'s] the colour of the [background|ground|backdrop]?",
        "[what|which] colour does the [background|ground] have?",
        "what [is|'s] the background?",
        "which colour is behind the shapes?",
    ),
}
RELATIONS: dict[str, tuple[str, ...]] = {
    "left": ("to the left of", "left of", "on the left of", "on the left side of"),
    "right": ("to the right of", "right of", "on the right of", "on the right side of"),
    "above": ("above", "above", "over", "higher than"),
    "below": ("below", "below", "under", "underneath", "beneath", "lower than"),
}
EXTREMES: dict[str, tuple[str, ...]] = {
    "leftmost": ("leftmost", "furthest left", "left-most", "most left"),
    "rightmost": ("rightmost", "furthest right", "right-most", "most right"),
    "highest": ("highest", "topmost", "uppermost"),
    "lowest": ("lowest", "bottommost", "lowermost"),
}
COMPARED = {
    "more": ("more",),
    "fewer": ("fewer", "fewer", "less"),
    "larger": ("larger", "bigger"),
    "smaller": ("smaller", "tinier"),
}

DRAWINGS = (
    "[draw|draw|paint|sketch|make|create|generate] [|me ]{what}",
    "[draw|make|create|generate|paint] [me |][a picture|an image|a drawing] [of|with|that shows] {what}",
)
WISHES = (
    "show me {what}",
    "I [want|need|would like|'d like] [to see |a picture of |]{what}",
    "[a picture|an image|a drawing] [of|with] {what}",
    "{what}",
    "{what}, please",
    "[can|could|may] I [have|get|see] {what}?",
    "give me {what}",
    "how about {what}?",
    "[I would|I'd] love to see {what}",
    "there should be {what}",
)
JOINING = (" and ", " and ", ", ", " together with ", " as well as ", ", and ")
EDITS: dict[str, tuple[str, ...]] = {
    "recolour": (
        "[make|paint|turn|colour|make|paint|dye] {the} {colour}",
        "change the colour of {the} to {colour}",
        "change {the} to {colour}",
        "recolour {the} [to|in|as] {colour}",
        "make {the} {colour} instead",
        "give {the} the colour {colour}",
        "set the colour of {the} to {colour}",
    ),
    "resize": (
        "make {the} {size}",
        "make {the} {size}",
        "resize {the} to {size}",
        "change the size of {the} to {size}",
        "turn {the} into a {size} one",
    ),
    "bigger": (
        "make {the} [bigger|larger]",
        "enlarge {the}",
        "[scale|size] {the} up",
        "[blow|scale] up {the}",
    ),
    "smaller": ("make {the} smaller", "shrink {the}", "[scale|size] {the} down", "reduce {the}"),
    "remove": (
        "[remove|delete|erase|take away|get rid of|drop|wipe out|rub out|clear away|throw out|cut out] {the}",
        "[remove|delete|erase] {the} from the [picture|image]",
        "take {the} [away|out|off]",
        "make {the} [disappear|go away|vanish]",
    ),
    "add": (
        "[add|put|place|draw|insert|paint|include|add] {a} {place}",
        "[add|draw|put] {a} {place} [as well|too|also]",
        "[add|put] also {a} {place}",
    ),
    "move": (
        "[move|move|shift|bring|push|drag|slide|transfer] {the} {to}",
        "[put|place] {the} {place}",
    ),
    "swap": (
        "[swap|exchange|switch|interchange] {the} and {other}",
        "[swap|exchange|switch] the [places|positions] of {the} and {other}",
        "[swap|exchange|switch] {the} with {other}",
        "let {the} and {other} [trade|change|switch|swap] places",
        "put {the} where {other} is and the other way round",
    ),
}
EDIT_WISHES: dict[str, tuple[str, ...]] = {
    "recolour": (
        "{the} should be {colour}",
        "I want {the} [to be |]{colour}",
        "{the} in {colour}[, please|]",
    ),
    "resize": ("{the} should be {size}", "I want {the} [to be |]{size}"),
    "remove": (
        "{the} should [go|be gone|disappear]",
        "I [don't|do not] [want|need|like] {the}[ any more| anymore|]",
        "without {the}[, please|]",
    ),
    "add": (
        "{a} {place}[ as well| too|][, please|]",
        "I [want|need|would like|'d like] {a} {place}",
        "there should [also |]be {a} {place}",
        "[can|could] I [have|get] {a} {place}?",
        "{place} I want {a}",
        "{place}, [add|put|draw|place] {a}",
    ),
    "move": ("{the} should be {place}", "I want {the} {place}", "{the} belongs {place}"),
}


def request(
    rng: np.random.Generator, data: dict[str, Any], it: bool = False, hand: Hand | None = None
) -> str:
    """What a user says to get the answer of a turn with this data (`Turn.data`); `it`: the object of an edit
    is the one that was spoken of last. `hand`: see `typed`."""
    return typed(rng, _KINDS[data["kind"]](rng, data, it), hand)


def _caption(rng: np.random.Generator, data: dict[str, Any], it: bool) -> str:
    return one_of(rng, CAPTIONS[data["category"]])


def _question(rng: np.random.Generator, data: dict[str, Any], it: bool) -> str:
    query = Query.from_json(data["query"])
    detail = query.detail
    said = {**EXTREMES, **COMPARED}.get(detail, (detail,))
    words = {
        "a": naming.a(rng, query.subject),
        "the": naming.the(rng, query.subject),
        "many": naming.noun(rng, query.subject, number=2),
        "other": naming.the(rng, query.other),
        "others": naming.noun(rng, query.other, number=2),
        "detail": pick(rng, said),
        "relation": pick(rng, RELATIONS.get(detail, ("",))),
        "of": "" if detail == "above or below" else "of ",
        "number": {"more": "larger", "fewer": "smaller"}.get(detail, ""),
    }
    asked = one_of(rng, QUESTIONS[query.kind], **words)
    asked = (
        asked
        if asked.endswith("?") or asked.split()[0] in ("count", "tell", "say", "name", "show")
        else f"{asked}?"
    )
    if asked.endswith("?") and chance(rng, 0.12):
        return (
            expand(rng, "[please tell me:|tell me,|and|so,|hey,|now,|I wonder,|one question:] ") + " " + asked
        )
    return asked


def _drawing(rng: np.random.Generator, data: dict[str, Any], it: bool) -> str:
    prompt = Prompt.from_json(data["prompt"])
    items = _items(rng, prompt)
    ending = _ground(rng, prompt.background)
    if len(items) > 1 and not prompt.relation and chance(rng, 0.15):
        first, *others = items
        more = [expand(rng, "[then|also|and|next,] [add|draw|put] ") + " " + item for item in others]
        return ". ".join([one_of(rng, DRAWINGS, what=first + ending), *more])
    what = (
        items[0]
        if len(items) == 1
        else pick(rng, (", ", ", ", "; ")).join(items[:-1]) + pick(rng, JOINING) + items[-1]
    )
    if chance(rng, 0.5):
        return commanded(rng, one_of(rng, DRAWINGS, what=what + ending))
    return one_of(rng, WISHES, what=what + ending)


def _items(rng: np.random.Generator, prompt: Prompt) -> list[str]:
    """What a prompt demands, in its order: one phrase for equal demands."""
    if prompt.relation:
        first, second = (naming.a(rng, each.wanted) for each in prompt.demands)
        return [f"{first} {pick(rng, RELATIONS[prompt.relation])} {second}"]
    groups = Counter((each.wanted, each.cell) for each in prompt.demands)
    items = []
    for (wanted, place), number in groups.items():
        text = naming.counted(rng, wanted, number)
        items.append(f"{text} {naming.within(rng, place)}" if place else text)
    return items


def _ground(rng: np.random.Generator, background: str | None) -> str:
    if background is None:
        return ""
    forms = (
        ", on a {} [background|background|ground|backdrop]",
        " on a {} [background|ground]",
        " on {}",
        " with a {} background",
        ", the background {}",
        ", {} background",
    )
    ending = pick(rng, forms)
    return ("," if ending[0] == "," else "") + " " + expand(rng, ending.lstrip(", "), background)


def _edit(rng: np.random.Generator, data: dict[str, Any], it: bool) -> str:
    edit = Edit.from_json(data["edit"])
    named = [Filter() if it else wanted for wanted in edit.wanted]
    words = {"the": naming.the(rng, named[0])} if named else {}
    if edit.kind == "swap":
        words["other"] = naming.the(rng, named[1])
    if edit.new:
        new = edit.new[0]
        words |= {
            "a": naming.a(rng, Filter.of(new)),
            "colour": pick(rng, naming.COLOUR_NAMES.get(new.colour, (new.colour,))),
            "size": pick(rng, naming.SIZE_NAMES[new.size]),
            "place": naming.within(rng, cell(new), cell(edit.old[0]) if edit.kind == "move" else None),
        }
    if edit.kind == "move":
        words["to"] = naming.towards(rng, cell(edit.new[0]), cell(edit.old[0]))
    kind = _relative(rng, edit)
    if kind in EDIT_WISHES and chance(rng, 0.25):
        return one_of(rng, EDIT_WISHES[kind], **words)
    return commanded(rng, one_of(rng, EDITS[kind], **words))


def _relative(rng: np.random.Generator, edit: Edit) -> str:
    """The kind of an edit; a size that is the next one up or down may be asked for as bigger or smaller."""
    if edit.kind != "resize":
        return edit.kind
    order = list(SIZES)
    step = order.index(edit.new[0].size) - order.index(edit.old[0].size)
    if abs(step) != 1 or not chance(rng, 0.4):
        return "resize"
    return "bigger" if step > 0 else "smaller"


_KINDS: dict[str, Callable[[np.random.Generator, dict[str, Any], bool], str]] = {
    "caption": _caption,
    "question": _question,
    "draw": _drawing,
    "edit": _edit,
}
