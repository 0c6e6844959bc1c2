"""The arms: what a model is taught to say and draw of a maze, and what it is given instead."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from unified.tasks.mazes.chart import chart
from unified.tasks.mazes.fill_task import FillConfig, MazeFillTask
from unified.tasks.mazes.maze_task import maze_of
from unified.train.experiments.sketchpad import results
from unified.train.experiments.sketchpad.codec import ModelSize, start
from unified.train.experiments.sketchpad.latents import model as latents
from unified.train.experiments.sketchpad.latents.solving import solved as solved_in_latents
from unified.train.experiments.sketchpad.latents.training import train as train_latents
from unified.train.experiments.sketchpad.solving import SHOWN, Mazes, solved
from unified.train.experiments.sketchpad.traces import FORMS, PROMPTS
from unified.train.experiments.sketchpad.training import Budget, Spent, train

from unified.pretrained import load_model, save_model

TEXTS = 200  # mazes whose words the text tokenizer is learned from


@dataclass(frozen=True)
class Arm:
    """`form`: one of `traces.FORMS`; `shown`: the sketches it is tested with; `timed`: it is trained for as
    many seconds as the arm of that name took, in place of as many steps; `medium`: one of `MEDIA`, what its
    sketches are made of; `smaller`: how many times smaller its batches are, where a piece costs more;
    `rate`: its learning rate, if it is not the budget's."""

    what: str
    form: str
    shown: tuple[str, ...] = SHOWN
    timed: str = ""
    medium: str = "codes"
    smaller: int = 1
    rate: float | None = None


