"""Harmon and Skywork UniPic as a folder: a prompt -> an image; UniPic also edits.

    config.json      "model_type": "harmon" or "unipic"; "transformer": a released size, or {"num_heads": of
                     MAR, "llm": options of the Qwen2}; "tokenizer": "kl16", or {"scale": ...} (`latents.py`);
                     "side": of an image in pixels, "steps", "edit_steps", "frame": the turn
                     around a prompt
    transformer.*    the weights under their published names (llm.*, mar.*, proj_in.*, proj_out.*; those of a
                     second vision tower and of the autoencoder, vae.* and siglip2.*, are passed over)
    tokenizer.*      the autoencoder, or a folder of diffusers
    tokenizer.json   the text tokenizer, as transformers saves it (released: that of Qwen2.5)

Prompts are those of the released data: "Generate an image: ..." and, for the null branch, "Generate an
image."; "Repeat this image." for edits. An edit's picture stands before its instruction. Wu et al., arXiv
2503.21979; Wang et al., arXiv 2508.03320. Tests: tests/unified/text_to_image/test_harmon.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unified.checkpoints.harmon import network
from unified.checkpoints.harmon.network import IMAGE, Harmon, Prompts
from unified.checkpoints.harmon.sampling import sample
from unified.checkpoints.mar.network import to_images, to_tokens
from unified.checkpoints.mar.sampling import MaskedDecoding
from unified.checkpoints.unipic.editing import sample as sample_edit
from unified.checkpoints.unipic.editing import source_image
from unified.decoding.noise import PositionNoise
from unified.decoding.sampling import Sampler
from unified.finite import check_count, check_number
from unified.orders import Plan, plan_for
from unified.orders.masked_schedule import shuffled_orders
from unified.orders.shapes import Shape
from unified.text_files import content_of
from unified.text_to_image.folder import CONFIG, PublishedFolder
from unified.text_to_image.latents import TOKENIZERS, load_autoencoder
from unified.text_to_image.settings import DrawSettings
from unified.tokenizers.images import resized, to_uint8
from unified.tokenizers.text import load_text_tokenizer

QWEN = {"num_key_value_heads": 2, "vocab_size": 151936, "rope_theta": 1e6, "rms_norm_eps": 1e-6}
SMALL = {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14}
LARGE = {"hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12}
TRANSFORMERS = {
    "0.5B": {"num_heads": 12, "llm": {**QWEN, **SMALL}},
    "1.5B": {"num_heads": 16, "llm": {**QWEN, **LARGE}},
}
SIDES = {"harmon": 512, "unipic": 1024}  # released, in pixels
STEPS, EDIT_STEPS, EDIT_TEMPERATURE = 64, 32, 0.85
PASSED_OVER = ("vae.", "siglip2.")
FRAME = "<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
DRAW, DRAW_NULL, EDIT_NULL = "Generate an image: {text}", "Generate an image.", "Repeat this image."


@dataclass(frozen=True)
class TextFrame:
    """A text tokenizer, and the turn around a prompt: `frame` holds {text} once."""

    tokenizer: Any
    frame: str = FRAME

    def __post_init__(self) -> None:
        if self.frame.count("{text}") != 1:
            raise ValueError(f"frame must hold {{text}} once, got {self.frame!r:.80}")

    def ids(self, text: str, rows: int = 0) -> list[int]:
        """The turn of a text, `rows` image positions and a line's end before it. Special tokens that the text
        spells are text."""
        before, after = self.frame.split("{text}")
        image = [*[IMAGE] * rows, *self._ids("\n")] if rows else []
        said: list[int] = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids
        return [*self._ids(before), *image, *said, *self._ids(after)]

    def _ids(self, text: str) -> list[int]:
        found: list[int] = self.tokenizer(text, add_special_tokens=False).input_ids if text else []
        return found


class HarmonDrawer:
    """A model, the autoencoder whose latents it writes, times `scale`, and its text tokenizer. `side`: pixels
    of an image unless another size is asked for; `steps` of drawing and of editing."""

    def __init__(
        self,
        family: str,
        model: Harmon,
        autoencoder: Any,
        text: TextFrame,
        scale: float,
        side: int,
        steps: tuple[int, int],
    ) -> None:
        self.family, self.model, self.autoencoder, self.text = family, model, autoencoder, text
        self.scale, self.side, self.steps = scale, side, steps
        self.defaults = DrawSettings(guidance=3.0)
        channels = model.mar.config.channels
        self.patch = math.isqrt(channels // autoencoder.channels)
        if self.patch**2 * autoencoder.channels != channels:
            raise ValueError(
                f"the transformer writes tokens of {channels} values, which are no square of latents of "
                f"{autoencoder.channels} channels"
            )
        self.stride = self.patch * autoencoder.stride  # pixels of a token
        self.plan()

    @property
    def layer_count(self) -> int:
        return int(sum(self.model.mar.config.depth)) + int(self.model.llm.config.num_hidden_layers)

    def plan(self, size: tuple[int, int] | None = None) -> Plan:
        """ValueError for sides that are no multiples of a token's."""
        return plan_for("raster", (self._grid(size),))

    def _grid(self, size: tuple[int, int] | None) -> Shape:
        height, width = size or (self.side, self.side)
        if min(height, width) < 1 or height % self.stride or width % self.stride:
            raise ValueError(f"this model draws multiples of {self.stride} pixels, got {height}x{width}")
        return height // self.stride, width // self.stride

    @torch.no_grad()
    def draw(self, prompt: str, settings: DrawSettings) -> Tensor:
        """[3, H, W]. ValueError for an empty prompt."""
        grid, told = self._grid(settings.size), [DRAW.format(text=_said(prompt))]
        how = self._how(self.steps[0], settings, grid)
        prompts = self._prompts([*told, DRAW_NULL][: 1 + (how.scale != 1)])
        noise = PositionNoise([settings.seed])
        tokens = sample(self.model, prompts, self._orders(grid, settings.seed), grid, noise, how)
        return self._image(tokens, grid)

    def _how(self, steps: int, settings: DrawSettings, grid: Shape) -> MaskedDecoding:
        return MaskedDecoding(
            steps=min(steps, grid[0] * grid[1]),
            scale=settings.guidance,
            linear=False,
            temperature=settings.sampler.temperature,
        )

    def _orders(self, grid: Shape, seed: int) -> Tensor:
        return shuffled_orders(1, (grid[0] * grid[1],), seed).to(self.model.mar.mask_token.device)

    def _prompts(self, texts: Sequence[str], rows: int = 0) -> Prompts:
        """Padded on the right."""
        lists = [self.text.ids(text, rows) for text in texts]
        longest, device = max(map(len, lists)), self.model.mar.mask_token.device
        ids = torch.tensor([[*one, *[0] * (longest - len(one))] for one in lists], device=device)
        lengths = torch.tensor([len(one) for one in lists], device=device)
        return Prompts(ids, torch.arange(longest, device=device) < lengths[:, None], image=IMAGE)

    def _image(self, tokens: Tensor, grid: Shape) -> Tensor:
        latent = to_images(tokens.float(), grid[0], self.patch) / self.scale
        found: Tensor = self.autoencoder.decode(latent)[0].float()
        return found

    def describe(self) -> dict[str, Any]:
        llm = self.model.llm.config
        sizes = {"width": llm.hidden_size, "layers": self.layer_count, "side": self.side}
        return {**sizes, "latent_channels": self.autoencoder.channels, "stride": self.autoencoder.stride}


