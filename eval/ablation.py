"""`python -m unified.eval.ablation`: what each part of the default model that can be switched off without
training is worth.

Every arm answers the same samples with the same seeds in one run; `everything on` is the model as shipped.
The extras of the model (`unified.extras`) were trained with it, so their rows say how much its outputs rest
on them, not how good a model trained without them would be. Patch merging fixes the shapes of weights and
cannot be off without training.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from unified.eval.measurement import DATA_SEED, Run, Stopwatch, Switched, Table, plain
from unified.eval.metrics.rates import rate
from unified.eval.report import table_lines
from unified.eval.suites.following import STEPS
from unified.eval.suites.imagining import imagined, psnr_curves, ssim_curves
from unified.eval.suites.questions import absent_objects, correct, looked
from unified.tasks.scenes.scene_tasks import SceneConfig, SceneDraw, SceneEdit, SceneQuestion
from unified.tasks.worlds.clips import WorldConfig, watch

from unified.apps.assistant import DRAWING, EDITING, Assistant
from unified.apps.loading import load
from unified.extras import EXTRAS

Figures = dict[str, Any]


def questions_right(run: Run) -> Figures:
    """Questions after a list of what stands where, and about absent objects."""
    task = SceneQuestion(SceneConfig(seed=DATA_SEED, size=run.assistant.side))
    samples = [task.sample(index, run.split) for index in range(run.count)]
    right = correct(task, samples, looked(run, samples))
    return {"questions": rate(right), "absent objects": absent_objects(run)["accuracy"]}


def drawings_right(run: Run) -> Figures:
    task = SceneDraw(SceneConfig(seed=DATA_SEED, size=run.assistant.side))
    samples = [task.sample(index, run.split) for index in range(run.count)]
    replies = run.best_of_n_answers(samples, DRAWING)
    scores = [task.score(sample, reply) for sample, reply in zip(samples, replies, strict=True)]
    return {"drawings, all attributes": rate(score["all"] for score in scores)}


def edits_right(run: Run) -> Figures:
    task = SceneEdit(SceneConfig(seed=DATA_SEED, size=run.assistant.side, most=3))
    samples = [task.sample(index, run.split) for index in range(run.count)]
    replies = run.best_of_n_answers(samples, EDITING)
    scores = [task.score(sample, reply) for sample, reply in zip(samples, replies, strict=True)]
    return {"edits, done and the rest unchanged": rate(score["both"] for score in scores)}


def frames_right(run: Run) -> Figures:
    """PSNR and SSIM of imagined frames after 1 and 16 steps."""
    config = WorldConfig(size=run.assistant.side, frames=STEPS + 1, seed=DATA_SEED)
    clips = [watch(config, index, run.split) for index in range(run.count)]
    found = {"frames": imagined(run, clips, STEPS)}
    psnr, ssim = (curves(found, clips)["frames"] for curves in (psnr_curves, ssim_curves))
    return {
        f"frames, step {step}": f"{psnr[step - 1]:.2f} dB, SSIM {ssim[step - 1]:.3f}" for step in (1, STEPS)
    }


MEASURES: dict[str, Callable[[Run], Figures]] = {
    "questions": questions_right,
    "drawing": drawings_right,
    "editing": edits_right,
    "world": frames_right,
}
IMAGES = ("drawing", "editing")


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """What is off: `switched`, how settings and rollouts change; `extra`, an extra taken out of the model.
    `measures`: those that it can touch."""

    measures: tuple[str, ...]
    switched: Switched = field(default_factory=Switched)
    extra: str = ""


def _set(**values: Any) -> Callable[[Any], None]:
    """Sets attributes of what draws the frames of a rollout."""

    def change(rollout: Any) -> None:
        for name, value in values.items():
            setattr(rollout.writer, name, value)

    return change


ABLATIONS: dict[str, Ablation] = {
    "classifier-free guidance": Ablation(
        measures=IMAGES, switched=Switched(settings=lambda one: replace(one, guidance=None))
    ),
    "visual contrastive decoding": Ablation(
        measures=("questions",), switched=Switched(settings=lambda one: replace(one, visual_contrast=0.0))
    ),
    "the list before an answer": Ablation(measures=("questions",), switched=Switched(look=False)),
    "minimum-risk decoding": Ablation(
        measures=(*IMAGES, "world"),
        switched=Switched(
            settings=lambda one: replace(one, minimum_risk_width=0.0), rollout=_set(minimum_risk=None)
        ),
    ),
    "best of n": Ablation(measures=IMAGES, switched=Switched(tries=1)),
    "contrastive guidance of frames": Ablation(
        measures=("world",), switched=Switched(rollout=_set(contrast=0.0))
    ),
    "carried embeddings": Ablation(
        measures=("world",), switched=Switched(rollout=_set(contrast=0.0, carry=False))
    ),
    "the mean over codes": Ablation(measures=("world",), switched=Switched(rollout=_set(mean=False))),
    **{f"extra: {name}": Ablation(measures=(*IMAGES, "world"), extra=name) for name in EXTRAS},
}


def without(assistant: Assistant, extra: str) -> Assistant:
    """The assistant with an extra of its model taken out."""
    if extra:
        del assistant.model.extras[extra]
    return assistant


def measured(run: Run, ablation: Ablation) -> Figures:
    found: Figures = {}
    for name in ablation.measures:
        found.update(MEASURES[name](replace(run, switched=ablation.switched)))
    return found


def table(results: Mapping[str, Figures]) -> Table:
    whole = results["everything on"]
    rows = [[name, *(found.get(what) for what in whole)] for name, found in results.items()]
    return Table("Parts switched off", ["off", *whole], rows)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m unified.eval.ablation", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--model", help="a folder or hub name (default: the shipped model)")
    parser.add_argument("--count", type=int, default=64, help="samples per measurement (default 64)")
    parser.add_argument("--batch", type=int, default=16, help="conversations at once (default 16)")
    parser.add_argument("--only", default="", help="arms whose name contains this")
    parser.add_argument(
        "--out", type=Path, default=Path("docs/evaluation"), help="folder of ablation.md, .json"
    )
    options = parser.parse_args(arguments)
    if options.count < 1 or options.batch < 1:
        parser.error("--count and --batch must be at least 1")
    assistant = load(options.model)
    has = set(assistant.model.extras)
    arms = {"everything on": Ablation(measures=tuple(MEASURES))}
    arms |= {name: arm for name, arm in ABLATIONS.items() if options.only in name and arm.extra in has | {""}}
    results: dict[str, Figures] = {}
    for name, arm in arms.items():
        watch = Stopwatch()
        model = without(load(options.model), arm.extra) if arm.extra else assistant
        results[name] = measured(Run(assistant=model, count=options.count, batch=options.batch), arm)
        print(f"{name}: {watch.seconds:.0f} s", file=sys.stderr, flush=True)
        _write(options.out, options.count, results)  # after every arm, so that nothing is lost
    print("\n".join(table_lines(table(results))))
    return 0


def _write(folder: Path, count: int, results: Mapping[str, Figures]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    head = (
        f"# Parts switched off\n\n`python -m unified.eval.ablation --count {count}`, test split. {_NOTE}\n\n"
    )
    lines = "\n".join(table_lines(table(results)))
    (folder / "ablation.md").write_text(f"{head}{lines}\n", encoding="utf-8")
    data = {"count": count, "off": plain(results)}
    (folder / "ablation.json").write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")


_NOTE = (
    "Empty: not touched by this part. The extras were trained with the model: their rows say how much it "
    "rests on them, not what a model trained without them would do."
)

if __name__ == "__main__":
    sys.exit(main())
