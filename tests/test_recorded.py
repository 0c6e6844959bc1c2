"""What the shipped model computes, as a small golden file: likelihoods of varied streams, and generation.

    python -P tests/test_recorded.py     # writes tests/data/recorded.safetensors; only after a wanted change

The tests compute the same again from the streams in the file and compare.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from unified.tasks.registry import TASKS

import unified
from unified.decoding.guidance import Constant
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.pretrained import SHIPPED

FILE = Path(__file__).parent / "data" / "recorded.safetensors"
STREAMS = {  # name: task, index
    "question": ("scene_question", 3),
    "study": ("scene_study", 1),
    "list": ("scene_parts", 2),
    "draw": ("scene_draw", 5),
    "edit": ("scene_edit", 4),
    "conversation": ("scene_conversation", 0),
    "maze": ("maze", 2),
    "frames": ("world_frames", 1),
    "actions": ("world_actions", 2),
    "play": ("world_play", 0),
}
ORDERS = {"residual": [1, 2, 4], "raster": [(3, 5)], "diagonal": [(4, 6)], "next_scale": [1, 2, (3, 5), 16]}
GENERATED = ("draw", "edit", "question", "list")  # prompts of these streams are continued
LOGITS = 6  # predicted positions of each stream whose logits are kept, at every `STRIDE`th id
STRIDE = 7


def streams(processor: Any) -> dict[str, Tensor]:
    """Ids of the conversations, and of an image in every order."""
    found = {}
    for name, (task, index) in STREAMS.items():
        sample = TASKS[task]().sample(index, "validation")
        found[name] = torch.tensor([processor.encode(sample.messages)])
    rng, words = np.random.default_rng(0), processor.vocabulary
    for order, shapes in ORDERS.items():
        sides = [(s, s) if isinstance(s, int) else s for s in shapes]
        codes = rng.integers(words.visual, size=sum(h * w for h, w in sides)).tolist()
        image = {"type": "image", "codes": codes, "shapes": sides, "order": order}
        content = [{"type": "text", "text": "A red circle."}, image]
        chat = [{"role": "user", "content": "Draw."}, {"role": "assistant", "content": content}]
        found[f"order_{order}"] = torch.tensor([processor.stream.encode(chat)])
    return found


@torch.no_grad()
def likelihoods(model: Any, ids: Tensor) -> dict[str, Tensor]:
    """Of one stream [1, T]: log-probabilities of all that may be predicted, sums, and some logits."""
    output = model(ids, return_logits=True)
    predicted = (output.log_probs[0] != 0).nonzero().flatten()
    chosen = predicted[torch.linspace(0, len(predicted) - 1, LOGITS).long()]
    return {
        "log_probs": output.log_probs[0],
        "segment_sums": output.segment_sums[0],
        "step_sums": output.step_sums[0],
        "logits": output.logits[0, chosen, ::STRIDE].contiguous(),
    }


def prompt_of(ids: Tensor, words: Any) -> list[int]:
    """A stream up to where its first assistant turn opens."""
    row = ids[0].tolist()
    return row[: row.index(words.assistant) + 1]


@torch.no_grad()
def generated(assistant: Any, prompts: list[list[int]], greedy: bool) -> Tensor:
    """[B, T] ids, padded: the prompts continued together with words, a guided image, words, an action, an
    unguided image and words."""
    model = assistant.model
    sampler = Sampler(temperature=0) if greedy else Sampler(temperature=0.9, top_k=300, top_p=0.95)
    session = Session(model, rows=len(prompts), seed=7)
    session.feed(prompts)
    for _ in session.text(sampler=sampler, max_tokens=8, draw=False, end=False):
        pass
    session.draw([1, 2, 4, 8, 16], sampler=sampler, guidance=Constant(1.5))
    for _ in session.text(sampler=sampler, max_tokens=5, draw=False, end=False):
        pass
    session.action(sampler=sampler)
    session.draw([(16, 16)], sampler=sampler)
    only_first = [number == 0 for number in range(len(prompts))]
    session.draw([2, (3, 4)], sampler=sampler, order="residual", guidance=Constant(2.0), rows=only_first)
    for _ in session.text(sampler=sampler, max_tokens=4, draw=False, end=False):
        pass
    longest = max(map(len, session.streams))
    pad = model.vocabulary.pad
    return torch.tensor([row + [pad] * (longest - len(row)) for row in session.streams])


def verbs(assistant: Any) -> dict[str, Tensor]:
    """What the verbs give for one picture: words as bytes, pictures as they are."""

    def picture(task: str) -> np.ndarray:
        messages = TASKS[task]().sample(1, "validation").messages
        return next(i["image"] for m in messages for i in m["content"] if i["type"] == "image")

    scene, frame = picture("scene_question"), picture("world_frames")
    said = assistant.ask("How many objects are there?", image=scene)
    edited = assistant.edit(scene, "Make everything blue.", tries=1)
    frames = assistant.imagine(frame, [{"forward": 1}, {"camera": [0, 10]}, {"use": 1}])
    drawn = assistant.draw("Draw a large green square and a small red circle.")
    return {
        "ask": torch.tensor(list(said.encode()), dtype=torch.uint8),
        "edit": torch.from_numpy(edited),
        "draw": torch.from_numpy(drawn),
        "imagine": torch.from_numpy(frames),
        "act": torch.tensor([float(np.sum(value)) for _, value in sorted(assistant.act(frame).items())]),
    }


def outputs(assistant: Any, rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Everything that is compared, by name."""
    words = assistant.model.vocabulary
    found = {}
    for name, ids in rows.items():
        found |= {f"{name}.{key}": value for key, value in likelihoods(assistant.model, ids).items()}
    prompts = [prompt_of(rows[name], words) for name in GENERATED]
    found["greedy.ids"] = generated(assistant, prompts, greedy=True)
    found["seeded.ids"] = generated(assistant, prompts, greedy=False)
    return found | {f"verbs.{name}": value for name, value in verbs(assistant).items()}