class UniPicDrawer(HarmonDrawer):
    """It also edits."""

    draws = True

    @torch.no_grad()
    def edit(self, picture: np.ndarray, instruction: str, settings: DrawSettings) -> np.ndarray:
        """A picture uint8 [H, W, 3] -> edited: in the nearest multiples of a token's side, then in its own
        size. ValueError for an empty instruction."""
        own: tuple[int, int] = picture.shape[:2]  # type: ignore[assignment]
        if not isinstance(instruction, str):
            raise ValueError("this model is told an instruction in words")
        height, width = (max(self.stride, round(side / self.stride) * self.stride) for side in own)
        device = self.model.mar.mask_token.device
        shown = resized(picture, lambda *_: (height, width)).to(device)
        grid = self._grid((height, width))
        latent = self.autoencoder.encode(shown).mean * self.scale
        source = source_image(self.model, to_tokens(latent, self.patch), grid)
        how = self._how(self.steps[1], settings, grid)
        rows = source.rows.shape[1]
        prompts = self._prompts([_said(instruction), EDIT_NULL][: 1 + (how.scale != 1)], rows)
        orders, noise = self._orders(grid, settings.seed), PositionNoise([settings.seed])
        tokens = sample_edit(self.model, prompts, source, orders, grid, noise, how)
        edited = to_uint8(self._image(tokens, grid)[None])[0]
        return to_uint8(resized(edited, lambda *_: own))[0] if (height, width) != own else edited

    def edit_settings(self, settings: DrawSettings, temperature: float | None) -> DrawSettings:
        """With the published temperature of edits unless another is asked for."""
        chosen = EDIT_TEMPERATURE if temperature is None else temperature
        return replace(settings, sampler=Sampler(temperature=chosen))


