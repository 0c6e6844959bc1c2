"""How commands end: one line and a status, whatever went wrong; the traceback with `--debug`."""

import argparse
import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from safetensors import SafetensorError
from unified.tasks.__main__ import main as tasks
from unified.train.__main__ import main as train

from unified.apps.cli import main as unified
from unified.apps.demo import random_model
from unified.checkpoints.__main__ import main as checkpoints
from unified.command import Parser, run
from unified.pretrained import save_model

ROOT = Path(__file__).parents[2]


def ended(error, capsys, **options):
    def work(_):
        raise error

    status = run("name", work, argparse.Namespace(**options))
    return status, capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (ValueError("bad\ninput"), 2, "bad input"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "out.png"), 2, "out.png: No space left on device"),
        (
            PermissionError(errno.EACCES, os.strerror(errno.EACCES), "out.png"),
            2,
            "out.png: Permission denied",
        ),
        (SafetensorError("I/O error: No space left"), 2, "I/O error: No space left"),
        (RuntimeError("out of memory\nlong story"), 1, "out of memory"),
        (ImportError("no package"), 1, "no package"),
        (MemoryError(), 1, "MemoryError"),
        (KeyError("width"), 1, "a bug: KeyError: 'width' (--debug shows where)"),
        (RecursionError("deep"), 1, "a bug: RecursionError: deep (--debug shows where)"),
        (ValueError("a" * 5000), 2, "a" * 500 + " ..."),
        (ValueError("half \ud83d"), 2, "half \\ud83d"),
        (KeyboardInterrupt(), 130, "stopped"),
    ],
)
def test_every_error_is_one_line_and_a_status(error, status, line, capsys):
    assert ended(error, capsys) == (status, f"name: {line}\n")


def test_debug_shows_the_traceback_before_the_line(capsys):
    for error in (KeyError("width"), ValueError("bad")):
        _, said = ended(error, capsys, debug=True)
        assert "Traceback (most recent call last)" in said
        assert said.splitlines()[-1].startswith("name: ")


@pytest.mark.parametrize(
    ("main", "arguments"),
    [
        (unified, ["info", "--model", "nowhere", "--debug"]),
        (tasks, ["show", "nothing", "--debug"]),
        (train, ["nothing", "--debug"]),
        (checkpoints, ["verify", "nowhere", "--debug"]),
    ],
)
def test_every_command_knows_debug(main, arguments, capsys):
    assert main(arguments) == 2
    assert "Traceback" in capsys.readouterr().err
    assert main(arguments[:-1]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_bad_arguments_are_one_line(capsys):
    for main in (unified, tasks, train, checkpoints):
        with pytest.raises(SystemExit) as stopped:
            main(["--nonsense"])
        assert stopped.value.code == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert Parser(prog="a").parse_args(["--debug"]).debug


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "tiny"
    save_model(folder, *random_model())
    return folder


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("processor.json", "text", None),
        ("processor.json", "visual", 5),
        ("processor.json", "action", [1]),
        ("processor.json", "sides", "x"),
        ("visual_config.json", "kind", [1]),
        ("visual_config.json", "encoder", None),
        ("visual_config.json", "codebook", None),
        ("config.json", "vocabulary", 3),
        ("config.json", "backbone", "x"),
        ("action.json", "camera_bins", "many"),
    ],
)
def test_a_spoilt_file_of_a_model_is_one_line_that_names_it(name, key, value, model, tmp_path, capsys):
    for path in model.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / name).unlink()
    data = json.loads((model / name).read_text())
    (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + json.dumps({**data, key: value}).encode())
    assert unified(["info", "--model", str(tmp_path), "--device", "cpu"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert name in said or "different vocabularies" in said


@pytest.mark.parametrize(
    ("name", "path", "value", "reason"),
    [
        ("config.json", ("backbone", "hidden_size"), 10**6, "is this another width"),
        ("config.json", ("backbone", "intermediate_size"), 10**9, "is this another width"),
        ("config.json", ("backbone", "num_hidden_layers"), 10**6, "num_hidden_layers must be at most"),
        ("config.json", ("read_outs",), 10**6, "read_outs must be at most"),
        ("config.json", ("num_labels",), 10**8, "num_labels must be at most"),
        ("processor.json", ("vocabulary", "max_side"), 10**9, "max_side must be at most"),
        ("visual_config.json", ("codes",), 10**9, "is this another width"),
        ("visual_config.json", ("encoder", "blocks"), 10**6, "blocks"),
        ("action.json", ("camera_bins",), 10**9, "camera_bins must be at most"),
    ],
)
def test_a_huge_number_in_a_configuration_takes_no_memory(name, path, value, reason, model, tmp_path, capsys):
    for file in model.iterdir():
        (tmp_path / file.name).symlink_to(file)
    data = json.loads((model / name).read_text())
    place = data
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    (tmp_path / name).unlink()
    (tmp_path / name).write_text(json.dumps(data))
    assert unified(["info", "--model", str(tmp_path), "--device", "cpu"]) == 2
    said = capsys.readouterr().err
    assert reason in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("name", ["config.json", "text_tokenizer.json", "action.json", "visual.safetensors"])
def test_what_stands_in_the_place_of_a_file_of_a_model_is_named(name, model, tmp_path, capsys):
    for file in model.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / name).unlink()
    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\n")
    assert unified(["info", "--model", str(tmp_path), "--device", "cpu"]) == 2
    said = capsys.readouterr().err
    assert f"{name}: a Git LFS pointer" in said
    assert said.count(str(tmp_path)) == 1


def test_a_closed_output_is_no_bug(model):
    shell = f'"{sys.executable}" -m unified info --model "{model}" --device cpu >&-'
    done = subprocess.run(shell, shell=True, cwd=ROOT, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_reason_comes_behind_a_name_without_end(capsys):
    error = OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), "a" * 5000)
    status, said = ended(error, capsys)
    assert status == 2
    assert said.endswith("a ...: File name too long\n")


@pytest.mark.parametrize("name", ["o.h5", "o.msp", "o.wmf", "o", "o.xyz"])
def test_a_format_that_cannot_be_written_is_refused_before_the_work(name, tmp_path, capsys):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    arguments = ["edit", str(tmp_path / "a.png"), "Make it blue.", "--model", "nowhere"]
    assert unified([*arguments, "--out", str(tmp_path / name)]) == 2
    assert "name a picture such as o.png" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_is_one_line_and_status_2(model, tmp_path, capsys):
    Image.new("RGB", (32, 32), "red").save(tmp_path / "a.png")
    (tmp_path / "walk.txt").write_text("forward\n")
    (tmp_path / "out.png").symlink_to("/dev/full")
    where = [str(tmp_path / name) for name in ("a.png", "walk.txt")]
    assert unified(["imagine", *where, "--out", str(tmp_path / "out.png"), "--model", str(model)]) == 2
    said = capsys.readouterr().err
    assert "No space left on device" in said
    assert said.count("\n") == 1
    command = [sys.executable, "-m", "unified.tasks", "list"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "unified.tasks: No space left on device\n")


def test_files_of_windows_editors_are_read(model, tmp_path, capsys):
    Image.new("RGB", (32, 32), "red").save(tmp_path / "a.png")
    for name, text in (("walk.txt", b"forward x2\r\nwait\r\n"), ("walk.jsonl", b'{"forward": 1}\r\n' * 3)):
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + text)
        paths = [str(tmp_path / "a.png"), str(tmp_path / name), "--out", str(tmp_path / "o.gif")]
        assert unified(["imagine", *paths, "--model", str(model)]) == 0
        assert "4 frames" in capsys.readouterr().out
