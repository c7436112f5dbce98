"""Whole models to and from a folder or the Hugging Face hub: configuration, trained parameters, training vocabulary.

Such a folder holds `config.yaml`, `model.safetensors`, `vocabulary.json` and `README.md`. Everything in it is data; no
code of a downloaded folder is run.
"""

from __future__ import annotations

import logging
import os
import re
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from possam.config import SavedConfig
from possam.d2.config import CfgNode
from possam.encoders.weight_files import WEIGHTS, downloaded, known_file
from possam.models.converters import read_published
from possam.models.model_card import Results, model_card
from possam.models.spec import ModelSpec, model_spec
from possam.models.state import describe_frozen, limits_of, load_checkpoint, read_checkpoint, write_safetensors
from possam.utils.files import expand_home, full_path, write_atomically
from possam.vocabulary import Vocabulary

if TYPE_CHECKING:
    from typing_extensions import Self  # of `typing` from Python 3.11 on

logger = logging.getLogger(__name__)

CONFIG, PARAMETERS, VOCABULARY, CARD = "config.yaml", "model.safetensors", "vocabulary.json", "README.md"
_NEEDED = (CONFIG, PARAMETERS, VOCABULARY)
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
_OF_FILES = (".pth", ".pt", ".bin", ".safetensors", ".pkl")

