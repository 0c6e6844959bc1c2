"""What the default model learns from: samples of every task in the plain form, in which its figures are
measured, and in a free one, which is nearer to what people say and show."""

from typing import Any

from unified.tasks.scenes.drawing import CATEGORIES
from unified.tasks.scenes.scene import TEXTURES
from unified.tasks.worlds.clips import EVERY_KEY
from unified.train.recipe import Source

# No prompt says what texture the ground has, or where in its cell an object stands: drawn, that would be most
# of a picture's bits, and what the words do say would be lost among them.
PLAIN = ["plain"]
HALF_PLAIN = ["plain"] * 3 + list(TEXTURES)
PROMPTS = ["complete"] * 3 + list(CATEGORIES)
DRAWN = {"most": 3, "textures": PLAIN, "categories": PROMPTS, "settled": 1.0, "stepwise": 1.0}
MIXED = {"textures": HALF_PLAIN, "settled": 0.5, "stepwise": 1.0}  # what is read may stand anywhere
# One wall read wrongly spoils a maze, and a large one has the most: it is seen the most often.
MAZE_SIZES = [
    *([3, 3], [3, 4], [4, 3], [3, 5], [5, 3]),
    *[[4, 4], [4, 5], [5, 4]] * 2,
    *[[5, 5]] * 8,
]
MAZES = {"charted": True, "sizes": MAZE_SIZES}
SOURCES = (
    Source(task="scene_caption", samples=20000),
    Source(task="scene_question", samples=30000),
    Source(task="scene_quiz", samples=120000),
    Source(task="scene_study", samples=60000),
    Source(task="scene_parts", samples=60000, options={"least": 3}),
    Source(task="scene_plan", samples=60000, options={"most": 3, "categories": PROMPTS, **MIXED}),
    Source(task="scene_draw", samples=120000, options=DRAWN),
    Source(task="scene_edit", samples=70000, options={"most": 3, "settled": 0.5, "stepwise": 1.0}),
    Source(task="scene_conversation", samples=15000, options={"most": 4, **MIXED}),
    Source(task="maze", samples=40000, options=MAZES),
    Source(task="maze_text", samples=60000, options=MAZES),
    Source(task="world_frames", samples=20000, options={"frames": 5, "players": list(EVERY_KEY)}),
    Source(task="world_actions", samples=4000, options={"frames": 6}),
    Source(task="world_play", samples=4000, options={"frames": 6}),
    Source(task="small_talk", samples=20000),
)


def free(task: str, samples: int, **options: Any) -> Source:
    """A source in free wording, with pictures drawn by other hands, under the name "free_TASK"."""
    options |= {"wording": "free", "renderer": "varied"}
    return Source(task=task, name=f"free_{task}", samples=samples, options=options)


FREE_SOURCES = (
    free("scene_draw", 60000, **DRAWN),
    free("scene_edit", 60000, most=4, settled=0.5, stepwise=1.0),
    free("scene_study", 60000),
    free("scene_parts", 60000),
    free("scene_plan", 60000, most=3, categories=PROMPTS, **MIXED),
    free("scene_chat", 40000, most=4, **MIXED),
    free("scene_question", 20000),
    free("scene_caption", 10000),
    free("maze", 20000, **MAZES),
    free("maze_text", 40000, **MAZES),
    Source(task="small_talk", name="free_small_talk", samples=60000, options={"wording": "free"}),
    Source(task="unknown_picture", samples=20000),
)
# Shares of the ids of a mixture of these alone.
FREE_SHARES = {
    "free_scene_draw": 0.18,
    "free_scene_edit": 0.19,
    "free_scene_study": 0.18,
    "free_scene_parts": 0.07,
    "free_scene_plan": 0.08,
    "free_scene_chat": 0.12,
    "free_scene_question": 0.02,
    "free_scene_caption": 0.01,
    "free_maze": 0.03,
    "free_maze_text": 0.07,
    "free_small_talk": 0.02,
    "unknown_picture": 0.03,
}


def shared(shares: dict[str, float], part: float) -> dict[str, float]:
    """The shares scaled to add up to `part`."""
    total = sum(shares.values())
    return {name: round(part * share / total, 4) for name, share in shares.items()}
