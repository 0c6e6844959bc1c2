"""LlamaGen as a folder: captions or classes -> images of one size.

Further keys of config.json: "side", of the map of codes, with a released name for "transformer" (16, 24 or
32; 16 is the default). Which condition a transformer is told, its weights say. With a file classes.txt, a
name a line, classes are drawn by name; without it by number. A caption is made lower case, as published; the
published cleaning of web captions (links, markup) is left out.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from unified.checkpoints import llamagen, llamagen_tokenizer
from unified.checkpoints.nar import NARTransformer
from unified.checkpoints.nar_generation import Prompted
from unified.decoding.guidance import Constant
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.orders import Plan
from unified.text_files import content_of
from unified.text_to_image.classes import class_names, class_number
from unified.text_to_image.folder import CONFIG, PublishedFolder
from unified.text_to_image.settings import DrawSettings, check_size
from unified.text_to_image.text_encoder import TextEncoder, load_text_encoder
from unified.tokenizers.vq import VQTokenizer

TRANSFORMERS = {
    name: {"dim": width, "n_layer": depth, "n_head": heads}
    for name, (depth, heads, width) in llamagen.RELEASED.items()
}
TOKENIZERS = {name: {"ch_mult": list(widths)} for name, widths in llamagen_tokenizer.RELEASED.items()}
CAPTIONS = DrawSettings(guidance=7.5, sampler=Sampler(top_k=1000))
LABELS = DrawSettings(guidance=4.0, sampler=Sampler(top_k=2000))


class LlamaGenDrawer:
    """A transformer and its tokenizer; with a text encoder where captions are its condition, otherwise
    `names` of its classes (none: they are numbers)."""

    family = "llamagen"

    def __init__(
        self,
        model: NARTransformer,
        tokenizer: VQTokenizer,
        text: TextEncoder | None = None,
        names: list[str] | None = None,
    ) -> None:
        self.model, self.tokenizer, self.text, self.names = model, tokenizer, text, names or []
        self.defaults = LABELS if text is None else CAPTIONS

    @property
    def layer_count(self) -> int:
        return self.model.config.depth

    def plan(self, size: tuple[int, int] | None = None) -> Plan:
        """Of the one size it draws. ValueError for another."""
        height, width = (side * self.tokenizer.stride for side in self.model.config.shapes[0])
        check_size(size, (height, width))
        return self.model.plan()

    @torch.no_grad()
    def draw(self, prompt: str, settings: DrawSettings) -> Tensor:
        """[3, H, W] in [-1, 1]. `prompt`: a caption, or the number or the name of a class."""
        shapes = self.plan(settings.size).shapes
        told, ids = self._told(prompt)
        session = Session(told, seed=settings.seed, policy=settings.policy)
        session.feed(ids)
        drawing = session.draw(
            shapes,
            order=self.model.order,
            sampler=settings.sampler,
            guidance=Constant(settings.guidance),
        )
        return self.tokenizer.decode_maps(drawing.maps(), shapes)[0].float()

    def _told(self, prompt: str) -> tuple[Prompted, list[int]]:
        """The transformer told the prompt, and the stream that says so."""
        if self.text is None:
            told = Prompted.by_class(self.model)
            return told, told.prompts[self.label(prompt)]
        features, longest = self.text.features([prompt.lower().strip()])[0], self.text.longest
        features = features.to(self.model.tok_embeddings.weight.dtype)
        given = features.new_zeros(1, longest, features.shape[1])
        given[0, longest - len(features) :] = features  # padding comes first
        mask = torch.zeros(1, longest, dtype=torch.long, device=features.device)
        mask[0, longest - len(features) :] = 1
        told = Prompted.by_caption(self.model, given, mask)
        return told, told.prompts[0]

    def label(self, prompt: str) -> int:
        """The number of a class that a prompt names."""
        return class_number(prompt, self.model.config.classes, self.names)

    def describe(self) -> dict[str, Any]:
        config = self.model.config
        told = {"classes": config.classes}
        if self.text is not None:
            told = {"text_channels": self.text.channels, "text_length": self.text.longest}
        sizes = {"width": config.width, "layers": config.depth, "visual_codes": config.codes}
        return {**sizes, "stride": self.tokenizer.stride, **told}


def load(folder: PublishedFolder, *, device: Any = "cpu", dtype: Any = torch.float32) -> LlamaGenDrawer:
    """ValueError, in one line, for what is missing or does not fit. The tokenizer stays in float32."""
    folder.check_keys("side")
    with content_of(folder.path / CONFIG):
        options = _options(folder)
        tokenizer_config = llamagen_tokenizer.config_from(folder.options("tokenizer", TOKENIZERS))
    with content_of(folder.path):
        model = llamagen.load(options, folder.weights("transformer"))
        tokenizer = llamagen_tokenizer.load(tokenizer_config, folder.weights("tokenizer"))
    if tokenizer.codes != model.config.codes:
        raise ValueError(
            f"{folder.path}: the transformer writes {model.config.codes} codes, "
            f"the tokenizer has {tokenizer.codes}"
        )
    text, config = None, model.config
    if config.caption_width:
        sizes = {"channels": config.caption_width, "longest": config.condition_length}
        text = load_text_encoder(folder, **sizes, device=device, dtype=dtype)
    names = class_names(folder.path) if text is None else []
    return LlamaGenDrawer(model.to(device=device, dtype=dtype), tokenizer.to(device), text, names)


def _options(folder: PublishedFolder) -> dict[str, Any]:
    side = folder.config.get("side", 16)
    if not isinstance(side, int) or side < 1:
        raise folder.error(f"side must be a whole number of at least 1, got {side!r:.60}")
    options = folder.options("transformer", TRANSFORMERS)
    return options if isinstance(folder.config["transformer"], dict) else {**options, "block_size": side**2}
