"""VARGPT-v1.1 in its published stages (arXiv 2504.02949): projectors, understanding, then drawing and
preferences in turn at 256 and at 512 pixels, editing at the end.

Steps, batches and rates are the published ones; the data are not published. Here scenes of our own stand in
for them, which show that all runs: give `data.sources` and `pairs` of your own. With `start` the released
weights, the first stages have been done: `--override` takes stages of a saved recipe, or see `vargpt_tune`.
"""

from typing import Any

from unified.train.recipe import ModelData, OutputConfig, Source, VARGPTRecipe
from unified.train.stage import BatchConfig, ObjectiveChoice, OptimisationConfig
from unified.train.vargpt.stage import GENERATION, PARTS, VARGPTData, VARGPTStage

SOURCES = (
    Source(task="scene_draw", samples=120000, options={"most": 3}),
    Source(task="scene_quiz", samples=120000),
    Source(task="scene_caption", samples=20000),
    Source(task="scene_edit", samples=70000, options={"most": 3}),
)
DRAWING = VARGPTData(mixture={"scene_draw": 1.0})
UNDERSTANDING = VARGPTData(mixture={"scene_quiz": 0.8, "scene_caption": 0.16, "scene_draw": 0.04})
EDITING = VARGPTData(mixture={"scene_edit": 1.0})
PAIRS = VARGPTData(pairs=("pairs.jsonl",), null=0.0)


def batch(rows: int) -> BatchConfig:
    """`rows` samples a step, one at once."""
    return BatchConfig(rows=rows, length=8192, micro_rows=1, gradient_checkpointing=True)


def rate(steps: int, learning_rate: float) -> OptimisationConfig:
    """A cosine to nothing, the first tenth of the steps a warm-up."""
    return OptimisationConfig(learning_rate=learning_rate, warmup=steps // 10, final=0.0, weight_decay=0.0)


def tuning(name: str, steps: int, rows: int, resolution: str, **more: Any) -> VARGPTStage:
    """Drawing, or what `more` says in place of it."""
    given = {"data": DRAWING, "trains": GENERATION, "optimisation": rate(steps, 5e-5), **more}
    return VARGPTStage(name=name, steps=steps, batch=batch(rows), resolution=resolution, **given)


def preferring(name: str, steps: int, resolution: str) -> VARGPTStage:
    """Preferences between drawings, measured from the model at the start of the stage."""
    dpo = ObjectiveChoice(name="dpo", options={"beta": 0.1})
    return tuning(name, steps, 384, resolution, data=PAIRS, objective=dpo, optimisation=rate(steps, 1e-6))


def vargpt() -> VARGPTRecipe:
    """VARGPT-v1.1 (9B) in its published stages: projectors, understanding, drawing and preferences in turn,
    editing."""
    stages = (
        tuning("projectors", 2000, 1024, "0.06M", trains=("projectors", "start"),
               optimisation=rate(2000, 1e-3)),
        tuning("understanding", 3100, 256, "0.06M", data=UNDERSTANDING, trains=("language",)),
        tuning("draw_256", 40000, 1024, "0.06M"),
        preferring("prefer_256", 5000, "0.06M"),
        tuning("draw_512", 30000, 512, "0.25M"),
        preferring("prefer_512", 3000, "0.25M"),
        tuning("edit", 2000, 512, "0.25M", data=EDITING, trains=tuple(PARTS)),
    )  # fmt: skip
    return VARGPTRecipe(
        name="vargpt",
        data=ModelData(sources=SOURCES),
        stages=stages,
        output=OutputConfig(log_every=10, save_every=500, sheet_every=0),
    )