class Pretrained(nn.Module):
    """Base of the systems: they can be saved to a folder or the hub, and loaded from there.

    Attributes:
        config: YAML of the configuration the model was built from; empty where it was built from parts.
        train_vocabulary: the classes it was trained on.
    """

    config: str
    train_vocabulary: Vocabulary

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        revision: str | None = None,
        weights: Mapping[str, str | Path] | None = None,
        device: str | torch.device | None = None,
        cache_dir: str | Path | None = None,
        text_cache: str | Path | None = None,
        token: str | bool | None = None,
    ) -> Self:
        """Load a model that `save_pretrained` or `push_to_hub` has written, or a published one, in eval mode.

        Args:
            source: a folder, which is read without the network, a repository "owner/name" of the hub, or the file of a
                published checkpoint that possam.models.converters recognizes.
            revision: branch, tag or commit of the repository.
            weights: of frozen encoders by role, such as {"clip": "clip.safetensors"}, as MODEL.<ROLE>.WEIGHTS takes
                them; by default the saved configuration's. Whatever they are, they must be those of the training,
                which a published checkpoint does not say. Also of parts that a published file does not hold.
            device: where the model goes; by default where it was, or the CPU, with a warning, if that is not here.
            cache_dir: folder of downloads; by default the hub's own.
            text_cache: folder of the text bank; by default possam/text in the user's cache, and "" keeps nothing.
            token: for private repositories; by default the one `hf auth login` has stored.

        Raises:
            FileNotFoundError: no such folder or repository, a file of it or the weights of an encoder are missing.
            ValueError: a file is damaged or does not fit this version, the model is of another architecture, or the
                frozen encoders are not those it was trained over.
        """
        file = full_path(source)
        if file.is_file():
            published = read_published(file)
            saved = SavedConfig({"MODEL.DEVICE": _any_device(), **published.settings}, source=str(file))
            described, vocabulary = file, published.train_vocabulary
        else:
            published = None
            folder = _find(source, revision=revision, cache_dir=cache_dir, token=token)
            described, vocabulary, file = folder / CONFIG, str(folder / VOCABULARY), folder / PARAMETERS
            saved = SavedConfig.read(described)
        spec = model_spec(saved.system)
        if not issubclass(spec.model, cls):
            raise ValueError(
                f"{described} describes a {spec.name}, not a {cls.__name__}; use {spec.name}.from_pretrained."
            )
        cfg = saved.over_defaults()
        where = _device(device, cfg.MODEL.DEVICE, described)
        _set_weights(cfg, spec, weights or {}, source, parts=() if published is None else published.parts)
        if published is not None:
            published.check_parts(list(weights or {}), str(file))
        cfg.MODEL.TRAIN_VOCABULARY = vocabulary
        cfg.MODEL.TEXT_CACHE = _text_cache(text_cache)
        checkpoint = read_checkpoint(file) if published is None else {}
        model = spec.build(cfg)
        assert isinstance(model, cls)
        if published is not None:
            checkpoint = published.as_checkpoint(model, str(file))
        load_checkpoint(model, checkpoint, str(file))
        return model.to(where).eval()

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        cfg: CfgNode | None = None,
        dtype: torch.dtype = torch.float32,
        results: Results | None = None,
        license: str = "",
    ) -> Path:
        """Write the model to a folder, from which `from_pretrained` makes an equal one.

        Args:
            folder: made if it does not exist.
            cfg: the configuration to record; by default the one the model was built from.
            dtype: of the parameters in the file: float32, float16 or bfloat16.
            results: what to report in the README, metrics in percent by dataset and heading (`model_card.Results`).
            license: of the parameters, for the README, as the hub calls it, such as "apache-2.0".

        Returns:
            The folder.

        Raises:
            ValueError: the model was built from parts and `cfg` is missing; unknown dtype; results without numbers.
        """
        folder = full_path(folder)
        self._write(folder, cfg, dtype, results, license, source=folder.resolve().name)
        return folder

    def push_to_hub(
        self,
        repo_id: str,
        *,
        cfg: CfgNode | None = None,
        dtype: torch.dtype = torch.float32,
        results: Results | None = None,
        license: str = "",
        private: bool | None = None,
        token: str | bool | None = None,
        commit_message: str = "Upload model",
    ) -> str:
        """Upload what `save_pretrained` writes to a repository of the hub, which is made if it does not exist.

        Args:
            repo_id: "owner/name".
            private: whether a new repository is; by default as the owner's settings say.
            token: with the right to write; by default the one `hf auth login` has stored.

        Returns:
            The repository's address.

        Raises:
            ValueError: as `save_pretrained`, or the hub refuses.
        """
        import huggingface_hub

        api = huggingface_hub.HfApi(token=token)
        with tempfile.TemporaryDirectory() as folder:
            self._write(Path(folder), cfg, dtype, results, license, source=repo_id)
            try:
                repository = api.create_repo(repo_id, private=private, exist_ok=True)
                api.upload_folder(repo_id=repository.repo_id, folder_path=folder, commit_message=commit_message)
            except Exception as error:  # its HTTP library, and so the errors, change from version to version
                raise ValueError(
                    f"The hub did not take {repo_id!r} ({_reason(error)}). Log in with `hf auth login` or give a token "
                    "that may write there; without a network, save_pretrained writes the same files to a folder."
                ) from error
        return str(repository)

    def _write(
        self,
        folder: Path,
        cfg: CfgNode | None,
        dtype: torch.dtype,
        results: Results | None,
        license: str,
        *,
        source: str,
    ) -> None:
        text = self.config if cfg is None else cfg.dump()
        if not text:
            raise ValueError("The model was built from parts, not from a configuration; give one to record with cfg=….")
        config = SavedConfig.portable(text)
        frozen = describe_frozen(self)
        card = model_card(
            title=source.rstrip("/").rsplit("/", 1)[-1],
            source=source,
            architecture=type(self).__name__,
            parameters=sum(value.numel() for value in self.state_dict().values()),
            frozen=frozen,
            weights={role: config[key] for role, key in model_spec(type(self).__name__).weights.items()},
            vocabulary=self.train_vocabulary,
            data=config["DATASETS.TRAIN"],
            prompts=model_spec(type(self).__name__).prompts,
            results=results,
            limits=limits_of(self),
            license=license,
        )
        folder.mkdir(parents=True, exist_ok=True)
        write_safetensors(folder / PARAMETERS, self, dtype=dtype)
        self.train_vocabulary.to_json(folder / VOCABULARY)
        write_atomically(folder / CONFIG, lambda file: file.write(config.to_yaml().encode()))
        write_atomically(folder / CARD, lambda file: file.write(card.encode()))


