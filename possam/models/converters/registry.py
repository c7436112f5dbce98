"""The registry of converters, and what they make of a published checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
import yaml
from torch import Tensor

from possam.config import keys_of
from possam.encoders.published_files import PublishedFile
from possam.models.spec import ModelSpec, model_spec
from possam.models.state import describe_frozen
from possam.vocabulary import Vocabulary

if TYPE_CHECKING:
    from possam.models.base import OpenVocabularySegmenter

__all__ = ["Converted", "Converter", "converters", "register_converter"]

logger = logging.getLogger(__name__)

Tensors = Mapping[str, Tensor]
_COMPARED = 1 << 14  # values of a frozen tensor; comparing larger ones would read gigabytes


@dataclass(frozen=True, kw_only=True)
class Converted:
    """A published checkpoint as a model of ours.

    Attributes:
        what: the model in words.
        architecture: the `MODEL.META_ARCHITECTURE` that builds it.
        settings: values by full key that give the published model and results; all others are the defaults.
        parameters: the trained parameters by our names.
        train_vocabulary: a value for `MODEL.TRAIN_VOCABULARY`.
        frozen: weights of frozen encoders that the file holds, by their names in the model. They are not used, but must
            be those of the model's encoders.
        parts: roles of `ModelSpec.parts` that the file does not hold: the model must have them from files of their own.
    """

    what: str
    architecture: str
    settings: Mapping[str, Any]
    parameters: Tensors
    train_vocabulary: str
    frozen: Tensors = field(default_factory=dict)
    parts: tuple[str, ...] = ()

    def as_checkpoint(self, model: OpenVocabularySegmenter, source: str) -> dict[str, Any]:
        """What `load_checkpoint` reads.

        A published file does not say over which weights of the frozen encoders it was trained, so the model's are taken
        to be those, unless it holds others.

        Raises:
            ValueError: it holds other weights of a frozen encoder than the model's.
        """
        own = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        held = [key for key, value in self.frozen.items() if key in own and value.numel() <= _COMPARED]
        if other := [key for key in held if not _equal(self.frozen[key], own[key])]:
            raise ValueError(
                f"{source} is {self.what}, but holds weights of a frozen encoder that are not those of the model "
                f"({len(other)} of {len(held)} tensors compared differ, such as {other[0]}). Give the weights it was "
                f"trained over, as MODEL.{other[0].split('.')[0].upper()}.WEIGHTS or weights=; a fine-tuned encoder is "
                "not supported."
            )
        if self.frozen:
            logger.info("%s holds weights of a frozen encoder, which are not used: the model has the same.", source)
        own_parts = {key: value for key, value in model.state_dict().items() if self._spec.part_of(key) in self.parts}
        return {
            "model": {**own_parts, **self.parameters},
            "frozen": describe_frozen(model),
            "vocabulary": Vocabulary.load(self.train_vocabulary).to_table(),
        }

    @property
    def _spec(self) -> ModelSpec:
        return model_spec(self.architecture)

    def check_parts(self, given: Collection[str], source: str) -> None:
        """Raise ValueError unless there are weights for all `parts`; `given` are the roles that have some."""
        if missing := [role for role in self.parts if role not in given]:
            listed = " and ".join(f"{role}=PATH" for role in missing)
            raise ValueError(
                f"{source} is {self.what}, and holds no {' and no '.join(missing)}. Give their weights, too: "
                f"--weights {listed} (weights= of from_pretrained, or MODEL.<ROLE>.WEIGHTS)."
            )

    def check_model(self, model: OpenVocabularySegmenter, source: str) -> None:
        """Check that the parameters are for this model, and warn of settings that give other results than published.

        Raises:
            ValueError: the model is of another architecture or size; names the settings to change.
        """
        if (architecture := type(model).__name__) != self.architecture:
            raise ValueError(
                f"{source} is {self.what}. MODEL.META_ARCHITECTURE {self.architecture} loads it, but the configured "
                f"model is a {architecture}; use a configuration of {self.architecture}, or give a checkpoint of "
                f"{architecture}."
            )
        config = yaml.safe_load(model.config) or {} if model.config else None
        keys, weights = keys_of(self.architecture), self._spec.part_weights
        if config is not None:
            self.check_parts([role for role in self.parts if _look_up(config, weights[role])], source)
        other = {
            key: (found, wanted)
            for key, wanted in self.settings.items()  # weights may be called by a tag or by a path
            if config is not None and not keys[key].path and (found := _look_up(config, key)) != wanted
        }
        state = model.state_dict()
        expected = {key: value.shape for key, value in state.items() if self._spec.part_of(key) not in self.parts}
        fits = expected == {key: value.shape for key, value in self.parameters.items()}
        sizes = [key for key in other if keys[key].resume == "fixed"]
        if sizes and not fits:
            listed = ", ".join(f"{key} {other[key][1]} (not {other[key][0]})" for key in sizes)
            raise ValueError(f"{source} is {self.what}, which does not fit the configured model; set {listed}.")
        if other and fits:
            listed = ", ".join(f"{key} {wanted} (it is {found})" for key, (found, wanted) in other.items())
            logger.warning("%s: its published results need %s.", source, listed)


@dataclass(frozen=True, kw_only=True)
class Converter:
    """How checkpoints of one published model are known by their tensors, and converted.

    Attributes:
        name: of the published model.
        recognizes: whether tensors by name are of that model.
        convert: raises ValueError for tensors that are recognized but incomplete or of an unknown size.
        files: what its authors publish.
        rename: tensors, of a part of the model too, by the names that this project has for them; None where no part is
            published by itself.
    """

    name: str
    recognizes: Callable[[Tensors], bool]
    convert: Callable[[Tensors], Converted]
    files: tuple[PublishedFile, ...] = ()
    rename: Callable[[Tensors], Mapping[str, Tensor]] | None = None


_CONVERTERS: list[Converter] = []


def register_converter(
    *,
    name: str,
    recognizes: Callable[[Tensors], bool],
    files: tuple[PublishedFile, ...] = (),
    rename: Callable[[Tensors], Mapping[str, Tensor]] | None = None,
) -> Callable[[Callable[[Tensors], Converted]], Callable[[Tensors], Converted]]:
    """Decorator of a function from tensors to `Converted`: register it; arguments as of `Converter`."""

    def register(convert: Callable[[Tensors], Converted]) -> Callable[[Tensors], Converted]:
        assert name not in [converter.name for converter in _CONVERTERS], f"two converters of {name}"
        _CONVERTERS.append(
            Converter(name=name, recognizes=recognizes, convert=convert, files=files, rename=rename)
        )
        return convert

    return register


def converters() -> list[Converter]:
    """All registered converters."""
    return list(_CONVERTERS)


def _equal(one: Tensor, other: Tensor) -> bool:
    """Whether tensors are equal to half precision, in which some files hold their weights."""
    return one.shape == other.shape and torch.allclose(one.float(), other.cpu().float(), rtol=2e-3, atol=1e-4)


def _look_up(config: Mapping[str, Any], key: str) -> Any:
    """The value of a full key in a nested configuration; None where there is none."""
    value: Any = config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
