"""The tab that plays: the real voxel world and the model's dream of it, stepped by the same keys.

Keys are held as in a game: as long as one is down, a step follows each frame that has come. `keys.js`
is the script that listens; buttons do the same for a mouse and for touch.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from unified.apps.play.keys import KNOWN, LEAVE, NEW, RECORD, WAKE, action_of
from unified.apps.play.loop import RECENT
from unified.apps.play.worlds import Worlds
from unified.web.showing import figure, figures, status
from unified.web.site import TOO_BUSY, Site, reason, seed_of

KEPT = 600  # seconds without a step after which a visitor's worlds end
BUTTONS = (
    (("Forward", "w"), ("Back", "s"), ("Left", "a"), ("Right", "d"), ("Jump", "space")),
    (("Look left", "left"), ("Look right", "right"), ("Look up", "up"), ("Look down", "down")),
    (("Dig", "j"), ("Place", "k")),
)
PAD = """<div id="play-pad" tabindex="0" role="application"
aria-label="Keys of the game: focus here, then w a s d walk, space jump, arrows look, j dig, k place">
Click or tab here, then play: w a s d walk, space jumps, arrows look, c sneak, v sprint, j dig, k place,
1-9 hotbar, n another world, b dream on from the real frame. Tab leaves.</div>"""
KEYS = (Path(__file__).parents[1] / "keys.js").read_text(encoding="utf-8")


@dataclass
class Playing:
    """A visitor's worlds, and when the latest steps were taken."""

    worlds: Worlds
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT + 1))
    busy: bool = False

    def press(self, keys: Collection[str]) -> None:
        """One step, or what keys ask for beside one."""
        if NEW in keys:
            self.worlds.another()
        elif WAKE in keys:
            self.worlds.wake()
        elif self.worlds.step(action_of(keys)):
            self.worlds.another()
        self.recent.append(time.monotonic())

    def rate(self) -> float:
        """Frames a second over the latest steps."""
        if len(self.recent) < 2:
            return 0.0
        return (len(self.recent) - 1) / max(self.recent[-1] - self.recent[0], 1e-9)

    def shown(self) -> str:
        return figures([figure(frame, name) for name, frame in self.worlds.frames.items()])


def playing_tab(site: Site) -> None:
    state = gr.State(None, time_to_live=KEPT, delete_callback=partial(_end, site))
    with gr.Row():
        seed = gr.Number(0, label="Seed of the world", precision=0, minimum=0)
        begin = gr.Button("Start", variant="primary", elem_id="play-start")
    line = gr.HTML(status("Not started."), elem_id="play-status")
    frames = gr.HTML(elem_id="play-frames")
    gr.HTML(PAD)
    presses = []
    for group in BUTTONS:
        with gr.Row():
            presses += [(gr.Button(name, size="sm", min_width=70), key) for name, key in group]
    with gr.Row():
        presses += [(gr.Button("Another world", size="sm"), NEW)]
        presses += [(gr.Button("Dream on from the real frame", size="sm"), WAKE)]
    hidden = gr.Button("Step", visible="hidden", elem_id="play-step")
    keys = gr.Textbox("", visible=False)

    async def start(old: Playing | None, seed: float) -> AsyncIterator[Any]:
        yield status("building the worlds (a minute the first time)", busy=True), gr.skip(), None
        try:
            number = seed_of(seed)
            _end(site, old)
            await asyncio.to_thread(_warm)  # compiles the voxel world, not on the model's thread
            one = await site.service.call(lambda: _opened(site, number))
            yield status("click or tab to the keys below"), one.shown(), one
        except Exception as error:
            yield status(reason(error), error=True), gr.skip(), None

    async def press(one: Playing | None, held: str) -> Any:
        pressed = frozenset(held.split()) & (KNOWN - {*LEAVE, RECORD})
        if one is None:
            return status("press Start first (worlds end after ten minutes)", error=True), gr.skip()
        if one.busy:
            return status(TOO_BUSY, error=True), gr.skip()
        one.busy = True
        try:
            await site.service.call(lambda: one.press(pressed))
            said = f"step {one.worlds.steps}, world {one.worlds.seed}, {one.rate():.1f} frames/s"
            return status(said), one.shown()
        except Exception as error:
            return status(reason(error), error=True), gr.skip()
        finally:
            one.busy = False

    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    begin.click(start, [state, seed], [line, frames, state], **quiet)
    listen = "(state, keys) => [state, window.unifiedKeys()]"
    stepped = hidden.click(press, [state, keys], [line, frames], js=listen, concurrency_limit=8, **quiet)
    stepped.then(None, js="() => window.unifiedStepped()", **quiet)
    for button, key in presses:
        button.click(press, [state, gr.State(key)], [line, frames], concurrency_limit=8, **quiet)


def _opened(site: Site, seed: int) -> Playing:
    """New worlds, on the model's thread. ValueError where the server has no room for more."""
    limit = site.service.limits.all_worlds
    if len(site.open_worlds) >= limit:
        raise ValueError(f"the server plays at most {limit} worlds at once: come back in some minutes")
    side = site.service.assistant.side
    made = Playing(Worlds(site.assistant(seed), (side, side), seed=seed))
    site.open_worlds.add(id(made))
    return made


def _end(site: Site, one: Playing | None) -> None:
    if one is not None and id(one) in site.open_worlds:
        site.open_worlds.discard(id(one))
        one.worlds.close()


def _warm() -> None:
    from unified.envs.voxel import VoxelEnv

    with_frame = VoxelEnv(height=16, width=16)
    with_frame.reset(seed=0)
    with_frame.step({})
    with_frame.close()
