import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # pytest's import mode adds no folder
import image_text_families as families


class Folders:
    """Folders of tiny models, each saved when it is first asked for."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.models: dict[str, Any] = {}

    def folder(self, name: str) -> Path:
        folder = self.root / name
        return folder if folder.is_dir() else families.save(name, folder)

    def load(self, name: str) -> Any:
        """Model and processor."""
        from unified.vision_language.files import load_pretrained

        if name not in self.models:
            self.models[name] = load_pretrained(self.folder(name))
        return self.models[name]

    def pen(self) -> Path:
        """A tiny visual tokenizer."""
        from unified.tokenizers.networks import NetworkConfig
        from unified.tokenizers.vq import VQConfig, VQTokenizer
        from unified.train.folders import save_visual

        folder = self.root / "visual"
        if not folder.is_dir():
            torch.manual_seed(5)
            network = NetworkConfig(
                latent=16,
                width=32,
                multipliers=(1, 1, 1, 1),
                blocks=0,
                attention=False,
                middle_attention=False,
            )
            save_visual(VQTokenizer(VQConfig(codes=64, dim=8, encoder=network)), folder)
        return folder

    def extended(self, name: str) -> Path:
        """A family with a pen, as the command makes it."""
        from unified.apps.cli import main

        folder = self.root / f"{name}_extended"
        if not folder.is_dir():
            options = ["--visual", str(self.pen()), "--actions", "--out", str(folder)]
            assert main(["extend", str(self.folder(name)), *options]) == 0
        return folder

    def load_extended(self, name: str) -> Any:
        """Model and processor."""
        from unified.pretrained import load_model

        key = f"{name}_extended"
        if key not in self.models:
            self.models[key] = load_model(self.extended(name))
        return self.models[key]


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return Folders(tmp_path_factory.mktemp("pretrained"))
