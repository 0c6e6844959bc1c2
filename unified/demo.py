"""A tour of the generation path: a question, a drawn image step by step, an in-painted one.

Until a trained default model ships, the model is small and randomly initialised: what it says and draws is
noise, but it comes from the real session, plans, guidance, sampler and decoder.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from unified.editing import keep
from unified.guidance import Constant
from unified.model import UnifiedConfig, UnifiedModel
from unified.processor import Processor
from unified.sampling import Sampler
from unified.session import Drawing, Session
from unified.tokenizers.text import byte_tokenizer
from unified.tokenizers.vq import VQConfig, VQTokenizer

GRID = (4, 4)


def random_model(seed: int = 0) -> tuple[UnifiedModel, Processor]:
    """A tiny model and matching tokenizers with random weights."""
    torch.manual_seed(seed)
    visual = VQTokenizer(VQConfig()).eval()
    vocabulary = {"visual": visual.codes}
    model = UnifiedModel(UnifiedConfig(vocabulary=vocabulary, initializer_range=0.1)).eval()
    return model, Processor(model.vocabulary, byte_tokenizer(), visual)


def run(folder: Path, seed: int = 0) -> list[Path]:
    """Run the tour, print it, and write its pictures into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    model, processor = random_model(seed)
    parameters = sum(p.numel() for p in model.parameters())
    print(f"Model: {parameters:,} parameters, RANDOM weights: what it says and draws is noise.")
    session = Session(model, seed=seed)
    _ask(session, processor)
    drawing = _draw(session, processor)
    painted = _paint(session, processor, drawing)
    rows = [*_scales(processor, drawing), _picture(processor, painted)]
    path = folder / "drawing.png"
    _sheet(rows).save(path)
    print(f"The conversation as ids: {len(session.streams[0])} of them, read back as")
    print("  " + processor.stream.print(session.streams[0])[:160] + " ...")
    print(f"Wrote {path}: the drawing after each scale, then the in-painted one.")
    return [path]


def _ask(session: Session, processor: Processor) -> None:
    question = "What is the capital of the sea?"
    print(f"user: {question}")
    session.feed(processor.encode([{"role": "user", "content": question}], prompt=True))
    said = [row[0] for row in session.text(max_tokens=24, draw=False)]
    words = [token for token in said if token is not None and token < processor.vocabulary.text]
    print(f"assistant: {processor.stream.text.decode(words)!r}")
    if session.stopped()[0] != "end":
        session.feed([processor.vocabulary.end])


def _draw(session: Session, processor: Processor) -> Drawing:
    request = "Draw a red circle."
    print(f"user: {request}")
    session.feed([*processor.turn({"role": "user", "content": request}), processor.vocabulary.assistant])
    shapes = processor.schedule(GRID)
    for choice in session.image(shapes, guidance=Constant(2.0), sampler=Sampler(top_k=50)):
        print(f"assistant: drew {len(choice.slots)} codes, map {shapes[choice.step]}")
    session.feed([processor.vocabulary.end])
    return session.drawing


def _paint(session: Session, processor: Processor, drawing: Drawing) -> Drawing:
    request = "Change its right half."
    print(f"user: {request}")
    session.feed([*processor.turn({"role": "user", "content": request}), processor.vocabulary.assistant])
    mask = torch.zeros(GRID)
    mask[:, : GRID[1] // 2] = 1
    hook = keep(drawing.plan, drawing.codes[0], mask)
    painted = session.draw(drawing.plan.shapes, hook=hook)
    kept = int((painted.read() == drawing.read()).sum())
    print(f"assistant: painted again, {kept} of {painted.read().numel()} final codes as before")
    session.feed([processor.vocabulary.end])
    return painted


def _scales(processor: Processor, drawing: Drawing) -> list[np.ndarray]:
    items = zip(drawing.maps(), drawing.plan.shapes, strict=True)
    return [processor.picture({"codes": codes[0].tolist(), "shapes": [shape]}) for codes, shape in items]


def _picture(processor: Processor, drawing: Drawing) -> np.ndarray:
    shapes = drawing.plan.read_shapes
    return processor.picture({"codes": drawing.read()[0].tolist(), "shapes": shapes})


def _sheet(pictures: list[np.ndarray], side: int = 128) -> Image.Image:
    sheet = Image.new("RGB", (side * len(pictures) + 4 * (len(pictures) - 1), side), "white")
    for number, picture in enumerate(pictures):
        tile = Image.fromarray(picture).resize((side, side), Image.Resampling.NEAREST)
        sheet.paste(tile, (number * (side + 4), 0))
    return sheet
