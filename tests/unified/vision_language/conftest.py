import sys
from pathlib import Path
from typing import Any

import pytest

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


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return Folders(tmp_path_factory.mktemp("pretrained"))
