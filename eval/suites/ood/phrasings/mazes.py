"""Requests about mazes, and the turns that make a conversation long before a request comes."""

MAZES: tuple[str, ...] = (
    "How do I get from the green arrow to the red goal?",
    "Can you find a way through this maze?",
    "Please guide me out of this labyrinth, from green to red.",
    "Which moves take the green arrow to the red spot?",
    "Solve the puzzle: start at green, finish at red.",
    "I'm stuck in this maze. What do I do to reach the red mark?",
    "Show me the way through.",
    "Work out the route from the arrow to the goal.",
    "Give me directions to the exit of this labyrinth.",
    "Get the little green arrow to the red target.",
)
HISTORY: tuple[str, ...] = (
    "Hiya!",
    "what are ur skills",
    "Sketch a dragon breathing fire.",
    "Cheers, mate!",
    "How tall is the Eiffel Tower?",
    "I'd love to see a yellow star.",
    "Lovely work, I'm grateful.",
    "Do you see a star?",
)
BEFORE: tuple[str, ...] = (
    "Right then. ",
    "Hey, ",
    "ok so ",
    "If you don't mind: ",
    "Quick one for you. ",
    "Hmm, ",
)
AFTER: tuple[str, ...] = (
    " Ta!",
    " Thanks in any case.",
    " if you would be so kind",
    " Many thanks!",
    " :)",
    " pls",
)
