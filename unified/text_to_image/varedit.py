"""VAREdit as a folder: an instruction and a picture -> the edited picture (arXiv 2508.15772).

The folder is an Infinity's (`infinity.py`) with "model_type": "varedit"; "resolution" is that of the squares
that it edits ("0.25M", the default, or "1M"). The tokenizer needs its encoder: the source is its latent, not
quantised. Without a text encoder the instruction is given as its features. As the published script does, a
picture is padded with white at the bottom and on the right to a square, resized (Lanczos), edited, resized
back and cut. Test: tests/unified/text_to_image/test_varedit.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from unified.checkpoints import infinity_tokenizer
from unified.checkpoints.infinity_config import config_from
from unified.checkpoints.infinity_published import filled
from unified.checkpoints.infinity_schedules import schedule
from unified.checkpoints.varedit.network import VAREdit
from unified.checkpoints.varedit.sampling import feed
from unified.decoding.guidance import Constant
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.orders import Plan, plan_for
from unified.text_files import content_of
from unified.text_to_image.folder import CONFIG, TEXT_ENCODER, PublishedFolder
from unified.text_to_image.infinity import TRANSFORMERS, tokenizer_config
from unified.text_to_image.settings import DrawSettings
from unified.text_to_image.text_encoder import TextEncoder, load_text_encoder
from unified.tokenizers.images import to_images, to_uint8

ROPE = {"rope2d_normalized_by_hw": 2}  # what both released models have
ONLY_EDITS = "this model edits a picture as an instruction says and does nothing else: use edit"


class VAREditDrawer:
    """A transformer, its tokenizer (joined to it) and a text encoder."""

    family = "varedit"
    defaults = DrawSettings(guidance=4.0, sampler=Sampler(temperature=0.5, top_k=900, top_p=0.97))

    def __init__(self, model: VAREdit, text: TextEncoder | None) -> None:
        self.model, self.text = model, text
        self.side = model.shapes[-1][0] * model.needed_tokenizer().stride  # pixels

    @property
    def layer_count(self) -> int:
        return self.model.layer_count

    def plan(self, size: tuple[int, int] | None = None) -> Plan:
        """Of an edited square. ValueError for another size."""
        if size not in (None, (self.side, self.side)):
            raise ValueError(f"this model edits squares of {self.side} pixels, got {size}")
        return plan_for(self.model.order, self.model.shapes)

    def draw(self, prompt: str, settings: DrawSettings) -> Tensor:
        """Refused: ValueError."""
        raise ValueError(ONLY_EDITS)

    @torch.no_grad()
    def edit(self, picture: np.ndarray, instruction: str | Tensor, settings: DrawSettings) -> np.ndarray:
        """A picture uint8 [H, W, 3] -> edited, of the same size. `instruction`: words, or their features
        [n, C] by the published text encoder. ValueError for words without one, or features of another
        width."""
        model, (height, width), features = self.model, picture.shape[:2], self._features(instruction)
        square, longer = _square(picture), max(height, width)
        shown = to_images(np.asarray(square.resize((self.side, self.side), Image.Resampling.LANCZOS)))
        source = model.source_tokens(model.needed_tokenizer().latent(shown.to(model.device)).float())
        session = Session(model, seed=settings.seed, policy=settings.policy)
        feed(session, model, [features], source.to(model.word_embed.weight.dtype))
        drawing = session.draw(
            model.shapes, order=model.order, sampler=settings.sampler, guidance=Constant(settings.guidance)
        )
        edited = Image.fromarray(to_uint8(model.image(drawing.maps(), model.shapes) * 2 - 1)[0])
        return np.asarray(edited.resize((longer, longer), Image.Resampling.LANCZOS))[:height, :width].copy()

    def _features(self, instruction: str | Tensor) -> Tensor:
        if isinstance(instruction, str):
            if self.text is None:
                raise ValueError(f"the folder has no {TEXT_ENCODER}/: put a T5 encoder there")
            return self.text.features([instruction])[0]
        channels, longest = self.model.config.text_width, self.model.config.text_length
        if instruction.ndim != 2 or instruction.shape[1] != channels or not 0 < len(instruction) <= longest:
            found = tuple(instruction.shape)
            raise ValueError(f"features must be [1 to {longest}, {channels}], got {found}")
        return instruction.to(self.model.device, torch.float32)

    def describe(self) -> dict[str, Any]:
        config = self.model.config
        return {
            "width": config.width,
            "layers": config.depth,
            "bits_of_a_code": config.grid.token_bits,
            "side": self.side,
            "text_channels": config.text_width,
            "text_length": config.text_length,
        }


def _square(picture: np.ndarray) -> Image.Image:
    """White at the bottom and on the right."""
    height, width = picture.shape[:2]
    square = np.full((max(height, width), max(height, width), 3), 255, dtype=np.uint8)
    square[:height, :width] = picture
    return Image.fromarray(square)


def load(folder: PublishedFolder, *, device: Any = "cpu", dtype: Any = torch.float32) -> VAREditDrawer:
    """ValueError, in one line, for what is missing or does not fit. The tokenizer stays in float32."""
    folder.check_keys("resolution")
    with content_of(folder.path / CONFIG):
        shapes = schedule(1.0, folder.config.get("resolution", "0.25M"))
        options = {**ROPE, **folder.options("transformer", TRANSFORMERS)}
        tokenizer_options = tokenizer_config(folder, bool(options.get("apply_spatial_patchify")))
        config = config_from(options, tokenizer_options.bits)
    with content_of(folder.path):
        with torch.device("meta"):
            empty = VAREdit(config, shapes)
        model = filled(empty, options, folder.weights("transformer"))
        tokenizer = infinity_tokenizer.load(tokenizer_options, folder.weights("tokenizer"))
    model.join(tokenizer.to(device))
    text = None
    if TEXT_ENCODER in folder.config or (folder.path / TEXT_ENCODER).is_dir():
        sizes = {"channels": config.text_width, "longest": config.text_length}
        text = load_text_encoder(folder, **sizes, device=device, dtype=dtype)
    return VAREditDrawer(model.to(device=device, dtype=dtype), text)
