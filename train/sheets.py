"""Sample sheets: what the model answers and draws for a few held-out prompts, as a picture, during
training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback
from unified.tasks.sample import Sample
from unified.tasks.show import sheet

from unified.decoding.guidance import Constant
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.model import UnifiedModel
from unified.stream.processor import Processor

MOST_TOKENS, MOST_IMAGES = 96, 4


class Sheets(TrainerCallback):
    """Every `every` steps a sheet of answers to `samples` goes to `folder`. `weights`, called on every
    process, gives the weights in full; `build` makes a model of them, on the first process, which draws."""

    def __init__(
        self,
        samples: Sequence[Sample],
        processor: Processor,
        weights: Callable[[], dict[str, torch.Tensor]],
        build: Callable[[dict[str, torch.Tensor]], UnifiedModel],
        folder: Path,
        every: int,
    ) -> None:
        self.samples, self.processor = samples, processor
        self.weights, self.build, self.folder, self.every = weights, build, folder, every

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step % self.every:
            return
        found = self.weights()
        if state.is_world_process_zero:
            model = self.build(found)
            draw_sheet(model, self.processor, self.samples, self.folder, state.global_step)


def draw_sheet(
    model: UnifiedModel, processor: Processor, samples: Sequence[Sample], folder: Path, step: int
) -> Path:
    """One sheet; a prompt that cannot be answered is a fault and raises."""
    answered = [answer(model, processor, sample) for sample in samples]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step-{step:07d}.png"
    sheet(answered, f"step {step}").save(path)
    return path


def answer(model: UnifiedModel, processor: Processor, sample: Sample, *, seed: int = 0) -> Sample:
    """The sample with its last turn answered by the model: text and drawings as it chooses, or an action
    where the true answer is one."""
    prompt = list(sample.messages[:-1])
    session = Session(model, seed=seed)
    session.feed(processor.encode(prompt, prompt=True))
    truth = sample.messages[-1]["content"]
    if truth[0]["type"] == "action":
        content = [_act(session, processor)]
    else:
        content = _talk(session, processor, _grid(sample, processor))
    content = content or [{"type": "text", "text": "(nothing)"}]
    return Sample(task=sample.task, messages=[*prompt, {"role": "assistant", "content": content}], meta={})


def _act(session: Session, processor: Processor) -> dict[str, Any]:
    ids = session.action(sampler=Sampler(temperature=0), choices=processor.action.choices)  # type: ignore[union-attr]
    return {"type": "action", "action": processor.actions(ids.tolist())[0]}


def _talk(session: Session, processor: Processor, grid: tuple[int, int]) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = []
    for _ in range(MOST_IMAGES + 1):
        said = [row[0] for row in session.text(sampler=Sampler(temperature=0), max_tokens=MOST_TOKENS)]
        words = [t for t in said if t is not None and processor.vocabulary.is_text(t)]
        if words:
            content.append({"type": "text", "text": str(processor.stream.text.decode(words))})
        drawn = sum(item["type"] == "image" for item in content)
        if session.stopped()[0] != "write" or drawn == MOST_IMAGES:
            break
        drawing = session.draw(processor.schedule(grid), guidance=Constant(2.0), sampler=Sampler(top_k=50))
        item = {"codes": drawing.read()[0].tolist(), "shapes": drawing.plan.read_shapes}
        content.append({"type": "image", "image": processor.picture(item)})
    return content


def _grid(sample: Sample, processor: Processor) -> tuple[int, int]:
    """The grid of the last picture in a sample; of 64 x 64 pixels where it shows none."""
    stride = processor.visual.stride  # type: ignore[union-attr]
    shown = [item["image"] for m in sample.messages for item in m["content"] if item["type"] == "image"]
    height, width = shown[-1].shape[:2] if shown else (64, 64)
    return max(height // stride, 1), max(width // stride, 1)
