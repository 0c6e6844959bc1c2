import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2] / "unified" / "vision_language"))
import image_text_families as families
import sketch_models as models
from unified.tasks.mazes.records import INDEX


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Folders of tiny models by name."""
    root = tmp_path_factory.mktemp("pretrained")

    def found(name):
        return root / name if (root / name).is_dir() else families.save(name, root / name)

    return found


@pytest.fixture
def load(folder):
    """A model of its own for each test, since training changes it, and its processor."""
    from unified.vision_language.files import load_pretrained

    return lambda name: load_pretrained(folder(name))


@pytest.fixture
def traces(tmp_path):
    """A user's folder of two traces of two sketches each."""
    import json

    records = tmp_path / "traces"
    (records / "images").mkdir(parents=True)
    lines = []
    for number in range(2):
        names = [f"images/{number}_{state}.png" for state in range(3)]
        for state, name in enumerate(names):
            Image.fromarray(models.picture(10 * number + state)).save(records / name)
        lines.append(
            {
                "input_text": "<image>What is here?",
                "label_text": "Two<actions>red</actions><image>and<actions>blue</actions><image>square.",
                "input_img": names[:1],
                "label_img": names[1:],
                "label_actions": ["red", "blue"],
                "rl_label_img": names[1:],
                "total_step": 0,
            }
        )
    (records / INDEX).write_text("\n".join(map(json.dumps, lines)) + "\n")
    return records


@pytest.fixture
def strokes(tmp_path):
    """A file of Quick, Draw! with five drawings."""
    import json

    rng = np.random.default_rng(0)
    path = tmp_path / "cats.ndjson"
    drawings = [[rng.integers(0, 256, (2, 6)).tolist() for _ in range(2)] for _ in range(5)]
    path.write_text("".join(json.dumps({"word": "cat", "drawing": one}) + "\n" for one in drawings))
    return path
