"""Data sets on disk: same bytes in any number of workers, resume, refusal of what is not whole; streaming."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import datasets
import pytest
from torch.utils.data import DataLoader
from unified.tasks.build import build
from unified.tasks.dataset import read_dataset, read_manifest, read_mixture, read_samples
from unified.tasks.mixture import Mixture, MixtureConfig, Part
from unified.tasks.packing import digest
from unified.tasks.streaming import stream

PARTS = (
    Part(task="small_talk", weight=2),
    Part(task="maze"),
    Part(task="world_frames", options={"size": 16, "frames": 3, "start": 4}),
)
CONFIG = MixtureConfig(parts=PARTS, size=40, shard=8)
ROOT = Path(__file__).parents[2]

PROCESSOR = """
import torch
from unified.stream.processor import Processor
from unified.tokenizers.action import ActionTokenizer
from unified.tokenizers.text import byte_tokenizer
from unified.tokenizers.vq import VQConfig, VQTokenizer
from unified.stream.vocabulary import Vocabulary

def tiny():
    torch.manual_seed(0)
    visual, action = VQTokenizer(VQConfig()).eval(), ActionTokenizer()
    vocabulary = Vocabulary(visual=visual.codes, action=action.size, action_slots=action.slots)
    return Processor(vocabulary, byte_tokenizer(), visual, action)

def wrong():
    return 3
"""
LIGHT_PROCESSOR = """
class Lengths:
    def encode(self, messages):
        return [len(item.get("text", "")) for message in messages for item in message["content"]]
"""


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("built") / "set"
    build(CONFIG, folder)
    return folder


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def write_config(folder, config=CONFIG):
    path = folder / "mixture.json"
    path.write_text(json.dumps(config.to_json()))
    return path


def test_two_workers_write_the_same_bytes_as_one(built, tmp_path):
    build(CONFIG, tmp_path / "set", workers=2)
    assert contents(tmp_path / "set") == contents(built)


def test_the_command_line_shows_a_progress_bar(tmp_path):
    config = MixtureConfig(parts=PARTS[:2], size=12, shard=5)
    command = [sys.executable, "-m", "unified.tasks", "build", write_config(tmp_path, config), "set"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("wrote set: 12 samples in 3 files")
    assert "12/12" in done.stderr
    assert len(read_dataset(tmp_path / "set")) == 12


def test_what_is_read_is_what_was_made(built):
    mixture = [digest(sample) for sample in Mixture(CONFIG)]
    assert [digest(sample) for sample in read_samples(built)] == mixture
    rows = read_dataset(built)
    assert rows.column_names == ["messages", "images", "task", "meta"]
    assert len(rows) == 40
    world = next(row for row in rows if row["task"] == "world_frames")
    assert world["images"][0].size == (16, 16)
    assert read_mixture(built).fingerprint() == CONFIG.fingerprint()


def test_hugging_face_opens_the_folder_by_itself(built):
    opened = datasets.load_dataset(str(built))
    assert list(opened) == ["train"]
    assert opened["train"].num_rows == 40
    assert opened["train"].features["images"].feature == datasets.Image()


def test_building_again_changes_nothing(built):
    before = {path: path.stat().st_mtime_ns for path in built.rglob("*.parquet")}
    assert build(CONFIG, built) == read_manifest(built)
    assert {path: path.stat().st_mtime_ns for path in built.rglob("*.parquet")} == before


def test_an_interrupted_build_goes_on_and_keeps_what_was_done(built, tmp_path):
    folder = tmp_path / "set"
    build(CONFIG, folder)
    names = sorted(path.name for path in (folder / "data").iterdir())
    (folder / "manifest.json").unlink()
    (folder / "data" / names[1]).unlink()
    damaged = folder / "data" / names[3]
    damaged.write_bytes(damaged.read_bytes()[:100])
    (folder / "data" / f"{names[1]}.123.part").write_bytes(b"half")
    kept = (folder / "data" / names[0]).stat().st_mtime_ns
    with pytest.raises(ValueError, match="half-written data set: run the same build again"):
        read_dataset(folder)
    with pytest.raises(ValueError, match="half-written"):
        next(read_samples(folder))
    build(CONFIG, folder)
    assert contents(folder) == contents(built)
    assert (folder / "data" / names[0]).stat().st_mtime_ns == kept


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.slow
def test_a_killed_build_can_be_completed(sent, tmp_path):
    config = MixtureConfig(parts=(Part(task="small_talk"), Part(task="maze")), size=20_000, shard=20)
    path, folder = write_config(tmp_path, config), tmp_path / "set"
    command = [sys.executable, "-m", "unified.tasks", "build", path, folder, "--workers", "2", "--quiet"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 60
    while len(list(folder.glob("data/*.parquet"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(sent)
    _, said = process.communicate(timeout=30)
    if sent == signal.SIGINT:
        assert process.returncode == 130
        assert said.strip().splitlines() == [
            "unified.tasks: interrupted; the same command goes on where it stopped"
        ]
    _wait_for_group(process.pid)
    done = len(list(folder.glob("data/*.parquet")))
    assert 3 <= done < config.shards
    with pytest.raises(ValueError, match="half-written"):
        read_manifest(folder)
    opened = [datasets.Dataset.from_parquet(str(file)) for file in list(folder.glob("data/*.parquet"))[:3]]
    assert {len(rows) for rows in opened} == {20}  # what is there is whole


def _wait_for_group(group):
    """No worker outlives its parent."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    os.killpg(group, signal.SIGKILL)
    pytest.fail("worker processes were left behind")


