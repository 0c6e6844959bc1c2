"""Edits of a picture, by kind. Slots: {thing} and {other} name objects of the picture, {a} a new object with
its article, {value} a colour or size, {place} a place with its preposition, {goal} one without."""

EDITS: dict[str, tuple[str, ...]] = {
    "recolour": (
        "I'd prefer the {thing} in {value}.",
        "Can the {thing} be {value} instead?",
        "Give the {thing} a coat of {value} paint.",
        "Recolor the {thing}: {value}.",
        "The {thing} ought to be {value}.",
        "Could you dye the {thing} {value}?",
        "Let's have a {value} one where the {thing} is now, same shape.",
        "Colour in the {thing} with {value}.",
        "{value} would suit the {thing} better, change that please.",
        "Swap the colour of the {thing} for {value}.",
    ),
    "remove": (
        "Get rid of the {thing}.",
        "I don't want the {thing} any more.",
        "Lose the {thing}.",
        "The {thing} has to go.",
        "Please wipe out the {thing}.",
        "Can you cut the {thing}?",
        "Without the {thing}, please.",
        "Rub out the {thing}.",
        "Drop the {thing} from the image.",
        "Make the {thing} disappear.",
        "Leave everything but clear away the {thing}.",
    ),
    "add": (
        "There should also be {a} {place}.",
        "Could we have {a} {place} too?",
        "Insert {a} {place}.",
        "I'm missing {a} {place}.",
        "Stick {a} {place}.",
        "Throw in {a} {place}.",
        "{place} I'd like {a} in addition.",
        "Complete the picture with {a} {place}.",
        "Include {a} {place}, please.",
    ),
    "move": (
        "The {thing} belongs {place}.",
        "Could you push the {thing} over so that it's {place}?",
        "Relocate the {thing} to the {goal}.",
        "I'd rather have the {thing} {place}.",
        "Take the {thing} and set it down {place}.",
        "Drag the {thing} to the {goal}.",
        "Let the {thing} travel to the {goal}.",
    ),
    "resize": (
        "The {thing} should be {value}.",
        "I'd like a {value} version of the {thing}.",
        "Scale the {thing} so that it is {value}.",
        "Could the {thing} become {value}?",
        "Redo the {thing} in {value}.",
        "Let the {thing} be {value} in size.",
    ),
    "replace": (
        "Instead of the {thing} I want {a}.",
        "Where the {thing} is there should be {a}.",
        "Trade the {thing} for {a}.",
        "Substitute {a} for the {thing}.",
        "Turn the {thing} into {a}.",
    ),
}
FOLLOW_UPS: dict[str, tuple[tuple[str, str], ...]] = {
    "recolour": (
        ("Do you see the {thing}?", "I want it in {value}."),
        ("Tell me where the {thing} is.", "Good. Now paint that one {value}."),
    ),
    "remove": (
        ("Do you see the {thing}?", "Get rid of it."),
        ("What can you say about the {thing}?", "Okay, I don't like it, remove it."),
    ),
    "move": (("Do you see the {thing}?", "Bring it over so that it's {place}."),),
}
