"""Both backends offer the same names, and what is called of the subset can be called of Detectron2."""

import ast
import importlib
import importlib.util
import inspect
from pathlib import Path
from typing import Any

import pytest

import possam.d2

DOORS = sorted(path for path in Path(possam.d2.__file__).parent.glob("*.py") if path.name != "__init__.py")
BUILTIN, REAL = "possam.d2._runtime", "detectron2"
VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)

def imports(door: Path, root: str) -> dict[str, str]:
    """Name → module below ``root`` from which a door imports it."""
    found = {}
    for node in ast.walk(ast.parse(door.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(root + "."):
            found.update({alias.name: node.module.removeprefix(root) for alias in node.names})
    return found


def parameters(thing: Any) -> dict[str, inspect.Parameter] | None:
    try:
        return dict(inspect.signature(thing).parameters)
    except (TypeError, ValueError):
        return None


def fits(real: Any, builtin: Any) -> bool:
    """Whether every call of the built-in function is one of Detectron2's, and means the same."""
    theirs, ours = parameters(real), parameters(builtin)
    if theirs is None or ours is None:
        return theirs == ours
    kinds = {one.kind for one in theirs.values()}
    for place, (name, one) in enumerate(ours.items()):
        if name not in theirs:
            if inspect.Parameter.VAR_KEYWORD not in kinds:
                return False
            continue
        other = theirs[name]
        by_place = one.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        if one.kind is not other.kind or (by_place and list(theirs).index(name) != place):
            return False
        # The subset may require what Detectron2 has a default for. Functions as defaults are each side's own.
        if one.default is not one.empty and not callable(one.default) and one.default != other.default:
            return False
    needed = {name for name, one in theirs.items() if one.default is one.empty and one.kind not in VARIADIC}
    return needed <= set(ours)


def members(thing: Any) -> list[str]:
    """What the subset defines of a class or a module, without what it inherits or imports."""
    own = vars(thing)
    if inspect.ismodule(thing):
        names = getattr(thing, "__all__", None) or [
            name for name, one in own.items() if getattr(one, "__module__", "") == thing.__name__
        ]
        return [name for name in names if not name.startswith("_")]
    return [name for name, one in own.items() if not name.startswith("_")]


def differences(name: str, real: Any, builtin: Any) -> list[str]:
    found = []
    if inspect.isclass(builtin) or inspect.ismodule(builtin):
        for one in sorted(members(builtin)):
            if not hasattr(real, one):
                found.append(f"{name}.{one} is not Detectron2's")
            else:
                found += differences(f"{name}.{one}", getattr(real, one), getattr(builtin, one))
    callable_as_is = inspect.isroutine(builtin) or (inspect.isclass(builtin) and "__init__" in vars(builtin))
    if callable_as_is and not fits(real, builtin):
        found.append(f"{name}: {inspect.signature(builtin)} does not fit {inspect.signature(real)}")
    return found


@pytest.mark.parametrize("door", DOORS, ids=lambda path: path.stem)
def test_a_door_takes_the_same_names_from_both_sides_and_exports_them(door):
    names = imports(door, BUILTIN)
    assert names and names == imports(door, REAL)
    module = importlib.import_module(f"possam.d2.{door.stem}")
    assert set(module.__all__) == set(names)
    for name in module.__all__:
        assert hasattr(module, name)


def test_a_difference_is_found():
    class Real:
        def method(self, a, b=1, **options):
            pass

        def other(self, a):
            pass

        def third(self, a):
            pass

    class Builtin:
        def method(self, a, b=2):
            pass

        def other(self, b):
            pass

        def third(self, a):
            pass

        def fourth(self):
            pass

    found = differences("Real", Real, Builtin)
    assert [text.split(" ")[0].rstrip(":") for text in found] == ["Real.fourth", "Real.method", "Real.other"]
    assert fits(Real.method, lambda self, a, b=1, *, seed=None: None)
    assert fits(Real.method, lambda self, a: None) and not fits(Real.method, lambda self: None)
    assert not fits(Real.other, lambda self, a, seed: None)


@pytest.mark.skipif(possam.d2.BACKEND != "detectron2", reason="Detectron2 is not installed, or not chosen")
@pytest.mark.parametrize("door", DOORS, ids=lambda path: path.stem)
def test_what_works_with_the_subset_works_with_detectron2(door):
    found = []
    for name, module in imports(door, REAL).items():
        real = getattr(importlib.import_module(REAL + module), name)
        builtin = getattr(importlib.import_module(BUILTIN + module), name)
        found += differences(name, real, builtin)
    assert not found, "\n".join(found)


@pytest.mark.skipif(possam.d2.BACKEND != "detectron2", reason="Detectron2 is not installed, or not chosen")
def test_the_default_config_is_a_part_of_detectron2s():
    def flat(node: Any, prefix: str = "") -> dict[str, Any]:
        leaves: dict[str, Any] = {}
        for key, value in node.items():
            leaves.update(flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
        return leaves

    real = flat(importlib.import_module("detectron2.config").get_cfg())
    builtin = flat(importlib.import_module(f"{BUILTIN}.config").get_cfg())
    assert {key: real.get(key, "missing") for key in builtin} == builtin