def test_other_contents_of_the_folder_are_refused(built, tmp_path):
    with pytest.raises(ValueError, match="another configuration: choose another folder"):
        build(MixtureConfig(parts=PARTS, size=41, shard=8), built)
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(ValueError, match="exists and is no data set"):
        build(CONFIG, tmp_path)
    with pytest.raises(ValueError, match=r"not a data set of unified.tasks"):
        read_dataset(tmp_path)
    with pytest.raises(ValueError, match="workers must be at least 1"):
        build(CONFIG, tmp_path / "new", workers=0)
    assert not (tmp_path / "new").exists()


def test_changed_generators_are_noticed(tmp_path):
    folder = tmp_path / "set"
    build(CONFIG, folder)
    path = folder / "config.json"
    path.write_text(path.read_text().replace(json.loads(path.read_text())["first_row"], "0" * 64))
    (folder / "manifest.json").unlink()
    with pytest.raises(ValueError, match="begun by other generators"):
        build(CONFIG, folder)


def test_a_lost_or_damaged_file_is_noticed(tmp_path):
    folder = tmp_path / "set"
    shards = build(CONFIG, folder)
    path = folder / shards[2].file
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    with pytest.raises(ValueError, match=r"00002-of-00005.parquet is damaged") as error:
        read_dataset(folder)
    assert "\n" not in str(error.value)
    path.unlink()
    with pytest.raises(ValueError, match="is missing"):
        read_dataset(folder)


def test_ids(tmp_path, monkeypatch):
    (tmp_path / "my_processor.py").write_text(PROCESSOR)
    monkeypatch.syspath_prepend(tmp_path)
    config = MixtureConfig(parts=PARTS, size=6, shard=3, format="ids", processor="my_processor:tiny")
    build(config, tmp_path / "one")
    rows = read_dataset(tmp_path / "one")
    assert rows.column_names == ["ids", "task"]
    import my_processor

    processor = my_processor.tiny()
    for row, sample in zip(rows, Mixture(config), strict=True):
        assert row["ids"] == processor.encode(sample.messages)
    assert [row["ids"] for row in stream(config)] == rows["ids"][:]
    with pytest.raises(ValueError, match="holds ids, not messages"):
        next(read_samples(tmp_path / "one"))


def test_two_workers_write_the_same_ids(tmp_path, monkeypatch):
    (tmp_path / "light_processor.py").write_text(LIGHT_PROCESSOR)  # quick to import
    monkeypatch.syspath_prepend(tmp_path)
    name = "light_processor:Lengths"
    config = MixtureConfig(parts=PARTS[:2], size=6, shard=3, format="ids", processor=name)
    assert build(config, tmp_path / "two", workers=2) == build(config, tmp_path / "one")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tiny", 'must be "module:function"'),
        ("no_such_module:tiny", "No module named 'no_such_module'"),
        ("my_processor:huge", "has no attribute 'huge'"),
        ("my_processor:wrong", "returned int, not a Processor"),
    ],
)
def test_a_bad_processor_is_refused(name, message, tmp_path, monkeypatch):
    (tmp_path / "my_processor.py").write_text(PROCESSOR)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=message):
        build(MixtureConfig(parts=PARTS, size=6, format="ids", processor=name), tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_streaming_yields_the_rows_of_the_build_and_writes_nothing(built, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows, streamed = read_dataset(built), stream(CONFIG)
    assert isinstance(streamed, datasets.IterableDataset)
    assert streamed.features == rows.features
    for row, other in zip(rows, streamed, strict=True):
        assert {**row, "images": []} == {**other, "images": []}
        assert [image.tobytes() for image in row["images"]] == [image.tobytes() for image in other["images"]]
    assert not list(tmp_path.iterdir())


def test_the_workers_of_a_loader_share_a_stream():
    config = MixtureConfig(parts=(Part(task="small_talk"), Part(task="maze")), size=24, shard=4)
    alone = [row["messages"] for row in stream(config)]
    loader = DataLoader(stream(config), batch_size=None, num_workers=2)
    shared = [row["messages"] for row in loader]
    assert sorted(shared) == sorted(alone)


def test_a_stream_refuses_at_once():
    with pytest.raises(ValueError, match=r"parts\[0\]: task 'maze'"):
        stream(MixtureConfig(parts=(Part(task="maze", options={"image_size": 1}),)))
