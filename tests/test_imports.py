"""Who imports whom: the last column of the table of folders in docs/architecture.md, and no cycles.

Imports are read from the source, those inside functions and under `TYPE_CHECKING` too. A folder or a module
of `unified/` without a line in the tables below fails, so a new one gets its line.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SIDES = ("tokenizers", "envs", "tasks", "train", "eval")

LAYOUT = {"layout", "stream", "orders"}  # layout and what lies below it
FILES = {"text_files", "weight_files"}  # they stand alone
PARTS = {"heads", "readers", "cache", "backbone", "depth", "extras", "objectives", "decoding"}
CORE = {
    *LAYOUT,
    *PARTS,
    "bound",
    "config",
    "core_model",
    "likelihood",
    "library_model",
    "model",
    "model_summary",
    *FILES,
}
UNIFIED = {
    *CORE,
    "adapters",
    "adapter_files",
    "growth",
    "low_rank",
    "pretrained",
    "pretrained_backbone",
    "vision_language",
    "text_to_image",
    "hugging_face",
    "checkpoints",
    "command",
    "apps",
    "server",
    "web",
    "cli",
    "unified",
}
ALLOWED: dict[str, set[str]] = {  # beside the area itself; `unified` is the package's own `__init__`
    "tokenizers": set(),
    "file_names": set(),
    "finite": set(),
    "counter_noise": set(),
    "precision": set(),
    "moved": set(),  # names its modules as text
    "orders": {"tokenizers"},
    "stream": {"orders", "tokenizers", *FILES},
    "layout": LAYOUT,
    "heads": {"decoding", "tokenizers"},  # types only: noise and sampler; the quantiser of channels
    "readers": {*LAYOUT, "tokenizers"},
    "cache": LAYOUT,
    "backbone": {*LAYOUT, "cache"},
    "depth": {*LAYOUT, "backbone"},
    "extras": {*LAYOUT, "heads", "likelihood"},
    "objectives": {*LAYOUT, "depth", "bound"},
    "adapters": FILES,
    "adapter_files": {*FILES, "backbone"},
    "low_rank": set(),
    "config": {*CORE, "adapters"} - {"model", "core_model", "decoding"},
    "core_model": CORE,
    "library_model": CORE - {"core_model", "decoding", "model"},
    "model": CORE - {"decoding"},
    "model_summary": set(),
    "decoding": {*CORE, "tokenizers"},
    "checkpoints": {*CORE, "adapter_files", "tokenizers", "command", "vision_language"},
    "bound": {*LAYOUT, "heads"},
    "likelihood": {*LAYOUT, "core_model", "heads", "bound"},
    "pretrained": {*CORE, "adapters", "tokenizers", "checkpoints", "vision_language"},
    "pretrained_backbone": CORE,
    "vision_language": {*CORE, "adapters", "tokenizers"},
    "text_to_image": {*CORE, "tokenizers", "checkpoints", "pretrained"},
    "hugging_face": {*CORE, "tokenizers", "pretrained"},
    "growth": CORE,
    "text_files": {"tokenizers"},
    "weight_files": {"text_files", "tokenizers"},
    "command": set(),
    "apps": {*UNIFIED, *SIDES},
    "server": {*UNIFIED, *SIDES},
    "web": {*UNIFIED, *SIDES},
    "cli": {"apps"},
    "unified": {*UNIFIED, *SIDES},
    "envs": {*UNIFIED, "tokenizers"},
    "tasks": {*UNIFIED, "tokenizers", "envs"},
    "train": {*UNIFIED, "tokenizers", "envs", "tasks"},
    "eval": {*UNIFIED, "tokenizers", "envs", "tasks"},
}
ANYWHERE = {
    "counter_noise",
    "file_names",
    "finite",
    "moved",
    "precision",
}  # all but `tokenizers` may import these
MORE: dict[str, set[str]] = {  # modules under these names may import more than their area
    "unified.eval.lab": {"train"},
    "unified.eval.bench": {"train"},
    "unified.envs.registration": {"tasks", "train", "eval"},
    "unified.checkpoints.geneval_verify": {"eval"},  # checks of metrics
    "unified.checkpoints.t2i_compbench_verify": {"eval"},
    "unified.checkpoints.vtbench_verify": {"eval"},
    "unified.checkpoints.rag_igbench_verify": {"eval"},
}
OUTER = {"envs", "tasks", "train", "eval"}
INSIDE_FUNCTIONS: dict[str, set[str]] = {  # what an area or a module may import, but not load
    "apps": OUTER,
    "server": OUTER,
    "web": OUTER,
    "unified": OUTER,
    "core_model": {"decoding", "model"},
    "unified.envs.registration": OUTER - {"envs"},
}
REGISTRATION = ("unified", "unified.envs.registration")  # what `import unified` does load

KNOWN: dict[tuple[str, str], str] = {}  # violations that stand, each with what would end it


@dataclass(frozen=True)
class Import:
    """`loads`: it runs when the module is imported, so it is neither inside a function nor for types only."""

    source: str
    target: str
    loads: bool
    line: int

    def __str__(self) -> str:
        return f"{self.source} imports {self.target} (line {self.line})"


def modules(root: Path) -> dict[str, Path]:
    """The files of every module of the package, by name."""
    found = {}
    for folder in ("unified", *SIDES):
        for path in sorted((root / folder).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            parts = parts if folder == "unified" else ("unified", *parts)
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def statements(node: ast.AST, loads: bool = True) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    """Every import below a node, and whether it runs when the module is imported."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, loads
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            yield from statements(ast.Module(child.body, []), False)
            yield from statements(ast.Module(child.orelse, []), loads)
        else:
            function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from statements(child, loads and not function)


