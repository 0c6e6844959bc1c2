"""No constructor takes more than 8 arguments: what is more is grouped into smaller dataclasses."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("unified", "train", "tasks", "eval", "envs", "tokenizers")
MOST = 8

# Those with more, each with what keeps it: plain rows of tables, and keys of files. Mended ones are removed.
PUBLISHED = "its names are those of published configurations"
STORED = "its fields are keys of files that users have: it needs a migration like that of recipes"
KNOWN = {
    ("envs/voxel/blocks.py", "Block"): "one row of a table of blocks",
    ("envs/voxel/config.py", "VoxelConfig"): STORED,
    ("eval/lab/ground/drawing.py", "How"): "the parts of a session, by the session's own names",
    ("eval/scene_parser_report.py", "Tally"): "counters that start at zero, none of them an option",
    ("eval/suites/ood/asking.py", "Case"): "one row of a table of requests",
    ("eval/suites/ood/settings.py", "MazeStyle"): "one row of a table of styles",
    ("eval/suites/ood/settings.py", "Style"): "one row of a table of styles",
    ("tasks/scenes/scene_tasks.py", "SceneConfig"): STORED,
    ("tasks/scenes/turns.py", "Maker"): "options of `SceneConfig`, handed on by the tasks alone",
    ("tokenizers/networks.py", "NetworkConfig"): STORED,
    ("train/tokenizer.py", "TokenizerTrainingConfig"): STORED,
    ("unified/apps/answering.py", "GenerationSettings"): "options of a request to the server, by their names",
    ("unified/apps/rollout.py", "Rollout"): "first frames and options of a rollout, a public call",
    ("unified/backbone/layer_pass.py", "Pass"): "what one pass hands to the layers, made in one place",
    ("unified/cache/held.py", "Held"): "what a cache policy is shown, made by the cache alone",
    ("unified/checkpoints/adaln.py", "TransformerConfig"): PUBLISHED,
    ("unified/checkpoints/himar/network.py", "HiMARConfig"): PUBLISHED,
    ("unified/checkpoints/infinity_config.py", "InfinityConfig"): PUBLISHED,
    ("unified/checkpoints/nar_blocks.py", "NARConfig"): PUBLISHED,
    ("unified/layout/layout.py", "Layout"): "aligned tensors of a batch, made by `Layout.of`",
    ("unified/stream/vocabulary.py", "Vocabulary"): STORED,
}


def arguments(node):
    """How many arguments the constructor of a class definition takes: those of `__init__`, else the fields of
    a dataclass or named tuple; 0 for what is inherited."""
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            given = item.args
            return len(given.posonlyargs) + len(given.args) + len(given.kwonlyargs) - 1
    made = any("dataclass" in ast.unparse(mark) for mark in node.decorator_list)
    if not made and not any(ast.unparse(base).endswith("NamedTuple") for base in node.bases):
        return 0
    return sum(isinstance(item, ast.AnnAssign) and not left_out(item) for item in node.body)


def left_out(item):
    """Whether an annotated name of a dataclass is no argument of its constructor."""
    return "ClassVar" in ast.unparse(item.annotation) or "init=False" in ast.unparse(item)


def long_constructors(source):
    classes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef)]
    return {node.name for node in classes if arguments(node) > MOST}


def test_no_constructor_takes_more_than_eight_arguments():
    paths = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    assert len(paths) > 200
    found = {
        (path.relative_to(ROOT).as_posix(), name)
        for path in paths
        for name in long_constructors(path.read_text(encoding="utf-8"))
    }
    assert sorted(found - KNOWN.keys()) == [], f"more than {MOST} constructor arguments: group them"
    assert sorted(KNOWN.keys() - found) == [], "no longer too long: take it off KNOWN"


FIELDS = "".join(f"    x{n}: int = 0\n" for n in range(9))
NAMES = ", ".join(f"x{n}" for n in range(9))


@pytest.mark.parametrize(
    ("source", "found"),
    [
        (f"@dataclass(frozen=True)\nclass A:\n{FIELDS}", {"A"}),
        (f"class A(NamedTuple):\n{FIELDS}", {"A"}),
        (f"class A:\n    def __init__(self, {NAMES}): ...", {"A"}),
        (f"class A:\n    def __init__(self, x, *, {NAMES[4:]}): ...", {"A"}),
        (f"class A:\n    def __init__(self, {NAMES[4:]}): ...", set()),
        (f"class A:\n{FIELDS}", set()),
        (f"@dataclass\nclass A:\n{FIELDS.replace('x8: int', 'x8: ClassVar[int]')}", set()),
        (f"@dataclass\nclass A:\n{FIELDS.replace('x8: int = 0', 'x8: int = field(init=False)')}", set()),
    ],
)
def test_arguments_are_counted_as_python_takes_them(source, found):
    assert long_constructors(source) == found
