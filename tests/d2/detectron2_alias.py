"""A pytest plugin, loaded in a process of its own, that runs Detectron2's tests against the built-in runtime.

``import detectron2.x`` answers with the very module object of ``possam.d2._runtime.x``, whether or not Detectron2 is
installed. What those test files import beside it, but the subset leaves out, is answered by stand-ins that fail when
they are used.
"""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import io
import sys
import types
from typing import Any

import torch

RUNTIME = "possam.d2._runtime"

# Imported at the top of Detectron2's test files, and outside the subset.
ABSENT_MODULES = {
    "detectron2.data.detection_utils": [],
    "detectron2.export": [],
    "detectron2.export.torchscript": ["patch_instances"],
    "detectron2.layers": ["ShapeSpec"],
    "detectron2.model_zoo": ["get_config"],
    "detectron2.utils.testing": ["convert_scripted_instances"],
}
ABSENT_NAMES = {
    "detectron2.config": ["downgrade_config", "instantiate", "upgrade_config"],
    "detectron2.data": ["MapDataset", "ToIterableDataset", "build_batch_data_loader"],
    "detectron2.data.common": ["AspectRatioGroupedDataset", "set_default_dataset_from_list_serialize_method"],
    "detectron2.data.samplers": [
        "GroupedBatchSampler",
        "RandomSubsetTrainingSampler",
        "RepeatFactorTrainingSampler",
        "TrainingSampler",
    ],
}


class Absent:
    """Stands where the subset has nothing; importing it works, using it does not."""

    def __init__(self, name: str):
        self.__dict__["name"] = name

    def _fail(self) -> Any:
        raise NotImplementedError(f"{self.name} is outside the subset")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._fail()

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        return self._fail()


def absent_module(name: str, attributes: list[str]) -> types.ModuleType:
    module = types.ModuleType(name)
    for attribute in attributes:
        setattr(module, attribute, Absent(f"{name}.{attribute}"))
    return module


class AliasFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Answers every name under ``detectron2``, so that nothing falls through to an installed one."""

    def __init__(self) -> None:
        self._own_specs: dict[str, Any] = {}

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        if fullname.split(".")[0] != "detectron2":
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: Any) -> types.ModuleType:
        if spec.name in ABSENT_MODULES:
            return absent_module(spec.name, ABSENT_MODULES[spec.name])
        module = importlib.import_module(RUNTIME + spec.name.removeprefix("detectron2"))
        self._own_specs[spec.name] = module.__spec__
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        # The import system has just written the alias's spec over the module's own.
        spec: Any = module.__spec__
        module.__spec__ = self._own_specs.get(spec.name, spec)


def reload_script_model(module: Any) -> Any:
    """Save and load a TorchScript object, the one helper of Detectron2's test utilities that is needed."""
    buffer = io.BytesIO()
    torch.jit.save(module, buffer)
    buffer.seek(0)
    return torch.jit.load(buffer)


def configurable(init_func: Any = None, *, from_config: Any = None) -> Any:
    """The subset's decorator of constructors; functions are decorated too at the top of Detectron2's tests."""
    if init_func is not None:
        return importlib.import_module(f"{RUNTIME}.config.config").configurable(init_func)
    return lambda function: Absent("configurable(from_config=…)")


def pytest_configure(config: Any) -> None:
    assert "detectron2" not in sys.modules
    sys.meta_path.insert(0, AliasFinder())
    for name in ABSENT_MODULES:
        # Importing one also makes it an attribute of its package, where "from package import module" looks.
        importlib.import_module(name)
    for name, attributes in ABSENT_NAMES.items():
        module = importlib.import_module(name)
        for attribute in attributes:
            if not hasattr(module, attribute):
                setattr(module, attribute, Absent(f"{name}.{attribute}"))
    importlib.import_module("detectron2.config").configurable = configurable  # type: ignore[attr-defined]
    importlib.import_module("detectron2.utils.testing").reload_script_model = reload_script_model  # type: ignore
    if importlib.util.find_spec("omegaconf") is None:
        sys.modules["omegaconf"] = absent_module("omegaconf", ["OmegaConf"])


def pytest_unconfigure(config: Any) -> None:
    for alias, module in list(sys.modules.items()):
        if alias == "detectron2" or (alias.startswith("detectron2.") and alias not in ABSENT_MODULES):
            assert module is sys.modules[RUNTIME + alias.removeprefix("detectron2")], alias
