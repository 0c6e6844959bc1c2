"""Import names of the last release: they are found, warn, and give the same objects as the new ones."""

import importlib
import subprocess
import sys

import pytest

from unified import moved


def fresh(name):
    """Import a former module as if for the first time."""
    for loaded in [module for module in sys.modules if module == name or module.startswith(name + ".")]:
        del sys.modules[loaded]
    return importlib.import_module(name)


@pytest.mark.parametrize("name", moved.MODULES)
def test_a_former_module_warns_and_has_the_names_of_its_successors(name):
    with pytest.warns(DeprecationWarning, match=f"{name} is {moved.MODULES[name][0]} now"):
        former = fresh(name)
    public = {key for key in vars(importlib.import_module(moved.MODULES[name][0])) if not key.startswith("_")}
    assert public <= set(dir(former))
    for key in public:
        assert getattr(former, key) is getattr(importlib.import_module(moved.MODULES[name][0]), key)


@pytest.mark.parametrize("name", [f"{name}.{key}" for name, keys in moved.RENAMED.items() for key in keys])
def test_a_renamed_class_or_function_is_found(name):
    module, _, key = name.rpartition(".")
    now = moved.RENAMED[module][key]
    successors = [importlib.import_module(successor) for successor in moved.MODULES[module]]
    found = [getattr(successor, now) for successor in successors if hasattr(successor, now)]
    assert getattr(importlib.import_module(module), key) is found[0]


@pytest.mark.parametrize("name", [f"{name}.{key}" for name, keys in moved.PACKAGES.items() for key in keys])
def test_names_of_a_module_that_became_a_package(name):
    package, _, key = name.rpartition(".")
    vars(sys.modules[package]).pop(key, None)
    with pytest.warns(DeprecationWarning, match="the former name will go"):
        found = getattr(importlib.import_module(package), key)
    assert found is getattr(importlib.import_module(f"{package}.{moved.PACKAGES[package][key]}"), key)


def test_what_never_was_is_not_found():
    with pytest.raises(ImportError, match="no_such"):
        importlib.import_module("unified.no_such_module")
    with pytest.raises(AttributeError, match=r"see unified\.decoding\.session"):
        importlib.import_module("unified.session").no_such_name  # noqa: B018
    with pytest.raises(AttributeError, match="no_such_name"):
        importlib.import_module("unified.layout").no_such_name  # noqa: B018


def test_the_warning_points_at_the_import_and_nothing_is_loaded_before_it():
    code = (
        "import sys, unified\nassert 'unified.decoding.session' not in sys.modules\n"
        "from unified.sampling import Sampler, PositionNoise\nfrom unified.demo import *\nrandom_model"
    )
    run = [sys.executable, "-W", "always::DeprecationWarning", "-c", code]
    result = subprocess.run(run, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert "<string>:3: DeprecationWarning: unified.sampling is unified.decoding.sampling" in result.stderr