pytestmark = pytest.mark.skipif(
    not (SHIPPED / "config.json").is_file(), reason="this copy ships no trained weights"
)


@pytest.fixture(scope="module")
def stored():
    return load_file(FILE)


@pytest.fixture(scope="module")
def found(stored):
    assistant = unified.load(device="cpu", dtype="float32")
    names = [*STREAMS, *(f"order_{order}" for order in ORDERS)]
    return outputs(assistant, {name: stored[f"{name}.ids"].long() for name in names})


def test_likelihoods_and_logits_are_those_recorded(stored, found):
    for name, value in found.items():
        if value.is_floating_point():
            same = torch.allclose(value, stored[name], atol=1e-4, rtol=1e-5)
            assert same, f"{name}: off by {(value - stored[name]).abs().max():.2g}"


@pytest.mark.parametrize("name", ["greedy.ids", "seeded.ids", "verbs.ask"])
def test_ids_and_words_are_those_recorded(stored, found, name):
    assert found[name].tolist() == stored[name].tolist()


@pytest.mark.parametrize("name", ["verbs.edit", "verbs.draw", "verbs.imagine"])
def test_pictures_are_those_recorded(stored, found, name):
    difference = (found[name].int() - stored[name].int()).abs()
    assert difference.max() <= 1


def main() -> None:
    assistant = unified.load(device="cpu", dtype="float32")
    rows = streams(assistant.processor)
    kept = {f"{name}.ids": ids.to(torch.int32) for name, ids in rows.items()}
    found = outputs(assistant, rows)
    found = {name: v.to(torch.int32) if v.dtype == torch.int64 else v for name, v in found.items()}
    FILE.parent.mkdir(exist_ok=True)
    save_file({**kept, **found}, FILE)


if __name__ == "__main__":
    main()
