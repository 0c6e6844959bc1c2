"""Small outside data that some tasks need: recordings, captioned images, LLaVA-style conversations."""

import json

import numpy as np
import pytest
from PIL import Image


def random_image(number, side=24):
    return np.random.default_rng(number).integers(0, 256, (side, side, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def recordings_folder(tmp_path_factory):
    """Twelve short recordings of the voxel world."""
    from unified.envs.recordings import record
    from unified.envs.voxel import VoxelEnv
    from unified.envs.voxel.players import make_player

    folder = tmp_path_factory.mktemp("recordings")
    env = VoxelEnv(width=32, height=32, world_size=(24, 24, 24), max_steps=0)
    for seed in range(12):
        player = make_player("explore", seed)
        record(
            env,
            lambda _, player=player: player.act(env.simulation, env.task),
            folder / f"play-{seed}",
            steps=24,
            seed=seed,
        )
    return folder


@pytest.fixture(scope="session")
def captions_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("captions")
    with (folder / "metadata.jsonl").open("w") as file:
        for number in range(30):
            Image.fromarray(random_image(number)).save(folder / f"{number}.png")
            file.write(json.dumps({"file_name": f"{number}.png", "text": f"Noise number {number}."}) + "\n")
    return folder


@pytest.fixture(scope="session")
def llava_file(captions_folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("llava") / "talk.json"
    records = [
        {
            "id": number,
            "image": f"{number}.png",
            "conversations": [
                {"from": "human", "value": "<image>\nWhich number is this?"},
                {"from": "gpt", "value": str(number)},
            ],
        }
        for number in range(30)
    ]
    path.write_text(json.dumps(records, indent=1))
    return path


@pytest.fixture(scope="session")
def stored_folder(captions_folder, tmp_path_factory):
    """Thirty rows of an image and a text, as `save_to_disk` writes them."""
    from datasets import Dataset, Features, Image, Value

    rows = {
        "image": [str(captions_folder / f"{number}.png") for number in range(30)],
        "text": [f"Noise number {number}." for number in range(30)],
    }
    folder = tmp_path_factory.mktemp("stored")
    Dataset.from_dict(rows, Features({"image": Image(), "text": Value("string")})).save_to_disk(str(folder))
    return folder


@pytest.fixture(scope="session")
def traces_folder(tmp_path_factory):
    """Thirty traces of mazes as records."""
    from unified.tasks.mazes import MazeTask, write_records

    folder = tmp_path_factory.mktemp("traces")
    task = MazeTask()
    write_records([task.sample(number) for number in range(30)], folder)
    return folder


@pytest.fixture(scope="session")
def data_options(recordings_folder, captions_folder, llava_file, stored_folder, traces_folder):
    """The options that a task with outside data needs; {} for every other."""
    shares = {"validation": 0.3, "test": 0.3}
    needed = {
        "world_recordings": {"folder": str(recordings_folder), "frames": 5, "size": 32, **shares},
        "captions": {"folder": str(captions_folder), "size": 16, **shares},
        "dataset": {"path": str(stored_folder), "size": 16, **shares},
        "traces": {"folder": str(traces_folder), "size": 16, **shares},
        "llava": {"path": str(llava_file), "images": str(captions_folder), "size": 16, **shares},
    }
    return lambda name: needed.get(name, {})
