"""The ground as experiments see it: data by split, trained tokenizers and base models.

Weights lie in one folder, as bfloat16: those that ship with the package, or those that `unified lab prepare`
made. Pictures and codes are made when they are first asked for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from unified.eval.lab.ground import scenes as told
from unified.eval.lab.ground.bases import BASES, Base, Rows, new_model, rows, shapes_of
from unified.eval.lab.ground.drawing import How
from unified.eval.lab.ground.tokenizers import as_images, new_tokenizer
from unified.eval.lab.sizes import FULL, Sizes
from unified.tasks.scenes.scene import Scene
from unified.tokenizers.kinds import kind_name, kind_of

from unified.model import UnifiedModel
from unified.orders.shapes import Shapes, as_shapes

SHIPPED = Path(__file__).parents[1] / "weights"
NULL = 0.1  # share of training steps without captions
COUNTS = {"validation": 512, "test": 4096}
Change = Callable[[dict[str, Tensor]], dict[str, Tensor]]


class Ground:
    """`sizes`; `weights`: the folder of trained weights; `cache`: where pictures are kept."""

    def __init__(
        self, sizes: Sizes = FULL, weights: Path = SHIPPED, cache: Path = Path("runs/lab/cache")
    ) -> None:
        self.sizes, self.weights, self.cache = sizes, weights, cache
        self._scenes: dict[tuple[str, int, int], list[Scene]] = {}
        self._pictures: dict[str, np.ndarray] = {}
        self._codes: dict[tuple[str, str, Shapes], Tensor] = {}
        self._tokenizers: dict[str, Any] = {}
        self._latents: dict[str, Tensor] = {}

    # Data ---------------------------------------------------------------------------------------------------

    def scenes(self, split: str, count: int | None = None, first: int = 0) -> list[Scene]:
        """Scenes number `first` and on; of training all, if no count is given."""
        count = count or self.sizes.scenes
        key = (split, first, count)
        if key not in self._scenes:
            self._scenes[key] = [told.scene(first + n, split) for n in range(count)]
        return self._scenes[key]

    def prompts(self, seed: int, split: str = "test") -> list[Scene]:
        """What an arm with this seed draws: other seeds have other scenes."""
        return self.scenes(split, self.sizes.prompts, seed * self.sizes.prompts)

    def held_out(self) -> int:
        """How many scenes of the validation split likelihoods are measured on."""
        return min(COUNTS["validation"], max(4, self.sizes.prompts * 2))

    def pictures(self, split: str = "train") -> np.ndarray:
        """uint8 [N, 32, 32, 3] of all training scenes, or of those that likelihoods are measured on."""
        if split not in self._pictures:
            count = self.sizes.scenes if split == "train" else self.held_out()
            path = self.cache / f"{split}-{count}.npy"
            if not path.is_file():
                self.cache.mkdir(parents=True, exist_ok=True)
                partial = path.with_suffix(".part.npy")
                np.save(partial, told.pictures(self.scenes(split, count)))
                partial.replace(path)
            self._pictures[split] = np.load(path)
        return self._pictures[split]

    def captions(self, split: str = "train") -> Tensor:
        """[N, 9]: of `pictures`."""
        return torch.tensor([told.caption(one) for one in self.scenes(split, len(self.pictures(split)))])

    @torch.no_grad()
    def codes(self, tokenizer: str, shapes: Shapes, split: str = "train") -> Tensor:
        """[N, T] of `pictures`, in slot order."""
        key = (tokenizer, split, shapes)
        if key not in self._codes:
            images = as_images(self.pictures(split))
            coder = self.tokenizer(tokenizer)
            parts = [torch.cat(coder.encode(part, shapes), dim=1) for part in images.split(256)]
            self._codes[key] = torch.cat(parts)
        return self._codes[key]

    @torch.no_grad()
    def latents(self, split: str = "train") -> Tensor:
        """[N, T, C] of `pictures` by the KL-VAE, row by row."""
        if split not in self._latents:
            coder, images = self.tokenizer("kl_vae"), as_images(self.pictures(split))
            parts = [coder.latent(part).flatten(2).transpose(1, 2) for part in images.split(256)]
            self._latents[split] = torch.cat(parts)
        return self._latents[split]

    # Weights ------------------------------------------------------------------------------------------------

    def path(self, name: str) -> Path:
        return self.weights / f"{name}.safetensors"

    def has(self, name: str) -> bool:
        return self.path(name).is_file()

    def tokenizer(self, name: str) -> Any:
        """ValueError if it has not been prepared."""
        if name not in self._tokenizers:
            tokenizer = new_tokenizer(name, self.sizes.tokenizer)
            self._tokenizers[name] = self._loaded(name, tokenizer, kind_of(kind_name(tokenizer)).change)
        return self._tokenizers[name]

    def base(self, name: str) -> UnifiedModel:
        """A copy of a base model. ValueError if it has not been prepared."""
        return self._loaded(name, new_model(BASES[name], self.sizes))

    def _loaded(self, name: str, module: Any, change: Change | None = None) -> Any:
        if not self.has(name):
            raise ValueError(f"{self.path(name)}: no such weights: run `unified lab prepare` first")
        state = load_file(self.path(name))
        module.load_state_dict(change(state) if change else state)
        return module.eval()

    def keep(self, name: str, module: nn.Module) -> None:
        """Save trained weights, those of floating point as bfloat16."""
        self.weights.mkdir(parents=True, exist_ok=True)
        state = {key: x.bfloat16() if x.is_floating_point() else x for key, x in module.state_dict().items()}
        partial = self.path(name).with_suffix(".part")
        save_file({key: x.contiguous() for key, x in state.items()}, partial)
        partial.replace(self.path(name))

    def hash(self) -> str:
        """Twelve hexadecimal digits of all weights."""
        digest = hashlib.sha256()
        for path in sorted(self.weights.glob("*.safetensors")):
            digest.update(path.name.encode() + path.read_bytes())
        return digest.hexdigest()[:12]

    def manifest(self) -> dict[str, Any]:
        """What `unified lab prepare` measured of the weights."""
        path = self.weights / "manifest.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    # Training and drawing -----------------------------------------------------------------------------------

    def how(self, name: str) -> How:
        """How a base model draws as it is."""
        base = BASES[name]
        return How(order=base.order, shapes=base.shapes, data=(1,) if base.permuted else ())

    def batches(
        self, base: Base, seed: int = 0, batch: int | None = None, null: float = NULL
    ) -> Callable[[int, UnifiedModel], Rows]:
        """Rows for a training step: a function of (seed, step) alone."""
        captions = self.captions()

        def rows_at(step: int, model: UnifiedModel) -> Rows:
            rng = np.random.default_rng([seed, step])
            listed = 0 if rng.random() < 0.5 else int(rng.integers(len(base.lists)))
            shapes = shapes_of(base.lists[listed])
            chosen = torch.from_numpy(rng.integers(len(captions), size=batch or self.sizes.batch))
            codes = self.codes(base.tokenizer, shapes)[chosen]
            data = (int(rng.integers(1, 17)),) if base.permuted else ()
            given = None if rng.random() < null else captions[chosen]
            return rows(model.vocabulary, given, codes, base.order, shapes, data)

        return rows_at

    def all_shapes(self, base: Base) -> list[Shapes]:
        return [as_shapes(sides) for sides in base.lists]
