"""The built-in subset of Detectron2 holds what production code reaches, and nothing else.

This is computed from syntax trees. A top-level definition is reached if production code imports it through `possam.d2`
or takes it of a module imported so, or if a reached definition mentions its name. A method of a reached class is
reached if it is special (``__len__``), if production code or a reached definition has an identifier of its name, or if
it overrides a method of a library's class.
"""

import ast
import importlib
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import possam.d2

D2 = Path(possam.d2.__file__).parent
REPOSITORY = D2.parents[1]


class Definition(NamedTuple):
    module: str
    owner: str  # class, or ""
    name: str
    mentions: frozenset[str]  # identifiers in its body; of a class, outside of its methods


def parse(folder: Path) -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.py"))}


def production() -> list[ast.Module]:
    trees = [parse(REPOSITORY / folder) for folder in ("possam", "tools", "datasets")]
    return [tree for one in trees for path, tree in one.items() if D2 not in path.parents]


def mentions(nodes: Iterable[ast.AST]) -> frozenset[str]:
    """Names, attributes, and strings that could be either."""
    found = set()
    for one in (one for node in nodes for one in ast.walk(node)):
        if isinstance(one, ast.Name | ast.Attribute):
            found.add(one.id if isinstance(one, ast.Name) else one.attr)
        elif isinstance(one, ast.Constant) and isinstance(one.value, str) and one.value.isidentifier():
            found.add(one.value)
    return frozenset(found)


def definitions(tree: ast.Module, module: str) -> Iterator[Definition]:
    """Functions, constants, classes, and the methods of classes."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield Definition(module, "", node.name, mentions([node]))
        elif isinstance(node, ast.ClassDef):
            methods = [one for one in node.body if isinstance(one, ast.FunctionDef)]
            rest = [one for one in node.body if one not in methods]
            yield Definition(module, "", node.name, mentions([*node.bases, *node.decorator_list, *rest]))
            yield from (Definition(module, node.name, one.name, mentions([one])) for one in methods)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for name in sorted(mentions(target for target in targets if isinstance(target, ast.Name)) - {"__all__"}):
                yield Definition(module, "", name, mentions([node]))


def subset() -> list[Definition]:
    found: list[Definition] = []
    for path, tree in parse(D2 / "_runtime").items():
        module = ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")
        found += definitions(tree, module)
    return found


def taken(trees: list[ast.Module]) -> tuple[set[str], set[str]]:
    """What these modules import of `possam.d2`, such as "data.transforms", and the attributes they take of that."""
    imported, attributes = set(), set()
    for tree in trees:
        local = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("possam.d2."):
                imported |= {f"{node.module.removeprefix('possam.d2.')}.{alias.name}" for alias in node.names}
                local |= {alias.asname or alias.name for alias in node.names}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in local:
                attributes.add(node.attr)
    return imported, attributes


def overrides_a_library(one: Definition) -> bool:
    owner: Any = getattr(importlib.import_module(one.module), one.owner)
    return any(hasattr(base, one.name) for base in owner.__mro__ if not base.__module__.startswith("possam."))


def unreached(definitions: Iterable[Definition], roots: set[str], identifiers: frozenset[str]) -> list[str]:
    """Definitions that the names `roots` do not lead to, in code around them that has these `identifiers`."""
    left, names = list(definitions), set(roots)
    classes: set[tuple[str, str]] = set()

    def is_reached(one: Definition) -> bool:
        if not one.owner:
            return one.name in names
        called = one.name in names | identifiers or one.name.startswith("__")
        return (one.module, one.owner) in classes and (called or overrides_a_library(one))

    while fresh := [one for one in left if is_reached(one)]:
        left = [one for one in left if one not in fresh]
        classes |= {(one.module, one.name) for one in fresh if not one.owner}
        names = names.union(*(one.mentions for one in fresh))
    return [".".join(filter(None, one[:3])) for one in left]


def test_production_code_reaches_every_definition_of_the_subset():
    trees = production()
    imported, attributes = taken(trees)
    roots = {name.split(".")[1] for name in imported} | attributes
    assert unreached(subset(), roots, mentions(trees)) == []


def test_production_code_imports_every_name_that_is_offered():
    modules = [path.stem for path in D2.glob("*.py") if path.stem != "__init__"]
    offered = {f"{one}.{name}" for one in modules for name in importlib.import_module(f"possam.d2.{one}").__all__}
    assert offered - taken(production())[0] == set()


def test_what_nothing_leads_to_is_named(monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "overrides_a_library", lambda one: one.name == "forward")
    source = """
LIMIT = 3
SIZE = LIMIT
def helper(): return SIZE
def start(): return helper()
def alone(): return alone
class Base:
    kind = Part
    def __len__(self): return 0
    def used(self): return 1
    def unused(self): return 2
    def forward(self): return 3
class Part: pass
"""
    found = list(definitions(ast.parse(source), "m"))
    assert unreached(found, {"start", "Base"}, frozenset({"used"})) == ["m.alone", "m.Base.unused"]
    without = unreached(found, {"alone"}, frozenset({"used"}))
    assert without[:4] == ["m.LIMIT", "m.SIZE", "m.helper", "m.start"] and without[-2:] == ["m.Base.forward", "m.Part"]
