import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # pytest's import mode adds no folder
import text_to_image_folders as folders


@pytest.fixture(scope="session")
def infinity_folder(tmp_path_factory):
    return folders.infinity(tmp_path_factory.mktemp("published") / "infinity")


@pytest.fixture(scope="session")
def class_folder(tmp_path_factory):
    return folders.llamagen_of(tmp_path_factory.mktemp("published") / "classes", "class")


@pytest.fixture(scope="session")
def caption_folder(tmp_path_factory):
    return folders.llamagen_of(tmp_path_factory.mktemp("published") / "captions", "caption")
