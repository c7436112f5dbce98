"""The registry of systems: what trainer, evaluation, prediction and commands know of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from possam.config import Choice, Key, register_keys
from possam.d2.config import CfgNode
from possam.d2.modeling import META_ARCH_REGISTRY
from possam.encoders import FrozenEncoder

if TYPE_CHECKING:
    from possam.models.base import OpenVocabularySegmenter

__all__ = ["ModelSpec", "model_spec", "model_specs", "register_model"]

_SPECS: dict[str, ModelSpec] = {}
Model = TypeVar("Model", bound="type[OpenVocabularySegmenter]")


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """A system.

    Attributes:
        model: its class; the class's name is the `MODEL.META_ARCHITECTURE` that builds it.
        encoders: the type of each frozen encoder by role. A role is the encoder's attribute in the model, and its
            settings are NAME and WEIGHTS under `MODEL.<ROLE>`.
        check_config: raises ValueError for settings of the system that cannot be used together.
        exportable: whether `possam export` can write it.
        parts: modules that may come from a file of their own before a training, `MODEL.<ROLE>.WEIGHTS`, by role. Unlike
            encoders they are part of every checkpoint and saved model, which do not need that file.
    """

    model: type[OpenVocabularySegmenter]
    encoders: Mapping[str, type[FrozenEncoder]]
    check_config: Callable[[CfgNode], None]
    exportable: bool = False
    parts: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.model.__name__

    @property
    def prompts(self) -> bool:
        """Whether it makes a mask for each prompt, and needs prompts, instead of finding all masks itself."""
        return self.model.takes_prompts

    @property
    def trainable(self) -> bool:
        """Whether it has parameters to train; else it is evaluated as it is built, without a checkpoint."""
        return self.model.trainable

    @property
    def region_boxes(self) -> bool:
        """Whether CLIP can be given other regions than those of the predicted masks (`PromptedSegmenter`)."""
        return getattr(self.model, "takes_region_boxes", False)

    @property
    def weights(self) -> dict[str, str]:
        """The configuration key of the weights of each frozen encoder, by role."""
        return {role: f"MODEL.{role.upper()}.WEIGHTS" for role in self.encoders}

    @property
    def part_weights(self) -> dict[str, str]:
        """The configuration key of the weights of each part, by role."""
        return {role: f"MODEL.{role.upper()}.WEIGHTS" for role in self.parts}

    def part_of(self, key: str) -> str:
        """The role of the part that a tensor of the model's state dict belongs to; "" for none."""
        name = key.partition(".")[0]
        return next((role for role, names in self.parts.items() if name in names), "")

    def build(self, cfg: CfgNode) -> OpenVocabularySegmenter:
        """The model of a configuration, with random trained parameters and the weights of its frozen encoders."""
        build: Callable[[CfgNode], OpenVocabularySegmenter] = self.model  # made `configurable`
        return build(cfg)


def register_model(
    *,
    encoders: Mapping[str, type[FrozenEncoder]],
    keys: Sequence[Key],
    check_config: Callable[[CfgNode], None] = lambda _: None,
    exportable: bool = False,
    parts: Mapping[str, Sequence[str]] | None = None,
) -> Callable[[Model], Model]:
    """Class decorator: register a system here, its keys and, in Detectron2's `META_ARCH_REGISTRY`, its class.

    Args:
        keys: rows of the settings that not all systems have; `MODEL.<ROLE>.NAME` and WEIGHTS of every encoder are among
            them.
        encoders, check_config, exportable, parts: as of `ModelSpec`.
    """

    def register(model: Model) -> Model:
        spec = ModelSpec(
            model=model, encoders=encoders, check_config=check_config, exportable=exportable, parts=parts or {}
        )
        assert spec.name not in _SPECS, f"two systems called {spec.name}"
        needed = {f"MODEL.{role.upper()}.{setting}" for role in encoders for setting in ("NAME", "WEIGHTS")}
        assert needed <= {key.name for key in keys}, f"{spec.name} needs keys {sorted(needed)} of its encoders"
        register_keys(spec.name, keys)
        META_ARCH_REGISTRY.register(model)
        _SPECS[spec.name] = spec
        return model

    return register


def model_specs() -> list[ModelSpec]:
    """All registered systems."""
    return list(_SPECS.values())


def model_spec(name: str) -> ModelSpec:
    """The system that a configuration's `MODEL.META_ARCHITECTURE` names. Raises ValueError for an unknown one."""
    Choice(_SPECS)("MODEL.META_ARCHITECTURE", name)
    return _SPECS[name]
