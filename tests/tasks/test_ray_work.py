"""Parts of work in processes of a Ray on this machine: results, errors, and the same bytes of data sets."""

import importlib.util
import sys
from pathlib import Path

import datasets
import pytest
from unified.tasks.__main__ import main
from unified.tasks.build import build
from unified.tasks.mixture import MixtureConfig, Part
from unified.tasks.ray_work import connected, done, in_order

sys.path.insert(0, str(Path(__file__).parents[1]))
from local_ray import local_ray

PARTS = (Part(task="small_talk", weight=2), Part(task="maze"))
CONFIG = MixtureConfig(parts=PARTS, size=40, shard=8)


@pytest.fixture(scope="module")
def ray():
    """A Ray of two processors, to which the calls of a program that has connected itself go."""
    with local_ray() as ray:
        yield ray


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_results_are_put_into_order():
    found = iter([(2, "c"), (0, "a"), (1, "b")])
    assert list(in_order([0, 1, 2], found)) == ["a", "b", "c"]


def test_without_ray_it_is_one_line(tmp_path, capsys, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ray" else found(name))
    file = tmp_path / "mixture.json"
    file.write_text('{"size": 4, "parts": [{"task": "small_talk"}]}')
    assert main(["build", str(file), str(tmp_path / "set"), "--ray", "auto", "--quiet"]) == 1
    error = capsys.readouterr().err
    assert "unified-multimodal[cluster]" in error
    assert len(error.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("address", "said"),
    [("127.0.0.1:1", "no Ray at 127.0.0.1:1"), ("somewhere", "HOST:PORT"), ("here:x", "HOST:PORT")],
)
def test_a_wrong_address_is_one_line(tmp_path, capsys, address, said):
    pytest.importorskip("ray", reason="ray is not installed")
    file = tmp_path / "mixture.json"
    file.write_text('{"size": 4, "parts": [{"task": "small_talk"}]}')
    assert main(["build", str(file), str(tmp_path / "set"), "--ray", address, "--quiet"]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1


@pytest.mark.slow
def test_parts_are_done_once_each_and_errors_arrive_as_they_are(ray):
    def start(factor):  # pickled by value: Ray's processes do not know this file
        import os

        def work(item):
            if item == 7:
                raise ValueError("seven is refused")
            return factor * item, os.getpid()

        return work

    with connected("elsewhere:1"):  # connected already
        found = dict(done(start, [10], range(6), workers=2))
        assert {item: value for item, (value, _) in found.items()} == {n: 10 * n for n in range(6)}
        assert len({process for _, process in found.values()}) == 2
        assert list(done(start, [10], [])) == []
        with pytest.raises(ValueError, match=r"^seven is refused$"):
            list(done(start, [10], range(9), workers=2))
    assert ray.is_initialized()


@pytest.mark.slow
def test_two_processes_of_a_cluster_write_the_same_bytes_as_one(ray, tmp_path):
    build(CONFIG, tmp_path / "one")
    shards = build(CONFIG, tmp_path / "two", workers=2, ray="auto")
    assert len(shards) == 5
    assert contents(tmp_path / "two") == contents(tmp_path / "one")
    (tmp_path / "two" / "manifest.json").unlink()
    (tmp_path / "two" / shards[3].file).unlink()
    build(CONFIG, tmp_path / "two", ray="auto")
    assert contents(tmp_path / "two") == contents(tmp_path / "one")


@pytest.mark.slow
def test_the_command_starts_a_cluster_of_its_own(tmp_path):
    import subprocess

    pytest.importorskip("ray", reason="ray is not installed")
    file, root = tmp_path / "mixture.json", Path(__file__).parents[2]
    file.write_text('{"size": 12, "shard": 4, "parts": [{"task": "small_talk"}]}')
    command = [sys.executable, "-m", "unified.tasks", "build", str(file)]
    for name, more in (("one", []), ("two", ["--ray", "local"])):
        ended = subprocess.run(
            [*command, str(tmp_path / name), "--quiet", *more],
            cwd=root,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
    assert contents(tmp_path / "two") == contents(tmp_path / "one")