def targets(statement: ast.Import | ast.ImportFrom, source: str, package: bool, known: set[str]) -> set[str]:
    """Modules that a statement names: `from a import b` is a.b where that is a module, else a."""
    if isinstance(statement, ast.Import):
        return {alias.name for alias in statement.names}
    base = statement.module or ""
    if statement.level:
        parts = source.split(".")
        parts = parts[: len(parts) - statement.level + package]
        base = ".".join([*parts, base] if base else parts)
    return {name if (name := f"{base}.{alias.name}") in known else base for alias in statement.names}


def imports(root: Path) -> list[Import]:
    """All imports of our own modules by our own modules."""
    files, found = modules(root), []
    for source, path in files.items():
        for statement, loads in statements(ast.parse(path.read_text())):
            for target in targets(statement, source, path.name == "__init__.py", set(files)):
                if target.split(".")[0] == "unified":
                    found.append(Import(source, target, loads, statement.lineno))
    return found


def area(module: str) -> str:
    """The folder, or the module of `unified/`, that a module belongs to."""
    parts = module.split(".")
    return "cli" if parts[-1:] == ["__main__"] and len(parts) == 2 else parts[1] if parts[1:] else "unified"


def forbidden(one: Import) -> bool:
    """Whether the tables have no place for an import."""
    source, target = area(one.source), area(one.target)
    anywhere = ANYWHERE if source != "tokenizers" else set()
    more = [extra for name, extra in MORE.items() if one.source == name or one.source.startswith(name + ".")]
    if target != source and target not in ALLOWED.get(source, set()).union(*more, anywhere):
        return True
    unloaded = INSIDE_FUNCTIONS.get(one.source) or INSIDE_FUNCTIONS.get(source, set())
    return one.loads and target in unloaded and (one.source, one.target) != REGISTRATION


