"""Shared code names no system, and no encoder by its role in one: it takes both from the `ModelSpec`."""

import ast
import re
from pathlib import Path

import pytest

from possam.models import model_specs

ROOT = Path(__file__).parents[2]
SPECS = [spec for spec in model_specs() if spec.model.__module__.startswith("possam.")]
SYSTEMS = {spec.name: Path(*spec.model.__module__.split(".")).with_suffix(".py").as_posix() for spec in SPECS}
ROLES = sorted({role for spec in SPECS for role in spec.encoders})

MAY_NAME_SYSTEMS = {
    "possam/__init__.py": "the public export",
    "possam/models/ovsam_distillation.py": "the first of two trainings of a system, whose class it extends",
    "possam/models/__init__.py": "imports every system, which registers it",
    "possam/config/table.py": "the default of MODEL.META_ARCHITECTURE",
}
CONVERTERS = "possam/models/converters/"
BENCHMARKS = "tools/benchmark"  # they name what they measure
MAY_NAME_ROLES = {
    "possam/models/parts.py": "the keys of encoders, which a system picks; `MODEL.EMBEDDING.NAME clip`",
    "possam/models/base.py": "CLIP, whose text names the masks, is part of the base's contract",
    "possam/models/top_names.py": "the same: temperature of the text embeddings",
    "possam/export/programs.py": "the same: width and temperature of the text embeddings",
    "possam/export/folder.py": "the same",
    "possam/demo/segmenting.py": "the same: which words CLIP reads",
    "possam/classifiers/local_discriminative_pooling.py": "its two streams, MODEL.LDP.STREAMS",
    "possam/classifiers/ensembles/clip.py": "the name of an ensemble",
    "possam/encoders/weight_files.py": "of which kind of encoder a file is",
    "possam/encoders/sam.py": "the encoder's own messages and fingerprint",
    "possam/encoders/clip/building.py": "the encoder's own messages",
    "possam/encoders/clip/recognize.py": "the encoder's own messages",
    "possam/encoders/clip/frozen_clip.py": "the encoder's own fingerprint",
}


def sources(*folders):
    paths = (path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return sorted(path.relative_to(ROOT).as_posix() for path in paths)


def system_names(text):
    """Classes of systems that a text names, anywhere in it."""
    return set(re.findall(rf"\b({'|'.join(SYSTEMS)})\b", text))


def role_names(text):
    """Uses of an encoder's role in Python code: `model.sam`, `cfg.MODEL.SAM`, the strings "sam" and "MODEL.SAM.…".

    Docstrings may give examples.
    """
    tree = ast.parse(text)
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    keys = re.compile(rf"\bMODEL\.({'|'.join(ROLES).upper()})\b")
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            owner = ast.unparse(node.value)
            owners = ("model", "self") if node.attr in ROLES else ("model", "node", "MODEL")
            if node.attr.lower() in ROLES and owner.rpartition(".")[-1] in owners:
                found.add(f"{owner}.{node.attr}")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            if node.value in ROLES or keys.search(node.value):
                found.add(node.value)
    return found


NOT_ROLES = {
    "possam/engine/step.py": {"self.clip"},  # largest norm of the gradients
    "possam/models/explanation.py": {"self.clip"},  # the names that CLIP finds most probable
    "possam/visualize/overlay.py": {"clip"},  # a mode of numpy.take
}


def test_shared_code_names_no_system():
    offenders = {}
    for path in sources("possam", "tools", "datasets"):
        own = {name for name, file in SYSTEMS.items() if file == path}
        if path not in MAY_NAME_SYSTEMS and not path.startswith((CONVERTERS, BENCHMARKS)):
            offenders[path] = system_names((ROOT / path).read_text()) - own
    assert len(offenders) > 100 and {path: names for path, names in offenders.items() if names} == {}


def test_shared_code_names_no_encoder_by_its_role():
    offenders = {}
    for path in sources("possam"):
        if path not in MAY_NAME_ROLES and path not in SYSTEMS.values() and not path.startswith(CONVERTERS):
            offenders[path] = role_names((ROOT / path).read_text()) - NOT_ROLES.get(path, set())
    assert len(offenders) > 100 and {path: names for path, names in offenders.items() if names} == {}


def test_exceptions_are_needed():
    for path in MAY_NAME_SYSTEMS:
        assert system_names((ROOT / path).read_text()), path
    for path in (*MAY_NAME_ROLES, *NOT_ROLES):
        assert role_names((ROOT / path).read_text()), path
    for name in ("models/base.py", "export/programs.py", "export/folder.py", "demo/segmenting.py"):
        path = f"possam/{name}"
        assert "sam" not in {role.rpartition(".")[-1].lower() for role in role_names((ROOT / path).read_text())}, path


@pytest.mark.parametrize(
    "code",
    ["x = model.sam", "y = self.model.clip.name", 'f["sam"]', 'f("MODEL.CLIP.WEIGHTS")', "cfg.MODEL.SAM.NAME",
     'f"set MODEL.SAM.NAME to {x}"', "self.clip = 1", "node.SAM"],
)  # fmt: skip
def test_uses_of_a_role_are_found(code):
    assert role_names(code)


@pytest.mark.parametrize("code", ["np.clip(x, 0, 1)", "x.clip(0)", '"""MODEL.SAM.NAME"""', 'f("clips")', "clip = 3"])
def test_what_is_no_use_of_a_role_is_left_alone(code):
    assert not role_names(code)
