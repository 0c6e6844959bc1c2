"""A one-minute tour: look, draw, edit, solve a maze with sketches, walk through an imagined world, chat.

Where no trained weights are at hand, the model is tiny and random: what it says and draws is noise, but it
comes from the same sessions, plans, guidance, sampler and decoder.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from unified.apps.answering import GenerationSettings, Turn
from unified.apps.assistant import DRAWING, EDITING, Assistant, images_of, load
from unified.apps.commands.common import save_animation
from unified.apps.conversation import Conversation, Painted, Scale, Text
from unified.apps.looking import LOOK_PROMPT, LOOKING, THINK_PROMPT
from unified.decoding.editing import keep
from unified.decoding.session import Session
from unified.model import UnifiedConfig, UnifiedModel
from unified.orders import plan_for
from unified.pretrained import SHIPPED
from unified.stream.processor import Processor
from unified.tokenizers.action import ActionTokenizer
from unified.tokenizers.text import byte_tokenizer
from unified.tokenizers.vq import VQConfig, VQTokenizer

TILE, GAP = 128, 6
PROMPT = (
    "Draw a large solid red circle in the top left and a small outlined blue star in the bottom right, "
    "on a grey background."
)
WALK = [{"forward": 1}] * 12 + [{"camera": [0.0, 12.0]}] * 8 + [{"forward": 1, "camera": [0.0, 3.0]}] * 12
Row = tuple[str, list[np.ndarray]]


def random_model(seed: int = 0) -> tuple[UnifiedModel, Processor]:
    """A tiny model and matching tokenizers with random weights."""
    torch.manual_seed(seed)
    visual, action = VQTokenizer(VQConfig()).eval(), ActionTokenizer()
    orders = ["next_scale", "residual", "raster", "diagonal"]  # the ids are laid out as the shipped model's
    vocabulary: dict[str, Any] = {"visual": visual.codes, "action": action.size, "action_slots": action.slots}
    vocabulary |= {"orders": orders, "merge": 4}
    extras: dict[str, Any] = {"reference": {}, "copy_gate": {}, "own_state": {}}
    config = UnifiedConfig(vocabulary=vocabulary, extras=extras, initializer_range=0.1)
    model = UnifiedModel(config).eval()
    return model, Processor(model.vocabulary, byte_tokenizer(), visual, action)


def demo(options: argparse.Namespace) -> int:
    """`unified demo`."""
    run(options.out, options.seed, model=options.model, device=options.device, dtype=options.dtype)
    return 0


def run(folder: Path, seed: int = 0, **options: Any) -> list[Path]:
    """Run the tour, print it, and write its pictures into `folder`. `options` as of `assistant.load`; without
    a model and without shipped weights the random one."""
    folder.mkdir(parents=True, exist_ok=True)
    shipped = (SHIPPED / "config.json").is_file()
    trained = options.get("model") is not None or shipped
    guide = load(**options, seed=seed) if trained else Assistant(*random_model(seed), seed=seed)
    parameters = sum(p.numel() for p in guide.model.parameters())
    parameters += sum(p.numel() for p in guide.visual.parameters())
    note = f"from {guide.folder}" if trained else "RANDOM weights: what it says and draws is noise"
    print(f"Model: {parameters:,} parameters, {note}.\n")
    scales, rows = _talk(guide, seed)
    rows.append(_maze(guide, seed, trained))
    frames, row = _walk(guide, seed)
    rows.append(row)
    rows.append(_paint(guide, rows[1][1][-1]))
    written = [folder / "drawing.png", folder / "contact_sheet.png", folder / "walk.gif"]
    strip([("the drawing after each scale", scales)]).save(written[0])
    strip(rows).save(written[1])
    save_animation(frames, written[2])
    print(f"\nWrote {written[0]} (the drawing after each scale), {written[1]} (every picture above)")
    print(f"and {written[2]} (the imagined walk, animated).")
    return written


def _talk(guide: Assistant, seed: int) -> tuple[list[np.ndarray], list[Row]]:
    """Conversations: questions about a picture, a drawing, an edit. The maps of the drawing, and rows."""
    from unified.tasks.scenes import random_scene, render
    from unified.tasks.scenes.editing import KINDS, instruct
    from unified.tasks.scenes.generate import Wish

    rng = np.random.default_rng(seed + 5)
    scene = random_scene(rng, "test", Wish(least=2, most=3))
    picture = render(scene, guide.side)
    edits = (instruct(rng, scene, "test", kind) for kind in KINDS)
    change = next(found.text for found in edits if found)  # every scene has something to remove
    study = guide.chat()
    limits: dict[str, Any] = {"allow_images": False, "max_tokens": 48}
    _said(study, LOOK_PROMPT, "[a picture of shapes] ", [picture], **vars(LOOKING))
    _said(study, f"How many objects are there? {THINK_PROMPT}", **{**limits, "max_tokens": 128})
    described = _said(study, "Describe the shapes and their colours.", **limits)
    _said(guide.chat(), "What will the weather be in Oslo tomorrow?", **limits)
    drawn = _said(guide.chat(), PROMPT, **vars(DRAWING))
    edited = _said(guide.chat(), change, "[the first picture] ", [picture], **vars(EDITING))
    rows = [
        (f"asked to describe it: {described.text}", [picture]),
        (f"step by step: {PROMPT}", drawn.pictures),
        (f"{change} (before, after)", [picture, *edited.pictures]),
    ]
    return drawn.scales or drawn.pictures[-1:], rows


@dataclass
class Answer:
    """An answer: its words, its pictures [H, W, 3], and the last of them after each scale."""

    text: str = ""
    pictures: list[np.ndarray] = field(default_factory=list)
    scales: list[np.ndarray] = field(default_factory=list)


def _said(
    talk: Conversation, text: str, shown: str = "", images: Iterable[np.ndarray] = (), **changes: Any
) -> Answer:
    """Say it, print both sides as they come, and return the answer."""
    print(f"you: {shown}{text}\nmodel: ", end="", flush=True)
    answer = Answer()
    for event in talk.say(text, list(images), **changes):
        if isinstance(event, Text):
            answer.text += _printable(event.text)
            print(_printable(event.text), end="", flush=True)
        elif isinstance(event, Scale):
            print(f" {event.step}/{event.steps}", end="", flush=True)
            answer.scales = [] if event.step == 1 else answer.scales
            answer.scales += [event.image] if event.image is not None else []
        elif isinstance(event, Painted):
            answer.pictures.append(event.image)
            print(f" [a picture of {event.image.shape[1]} x {event.image.shape[0]} pixels] ", end="")
    print("\n")
    return answer


def _maze(guide: Assistant, seed: int, trained: bool) -> Row:
    """A maze solved with sketches; noise needs no long trace."""
    from unified.tasks.mazes import MazeConfig, MazeTask

    config = MazeConfig(seed=seed, image_size=guide.side, sizes=((4, 4),))
    sample = MazeTask(config).sample(0, "test")
    maze = sample.messages[0]["content"][0]["image"]
    print("you: [a maze] Find the actions that lead from the green arrow to the red disc.\nmodel: ", end="")
    if trained:
        solution = guide.solve(maze)
        text, sketches = solution.text, solution.sketches
    else:  # a random model never says </actions>: let it draw at once
        session = Session(guide.model, seed=seed)
        session.feed(guide.processor.encode(sample.messages[:1], prompt=True))
        turn = Turn(
            session, guide.processor, guide.shapes(maze.shape[:2]), GenerationSettings(image_only=True)
        )
        for _ in turn.events():
            pass
        text, sketches = "", images_of(turn.content(0))
    print(f"{_printable(text)}\n[{len(sketches)} sketches]")
    right = MazeTask(config).score(sample, [{"type": "text", "text": text}])["goal_reached"]
    print(f"(walked through the maze, these actions {'reach' if right else 'do not reach'} the goal)\n")
    return "a maze and the sketches drawn while solving it", [maze, *sketches]


def _walk(guide: Assistant, seed: int) -> tuple[list[np.ndarray], Row]:
    """A walk imagined from the first frame of the voxel world (a drawn picture where numba is missing)."""
    try:
        from unified.envs.voxel import VoxelEnv

        env = VoxelEnv(width=guide.side, height=guide.side, world_size=(32, 32, 32))
        first = env.reset(seed=seed)[0]["pov"]
    except ImportError as error:
        print(f"({error}: the walk starts from a drawn picture)")
        first = guide.draw("Draw a green square.")
    print("you: [a frame of the voxel world] walk on, look right, walk on: 32 actions")
    frames = [first, *guide.imagine(first, WALK)]
    print(f"model: [{len(frames) - 1} imagined frames]\n")
    return frames, ("imagined from its first frame and 32 actions, every fourth", frames[::4])


def _paint(guide: Assistant, drawing: np.ndarray) -> Row:
    """In-painting without training: the left half keeps its codes, the right half is drawn anew."""
    item = guide.processor.image_item(drawing, drawn=True)
    shapes = guide.shapes((drawing.shape[0], drawing.shape[1]))
    session = Session(guide.model, seed=guide.seed + 1)
    session.feed(guide.processor.encode([{"role": "user", "content": "Draw a blue star."}], prompt=True))
    mask = torch.zeros(shapes[-1])
    mask[:, : shapes[-1][1] // 2] = 1
    plan = plan_for(guide.processor.order, shapes)
    hook = keep(plan, torch.tensor(item["codes"]), mask)
    painted = session.draw(shapes, order=guide.processor.order, hook=hook)
    codes = painted.read()[0].tolist()
    picture = guide.processor.picture({"codes": codes, "shapes": painted.plan.read_shapes})
    print("you: keep the left half of the drawing, paint the right half anew\nmodel: [a picture]")
    return "left half kept, right half painted anew (no training for this)", [drawing, picture]


def strip(rows: list[Row]) -> Image.Image:
    """Rows of pictures under a line of words each."""
    line, most = 20, max(len(pictures) for _, pictures in rows)
    width = max(most * (TILE + GAP) + GAP, 560)
    sheet = Image.new("RGB", (width, len(rows) * (TILE + line + 2 * GAP) + GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for number, (words, pictures) in enumerate(rows):
        top = number * (TILE + line + 2 * GAP) + GAP
        draw.text((GAP, top), _printable(words)[:100], fill="black", font=font)
        for place, picture in enumerate(pictures):
            tile = Image.fromarray(picture).resize((TILE, TILE), Image.Resampling.NEAREST)
            sheet.paste(tile, (GAP + place * (TILE + GAP), top + line))
    return sheet


def _printable(text: str) -> str:
    """One line without control characters, which a random model likes to say."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