def loading(found: list[Import], known: set[str]) -> dict[str, set[str]]:
    """What each module loads: those it names, and the packages they lie in unless it lies in them too."""
    graph: dict[str, set[str]] = {name: set() for name in known}
    for one in found:
        if one.loads:
            parts = one.target.split(".")
            names = {".".join(parts[:count]) for count in range(1, len(parts) + 1)}
            outside = {name for name in names if not f"{one.source}.".startswith(f"{name}.")}
            graph[one.source] |= (outside | {one.target}) & known
    return graph


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """The modules of one cycle in their order, the first again at the end; empty without any."""
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name not in done:
            for other in sorted(graph[name]):
                if found := visit(other, [*path, name]):
                    return found
            done.add(name)
        return []

    return next((found for name in sorted(graph) if (found := visit(name, []))), [])


@pytest.fixture(scope="module")
def ours() -> list[Import]:
    return imports(ROOT)


def test_every_folder_and_module_of_unified_has_a_line():
    missing = {area(name) for name in modules(ROOT)} - set(ALLOWED)
    assert not missing, f"give {', '.join(sorted(missing))} a line in ALLOWED: what may it import?"


def test_imports_go_where_the_tables_allow(ours):
    new = [str(one) for one in ours if forbidden(one) and (one.source, one.target) not in KNOWN]
    assert not new, "\n".join(new)


def test_what_is_known_still_stands(ours):
    standing = {(one.source, one.target) for one in ours if forbidden(one)}
    ended = [" -> ".join(pair) for pair in KNOWN if pair not in standing]
    assert not ended, f"no longer a violation, take it out of KNOWN: {', '.join(ended)}"


def test_no_module_loads_itself_in_a_circle(ours):
    found = cycle(loading(ours, set(modules(ROOT))))
    assert not found, " -> ".join(found)


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("name", "text", "refused"),
    [
        ("unified/orders/a.py", "import unified.orders.b", False),
        ("unified/orders/a.py", "from unified.stream import b", True),
        ("unified/stream/a.py", "from ..orders.b import c", False),
        ("unified/orders/a.py", "from ..stream.b import c", True),
        ("unified/decoding/a.py", "def f():\n    from unified.tasks import b", True),
        ("unified/decoding/a.py", "if typing.TYPE_CHECKING:\n    import unified.apps.b", True),
        ("unified/apps/a.py", "def f():\n    import unified.tasks.b", False),
        ("unified/apps/a.py", "class A:\n    import unified.tasks.b", True),
        ("unified/apps/a.py", "import unified.tokenizers.b", False),
        ("unified/__init__.py", "from unified.envs.registration import b", False),
        ("unified/__init__.py", "import unified.envs.voxel", True),
        ("envs/registration.py", "def f():\n    import unified.tasks.b", False),
        ("envs/registration.py", "import unified.tasks.b", True),
        ("envs/a.py", "def f():\n    import unified.tasks.b", True),
        ("tokenizers/a.py", "def f():\n    import unified.config", True),
        ("train/a.py", "import unified.eval.b", True),
        ("eval/a.py", "import unified.train.b", True),
        ("eval/bench/a.py", "import unified.train.b", False),
        ("eval/lab/a.py", "import unified.train.b", False),
        ("eval/label.py", "import unified.train.b", True),
        ("eval/a.py", "import torch, tokenizers", None),
    ],
)  # fmt: skip
def test_the_tables_refuse_what_they_should(tmp_path, name, text, refused):
    found = imports(write(tmp_path, {"unified/__init__.py": "", name: text}))
    assert [forbidden(one) for one in found] == ([] if refused is None else [refused])


def test_a_circle_is_told_by_name(tmp_path):
    files = {"unified/a.py": "from unified.b import c", "unified/b/__init__.py": "from unified.b import c"}
    files |= {"unified/b/c.py": "import unified.d", "unified/d.py": "import unified.a"}
    found = imports(write(tmp_path, files))
    assert cycle(loading(found, set(modules(tmp_path)))) == [
        "unified.a", "unified.b", "unified.b.c", "unified.d", "unified.a"
    ]  # fmt: skip
    (tmp_path / "unified/d.py").write_text("def f():\n    import unified.a")
    assert not cycle(loading(imports(tmp_path), set(modules(tmp_path))))