def _said(text: str) -> str:
    if not text.strip():
        raise ValueError("the prompt is empty")
    return text.strip()


def load(folder: PublishedFolder, *, device: Any = "cpu", dtype: Any = torch.float32) -> HarmonDrawer:
    """ValueError, in one line, for what is missing or does not fit. Everything stays in float32, as of
    `latents.load`: `dtype` is not used."""
    folder.check_keys("steps", "edit_steps", "side", "frame")
    family = str(folder.config["model_type"])
    with content_of(folder.path / CONFIG):
        heads, llm = _sizes(folder)
        scale = folder.options("tokenizer", TOKENIZERS).get("scale", network.LATENT_SCALE)
        check_number("scale", scale)
        if not scale:
            raise ValueError("scale must not be 0")
        steps = folder.config.get("steps", STEPS), folder.config.get("edit_steps", EDIT_STEPS)
        side = folder.config.get("side", SIDES[family])
        for name, count in (("steps", steps[0]), ("edit_steps", steps[1]), ("side", side)):
            check_count(name, count, 1)
        frame = folder.config.get("frame", FRAME)
        if not isinstance(frame, str):
            raise ValueError(f"frame must be a text, got {frame!r:.60}")
    with content_of(folder.path):
        state = {n: v for n, v in folder.weights("transformer").items() if not n.startswith(PASSED_OVER)}
        model = network.load(_tied(state), heads, llm).to(device)
        autoencoder = load_autoencoder(folder).to(device)
        text = TextFrame(_tokenizer(folder), frame)
        kind = UniPicDrawer if family == "unipic" else HarmonDrawer
        return kind(family, model, autoencoder, text, float(scale), side, steps)


def _sizes(folder: PublishedFolder) -> tuple[int, Mapping[str, Any]]:
    """Heads of MAR, and the options of the language model."""
    options = folder.options("transformer", TRANSFORMERS)
    if unknown := sorted(set(options) - {"num_heads", "llm"}):
        raise ValueError(f"transformer: unknown key {unknown[0]!r}: known are num_heads, llm")
    for name in ("num_heads", "llm"):
        if name not in options:
            raise ValueError(f"transformer: {name} is missing")
    check_count("num_heads", options["num_heads"], 1)
    if not isinstance(options["llm"], dict):
        raise ValueError("transformer: llm must hold the options of a Qwen2 of transformers")
    return options["num_heads"], options["llm"]


def _tied(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The head of a language model that is tied to its embedding may be left out of the file."""
    table, head = "llm.model.embed_tokens.weight", "llm.lm_head.weight"
    return {**state, head: state[table]} if table in state and head not in state else state


def _tokenizer(folder: PublishedFolder) -> Any:
    path = folder.path / "tokenizer.json"
    if not path.is_file():
        raise ValueError(f"no {path.name}: put the text tokenizer there (released: that of Qwen2.5)")
    return load_text_tokenizer(path)
