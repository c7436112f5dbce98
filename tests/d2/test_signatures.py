"""Both sides of the door offer the same names with the same signatures."""

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

# Public members of Detectron2's that the subset does not have.
LEFT_OUT_MEMBERS = {
    "BitMasks": {"crop_and_resize", "from_roi_masks"},
    "Boxes": {"inside_box"},
    "DefaultTrainer": {"auto_scale_workers"},
    "EventStorage": {"clear_histograms", "iteration", "name_scope", "put_histogram"},
    "PolygonMasks": {"area", "crop_and_resize"},
    "ResizeTransform": {"apply_rotated_box"},
}
LEFT_OUT_OF_MODULES = {
    "hooks": {"AutogradProfiler", "PreciseBN", "TorchMemoryStats", "TorchProfiler"},
    "samplers": {"GroupedBatchSampler"},
    "transforms": {
        "ExtentTransform",
        "MinIoURandomCrop",
        "RandomCrop_CategoryAreaConstraint",
        "RandomExtent",
        "RandomResize",
        "RandomRotation",
        "RotationTransform",
        "np",  # what Detectron2's star imports carry along
        "inspect",
        "augmentation",
        "augmentation_impl",
        "transform",
    },
    "detection_utils": {
        "annotations_to_instances",
        "annotations_to_instances_rotated",
        "build_augmentation",
        "build_transform_gen",
        "convert_image_to_rgb",
        "create_keypoint_hflip_indices",
        "filter_empty_instances",
        "transform_instance_annotations",
        "transform_proposals",
    },
    "comm": {"dist", "functools", "np", "torch"},
}
# fvcore's own signature, which Detectron2 hides behind *args.
DIFFERENT = {"CfgNode.dump"}


def imports(door: Path, root: str) -> dict[str, str]:
    """Name → module below ``root`` from which a door imports it."""
    found = {}
    for node in ast.walk(ast.parse(door.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(root + "."):
            found.update({alias.name: node.module.removeprefix(root) for alias in node.names})
    return found


def parameters(thing: Any) -> list[tuple] | None:
    try:
        signature = inspect.signature(thing)
    except (TypeError, ValueError):
        return None
    # Functions as defaults are each side's own.
    return [
        (one.name, one.kind, None if callable(one.default) else one.default) for one in signature.parameters.values()
    ]


def members(thing: Any) -> set[str]:
    return {name for name in dir(thing) if not name.startswith("_")}


def differences(name: str, real: Any, builtin: Any) -> list[str]:
    if inspect.ismodule(real):
        names = set(getattr(real, "__all__", None) or members(real)) - LEFT_OUT_OF_MODULES.get(name, set())
        missing = [f"{name}.{one} is missing" for one in sorted(names) if not hasattr(builtin, one)]
        pairs = [(one, getattr(real, one), getattr(builtin, one)) for one in names if hasattr(builtin, one)]
        return missing + [text for pair in pairs for text in differences(*pair)]
    if not (inspect.isclass(real) or inspect.isroutine(real)):
        missing_members = members(real) - members(builtin) - LEFT_OUT_MEMBERS.get(name, set())
        return [f"{name}.{one} is missing" for one in sorted(missing_members)]
    found = [] if parameters(real) == parameters(builtin) else [f"{name}: {parameters(real)} != {parameters(builtin)}"]
    if inspect.isclass(real):
        for one in sorted(members(real) - LEFT_OUT_MEMBERS.get(name, set())):
            if not hasattr(builtin, one):
                found.append(f"{name}.{one} is missing")
            elif callable(getattr(real, one)) and f"{name}.{one}" not in DIFFERENT:
                theirs, ours = parameters(getattr(real, one)), parameters(getattr(builtin, one))
                if theirs != ours:
                    found.append(f"{name}.{one}: {theirs} != {ours}")
    return found


@pytest.mark.parametrize("door", DOORS, ids=lambda path: path.stem)
def test_a_door_takes_the_same_names_from_both_sides_and_exports_them(door):
    names = imports(door, BUILTIN)
    assert names and names == imports(door, REAL)
    module = importlib.import_module(f"possam.d2.{door.stem}")
    aliases = {"T", "utils"} if door.stem == "data" else set()
    assert set(module.__all__) == set(names) | aliases
    for name in module.__all__:
        assert hasattr(module, name)


def test_the_short_names_of_the_data_door():
    data = importlib.import_module("possam.d2.data")
    assert data.T is data.transforms and data.utils is data.detection_utils


def test_a_difference_is_found():
    class Real:
        def method(self, a, b=1):
            pass

        def other(self):
            pass

    class Builtin:
        def method(self, a, b=2):
            pass

    found = differences("Real", Real, Builtin)
    assert len(found) == 2 and "method" in found[0] and "other is missing" in found[1]


@pytest.mark.skipif(possam.d2.BACKEND != "detectron2", reason="Detectron2 is not installed, or not chosen")
@pytest.mark.parametrize("door", DOORS, ids=lambda path: path.stem)
def test_names_and_signatures_are_equal_on_both_sides(door):
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