def _find(
    source: str | Path, *, revision: str | None, cache_dir: str | Path | None, token: str | bool | None
) -> Path:
    """The folder itself, or the one to which the repository was downloaded, with all needed files."""
    folder = full_path(source)
    if not folder.is_dir():
        if folder.suffix in _OF_FILES:
            raise FileNotFoundError(f"There is no file {source}; check the path.")
        if isinstance(source, Path) or not _REPOSITORY.fullmatch(source):
            raise FileNotFoundError(f"There is no folder {source}; a repository of the hub is written owner/name.")
        folder = _download(source, revision=revision, cache_dir=cache_dir, token=token)
    missing = [name for name in _NEEDED if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{source} lacks {' and '.join(missing)}; a model saved by save_pretrained has {', '.join(_NEEDED)}."
        )
    return folder


def _download(repo_id: str, **options: Any) -> Path:
    import huggingface_hub

    try:
        return Path(huggingface_hub.snapshot_download(repo_id, allow_patterns=[*_NEEDED, CARD], **options))
    except Exception as error:  # the hub's HTTP library, and so its errors, change from version to version
        raise FileNotFoundError(
            f"There is no folder {repo_id}, and the hub did not give the repository of that name ({_reason(error)}). "
            "Check the name, the revision and, for a private one, the token. Without a network, copy the repository's "
            "files to a folder and give its path."
        ) from error


def _set_weights(
    cfg: CfgNode, spec: ModelSpec, weights: Mapping[str, str | Path], source: str | Path, *, parts: Collection[str]
) -> None:
    """Put the weights given into the configuration, and check that those of all encoders can be found here. `parts` are
    the roles of those that `source` does not hold."""
    if unknown := sorted(set(weights) - set(spec.encoders) - set(spec.parts)):
        raise ValueError(f"weights are given for {unknown}, but a {spec.name} has {', '.join(spec.encoders)}.")
    for role in spec.parts:
        if role in weights and role not in parts:
            raise ValueError(f"weights are given for {role!r}, but {source} holds them itself; leave them out.")
        cfg.MODEL[role.upper()].WEIGHTS = expand_home(weights.get(role, ""))
    for role, encoder in spec.encoders.items():
        node = cfg.MODEL[role.upper()]
        node.WEIGHTS = expand_home(weights.get(role, downloaded(node.NAME, node.WEIGHTS)))
        if encoder.finds_weights(node.WEIGHTS):
            continue
        official = known_file(node.WEIGHTS)
        official = official or next((file for file in WEIGHTS.values() if file.model == node.NAME), None)
        fetch = f"Fetch them with `possam weights download {official.name}`, or say" if official else "Say"
        raise FileNotFoundError(
            f"{source} needs the weights of {role.upper()} {node.NAME}, and {Path(node.WEIGHTS).absolute()} does not "
            f"exist. {fetch} where they are with weights={{{role!r}: …}} (on the command line --weights {role}=PATH)."
        )


def _any_device() -> str:
    """The device of a model that does not say where it was."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def _device(wish: str | torch.device | None, saved: str, config: Path) -> torch.device:
    try:
        device = torch.device(saved if wish is None else wish)
    except RuntimeError as error:
        came = f"MODEL.DEVICE of {config} is {saved!r:.80}" if wish is None else f"device is {wish!r:.80}"
        raise ValueError(f"{came}, but must be 'cpu' or 'cuda'; give device='cpu'.") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        if wish is not None:
            raise ValueError(f"device is {str(wish)!r}, but there is no CUDA device; give 'cpu'.")
        logger.warning("The model was on a CUDA device, and there is none here; it goes to the CPU.")
        return torch.device("cpu")
    return device


def _text_cache(wish: str | Path | None) -> str:
    if wish is not None:
        return expand_home(wish)
    try:
        folder = full_path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "possam" / "text"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        logger.warning("Text embeddings are not kept on disk: %s. Give text_cache a folder.", error)
        return ""
    return str(folder)


def _reason(error: BaseException) -> str:
    """The first line of an error's message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__
