"""The files of the container name what is there: options, an extra, the route of the health check."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from unified.apps.cli import parser

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def test_the_image_starts_a_command_that_is_there():
    words = json.loads(re.search(r"^CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)[1])
    options = parser().parse_args(words)
    assert (options.page, options.host, options.port, str(options.store)) == (True, "0.0.0.0", 8000, "/data")


def test_the_image_installs_an_extra_that_is_there_and_checks_the_open_route():
    pytest.importorskip("fastapi", reason="the server's packages are not installed")
    from unified.server.guard import OPEN

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert re.search(r'"\.\[(\w+)\]"', DOCKERFILE)[1] in extras
    assert re.search(r"127\.0\.0\.1:8000(/\w+)'", DOCKERFILE)[1] in OPEN
    assert "torch==" in (ROOT / "constraints.txt").read_text()


def test_what_is_left_out_of_the_image_is_not_needed_by_the_package():
    left_out = set((ROOT / ".dockerignore").read_text().split())
    assert not left_out & {"unified", "tokenizers", "envs", "tasks", "train", "eval", "README.md", "LICENSE"}


def test_the_services_keep_their_data_and_ask_for_a_key():
    yaml = pytest.importorskip("yaml", reason="yaml is not installed")
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    for service in services.values():
        assert service["volumes"] == ["kept:/data"]
        assert service["environment"]["UNIFIED_API_KEY"].startswith("${UNIFIED_API_KEY:?")
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert services["unified-cuda"]["build"]["args"]["DEVICE"].startswith("${DEVICE:-cu")