ARMS = {
    "words": Arm("all actions at once, in words alone", "words", ("own",)),
    "words_time": Arm("the same, for the seconds of `fill`", "words", ("own",), "fill"),
    "chart": Arm("a chart and a search in words, then the actions", "chart", ("own",)),
    "chart_time": Arm("the same, for the seconds of `fill`", "chart", ("own",), "fill"),
    "path": Arm("(a) every sketch extends the path by a stretch, which is then told", "path"),
    "fill": Arm("(b) sketches fill dead ends, then walk; actions are read off them", "fill"),
    "latents": Arm(
        "as path, its sketches latents of its own vision encoder",
        "path",
        medium="latents",
        smaller=8,
        rate=1e-3,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all arms share."""

    size: ModelSize = field(default_factory=ModelSize)
    budget: Budget = field(default_factory=Budget)
    mazes: Mazes = field(default_factory=Mazes)
    out: Path = Path("docs/sketchpad")
    work: Path = Path("runs/sketchpad")
    latents: latents.LatentSize = field(default_factory=latents.LatentSize)


TOY = Setting(
    size=ModelSize(width=32, layers=1, heads=2, channels=8),
    budget=Budget(traces=8, pairs=3, pair_batch=4, steps=3, batch=2, page=2),
    mazes=Mazes(sizes=(3, 6), count=2, sketches=4, words=16),
    latents=latents.LatentSize(width=32, layers=1, heads=2, vision=32, depth=(1, 1)),
)


def run(name: str, seed: int, setting: Setting) -> dict[str, Any]:
    """Train an arm with one seed, unless its model is there, and measure what is not measured yet; nothing is
    trained where all is measured. The result is written after every size, and returned. ValueError for an
    arm that waits for another."""
    arm, path = ARMS[name], setting.out / f"{name}-{seed}.json"
    folder = setting.work / f"{name}-{seed}"
    found = _begun(path)
    if _measured(found, arm, setting):
        return found
    if "spent" not in found or not (folder / "model.safetensors").is_file():
        found = {"arm": name, "what": arm.what, "seed": seed, "solved": {}}
        found |= _trained(arm, seed, setting, folder)
        results.write(path, found)
    medium = MEDIA[arm.medium]
    model, processor = medium.load(folder)
    for shown in arm.shown:
        measured = found["solved"].setdefault(shown, {})
        for size in setting.mazes.sizes:
            if str(size) not in measured:
                how = {"page": setting.budget.page, "seed": seed}
                measured[str(size)] = medium.solved(
                    model, processor, arm.form, shown, size, setting.mazes, **how
                )
                results.write(path, found)
                right = measured[str(size)]["success"] / measured[str(size)]["mazes"]
                print(f"{name}, seed {seed}, {shown} sketches, {size}x{size}: {right:.0%}", flush=True)
    return found


def _measured(found: Mapping[str, Any], arm: Arm, setting: Setting) -> bool:
    """Whether a result holds all sizes with all sketches of its arm."""
    solved = found.get("solved", {})
    return all(str(size) in solved.get(shown, {}) for shown in arm.shown for size in setting.mazes.sizes)


def _trained(arm: Arm, seed: int, setting: Setting, folder: Path) -> dict[str, Any]:
    budget = setting.budget
    if arm.smaller > 1:
        batches = (max(1, rows // arm.smaller) for rows in (budget.pair_batch, budget.batch))
        budget = replace(budget, **dict(zip(("pair_batch", "batch"), batches, strict=True)))
    if arm.rate is not None:
        budget = replace(budget, rate=arm.rate)
    if arm.timed:
        before = _begun(setting.out / f"{arm.timed}-{seed}.json")
        if "spent" not in before:
            raise ValueError(f"this arm trains as long as {arm.timed} with seed {seed}: run that first")
        budget = replace(budget, seconds=before["spent"]["seconds"], steps=10**6, pairs=0)
    made = MEDIA[arm.medium].trained(arm.form, seed, setting, budget, folder)
    sizes: dict[str, Any] = {"size": asdict(made.size), "budget": asdict(budget)}
    return {"parameters": made.parameters, "spent": asdict(made.spent), **sizes}


@dataclass(frozen=True)
class Trained:
    """What is told of a model that was trained and saved."""

    parameters: int
    spent: Spent
    size: Any


@dataclass(frozen=True)
class Medium:
    """`trained`: makes, trains and saves a model, of form, seed, setting, budget and folder; `load`: of a
    folder, what `solved` asks."""

    trained: Callable[[str, int, Setting, Budget, Path], Trained]
    load: Callable[[Path], tuple[Any, Any]]
    solved: Callable[..., dict[str, Any]]


def _trained_in_codes(form: str, seed: int, setting: Setting, budget: Budget, folder: Path) -> Trained:
    model, processor = start(texts(), setting.size, seed)
    spent = train(model, processor.stream, form, MazeFillTask(), budget, seed)
    save_model(folder, model, processor)
    return Trained(sum(p.numel() for p in model.parameters()), spent, setting.size)


def _trained_in_latents(form: str, seed: int, setting: Setting, budget: Budget, folder: Path) -> Trained:
    pad, processor = latents.start(texts(), setting.latents, budget.page + 1, seed)
    spent = train_latents(pad, processor, form, MazeFillTask(), budget, seed)
    latents.save(folder, pad, processor)
    return Trained(latents.count_parameters(pad), spent, setting.latents)


MEDIA = {
    "codes": Medium(_trained_in_codes, load_model, solved),
    "latents": Medium(_trained_in_latents, latents.load, solved_in_latents),
}


def texts() -> list[str]:
    """What all arms say of some mazes of the training split."""
    task, found = MazeFillTask(FillConfig()), list(PROMPTS.values())
    for number in range(TEXTS):
        sample = task.sample(number)
        for form in ("words", "fill"):
            rng = np.random.default_rng(number)
            found += [item["text"] for item in FORMS[form](sample, rng) if item["type"] == "text"]
        found.append(chart(maze_of(sample)))
    return found


def _begun(path: Path) -> dict[str, Any]:
    """What is known of an arm already, {} if nothing."""
    if not path.is_file():
        return {}
    found = {result["arm"] + str(result["seed"]): result for result in results.read(path.parent)}
    return next((one for one in found.values() if path.stem == f"{one['arm']}-{one['seed']}"), {})


def arms_of(names: Sequence[str]) -> list[str]:
    """The names of arms, all of them for none. ValueError for an unknown one."""
    for name in names:
        if name not in ARMS:
            raise ValueError(f"unknown arm {name!r}: choose from {', '.join(ARMS)}")
    return list(names) or list(ARMS)
