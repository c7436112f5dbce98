"""Text embeddings of a vocabulary, computed once and kept on disk (METHOD.md 1.7).

Shapes: N names of all classes together, K classes, D width of CLIP's joint space.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from possam.utils.files import write_atomically

from .templates import VILD_TEMPLATES, check_templates, fill_template
from .vocabulary import Vocabulary

logger = logging.getLogger(__name__)

# Part of every key: raised when the way from names to embeddings changes, so that old files are not found.
_RECIPE = 1
_PROMPTS_PER_CALL = 256
# Names of a shard. A multiple of _PROMPTS_PER_CALL, so that calls end where shards end, whatever the number of
# templates, and embeddings do not depend on shards.
_NAMES_PER_SHARD = 256
# Elements of the largest matrix that `ClassEmbeddings.nearest` makes at once: 64 MB of float32.
_ELEMENTS = 2**24

Progress = Callable[[int, int], None]
"""Called with how many names are embedded, and how many there are."""


class TextEncoder(Protocol):
    """What the bank needs of a text encoder.

    ``text_fingerprint`` must change whenever the text tower's weights or the tokenizer do. ``encode_text`` takes n
    sentences and returns n×D float32 unit rows on any device. ``check_texts`` raises ValueError for sentences that
    ``encode_text`` refuses, without encoding any.
    """

    @property
    def embed_dim(self) -> int: ...

    @property
    def text_fingerprint(self) -> str: ...

    def encode_text(self, texts: list[str], /) -> Tensor: ...

    def check_texts(self, texts: list[str], /) -> None: ...


@dataclass(frozen=True, kw_only=True)
class ClassEmbeddings:
    """Text embeddings of a vocabulary, one row a NAME, and the class each row speaks for.

    Args:
        embeddings: N×D float32, unit rows.
        class_index: N int64 in [0, num_classes), every class at least once, on the device of ``embeddings``.
        num_classes: K.

    Raises:
        ValueError: shapes disagree, or a class has no name.
    """

    embeddings: Tensor
    class_index: Tensor
    num_classes: int

    def __post_init__(self) -> None:
        if self.embeddings.dim() != 2 or self.class_index.shape != self.embeddings.shape[:1]:
            raise ValueError(
                "expected embeddings of shape N×D and class_index of shape N, "
                f"got {tuple(self.embeddings.shape)} and {tuple(self.class_index.shape)}"
            )
        present = torch.unique(self.class_index)
        if not torch.equal(present.cpu(), torch.arange(self.num_classes)):
            raise ValueError(
                f"class_index must name each of the {self.num_classes} classes at least once and no other, "
                f"got {present.tolist()}"
            )

    @property
    def device(self) -> torch.device:
        return self.embeddings.device

    def to(self, device: torch.device | str) -> ClassEmbeddings:
        """Return the same embeddings on another device (self where they are already there)."""
        if torch.device(device) == self.device:
            return self
        # A copy rather than a new object: checking again would make the GPU wait at every image.
        moved = copy.copy(self)
        object.__setattr__(moved, "embeddings", self.embeddings.to(device))
        object.__setattr__(moved, "class_index", self.class_index.to(device))
        return moved

    def cosine(self, x: Tensor) -> Tensor:
        """Cosine of each vector to each NAME: ``x`` …×D of any length and float dtype → …×N float32.

        A zero vector has cosine 0 to everything. Float32 also under autocast.
        """
        if x.shape[-1] != self.embeddings.shape[-1]:
            raise ValueError(
                f"expected vectors of width {self.embeddings.shape[-1]} as the text has, got {tuple(x.shape)}"
            )
        with torch.autocast(device_type=x.device.type, enabled=False):
            return F.normalize(x.float(), dim=-1) @ self.embeddings.float().T

    def nearest(self, x: Tensor) -> Tensor:
        """Largest cosine of each vector to any name: ``x`` n×D → n float32; n×N is never held as a whole."""
        if torch.compiler.is_compiling():  # an exported program takes any n
            return self.cosine(x).amax(dim=-1)
        rows = max(1, _ELEMENTS // len(self.embeddings))
        return torch.cat([self.cosine(part).amax(dim=-1) for part in x.split(rows)])

    def parts(self, classes: int) -> Iterator[tuple[slice, ClassEmbeddings]]:
        """The same text in parts of at most ``classes`` classes: which of the K classes, and their embeddings."""
        order = self.class_index.argsort(stable=True)
        ends = self.class_index.bincount(minlength=self.num_classes).cumsum(dim=0).tolist()
        for first in range(0, self.num_classes, classes):
            last = min(first + classes, self.num_classes)
            own = order[ends[first - 1] if first else 0 : ends[last - 1]]
            yield (
                slice(first, last),
                ClassEmbeddings(
                    embeddings=self.embeddings[own],
                    class_index=self.class_index[own] - first,
                    num_classes=last - first,
                ),
            )

    def select(self, classes: Sequence[int]) -> ClassEmbeddings:
        """The embeddings of some classes, which are numbered anew in this order."""
        place = torch.full((self.num_classes,), -1, device=self.device)
        place[torch.tensor(classes, device=self.device)] = torch.arange(len(classes), device=self.device)
        index, rows = place[self.class_index].sort(stable=True)
        index, rows = index[index >= 0], rows[index >= 0]
        return ClassEmbeddings(embeddings=self.embeddings[rows], class_index=index, num_classes=len(classes))

    def join(self, other: ClassEmbeddings) -> ClassEmbeddings:
        """These classes, and behind them those of another vocabulary of the same encoder."""
        return ClassEmbeddings(
            embeddings=torch.cat([self.embeddings, other.embeddings]),
            class_index=torch.cat([self.class_index, other.class_index + self.num_classes]),
            num_classes=self.num_classes + other.num_classes,
        )

    def max_over_names(self, values: Tensor) -> Tensor:
        """Largest value among a class's names: …×N → …×K."""
        index = self.class_index.expand(values.shape)
        best = values.new_full((*values.shape[:-1], self.num_classes), float("-inf"))
        return best.scatter_reduce(-1, index, values, reduce="amax", include_self=False)

    def logits(self, x: Tensor, scale: float | Tensor) -> Tensor:
        """Class logits scale·cos(x, name), the best of a class's names (METHOD.md 1.7): …×D → …×K float32."""
        return self.max_over_names(scale * self.cosine(x))


class TextBank:
    """Embeds vocabularies with one encoder and remembers the result, in memory and on disk.

    Args:
        encoder: the frozen text tower.
        directory: where files are kept; None keeps embeddings in memory only.
        templates: sentences with one ``{}`` each, and ``{article}`` where wanted.

    A second start finds the file and never calls the encoder. A damaged file is computed again, with a
    warning. Files are a convenience: where they cannot be read or written, a warning says so, once.

    More than 256 names are embedded and written in shards of 256, in the folder ``<key>.shards``, which the whole file
    replaces at the end. A run that is interrupted leaves its shards, and the next one computes only what is missing.
    Several processes with one folder share the work: each computes missing shards in an order of its own.
    """

    def __init__(
        self, *, encoder: TextEncoder, directory: Path | str | None, templates: Sequence[str] = VILD_TEMPLATES
    ) -> None:
        self._encoder = encoder
        self._directory = None if directory is None else Path(directory)
        self._templates = check_templates(templates)
        self._memory: dict[str, Tensor] = {}
        self._warned = False

    def embed(self, vocabulary: Vocabulary, progress: Progress | None = None) -> ClassEmbeddings:
        """Return the vocabulary's text embeddings, on the CPU; ``progress`` is called while they are computed."""
        key = self._key(vocabulary.names)
        if key not in self._memory:
            self._memory[key] = self._load_or_compute(key, vocabulary.names, progress)
        return ClassEmbeddings(
            embeddings=self._memory[key],
            class_index=torch.tensor(vocabulary.name_class, dtype=torch.int64),
            num_classes=len(vocabulary),
        )

    def check(self, vocabulary: Vocabulary) -> None:
        """Check that every name fits into the encoder's context, unless the embeddings are known; none is computed.

        Raises:
            ValueError: a name does not fit; the message shows the text.
        """
        path = self.path(vocabulary)
        if self._key(vocabulary.names) not in self._memory and not (path and path.exists()):
            self._check(vocabulary.names)

    def _check(self, names: Sequence[str]) -> None:
        for own in _shards(len(names)):
            self._encoder.check_texts(self._prompts(names[own]))

    def path(self, vocabulary: Vocabulary) -> Path | None:
        """The file in which this vocabulary's embeddings are, or would be, kept."""
        return None if self._directory is None else self._file(self._directory, self._key(vocabulary.names))

    @staticmethod
    def _file(directory: Path, key: str) -> Path:
        return directory / f"{key}.safetensors"

    def _key(self, names: Sequence[str]) -> str:
        content = [_RECIPE, self._encoder.text_fingerprint, list(self._templates), list(names)]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def _load_or_compute(self, key: str, names: Sequence[str], progress: Progress | None) -> Tensor:
        shape = (len(names), self._encoder.embed_dim)
        path = None if self._directory is None else self._file(self._directory, key)
        if path and (found := self._read(path, shape)) is not None:
            return found
        if len(names) <= _NAMES_PER_SHARD:
            embeddings = self._compute(names)
        else:
            self._check(names)  # the last name is not to fail after hours
            embeddings = self._compute_shards(names, path, progress)
        if path:
            try:
                _write(path, embeddings)
                shutil.rmtree(_shard_folder(path), ignore_errors=True)  # another process may remove them, too
            except OSError as error:
                self._warn("kept", error)
        return embeddings

    def _compute_shards(self, names: Sequence[str], path: Path | None, progress: Progress | None) -> Tensor:
        """Embed names shard by shard; with the ``path`` of the whole file, shards on disk are read and written."""
        embeddings = torch.empty(len(names), self._encoder.embed_dim)
        shards, done = _shards(len(names)), 0
        random.Random().shuffle(shards)  # processes that share a folder meet at few shards
        for own in shards:
            file = _shard_folder(path) / f"{own.start:06}.safetensors" if path else None
            part = self._read(file, (len(names[own]), embeddings.shape[1])) if file else None
            if part is None and path and (whole := self._read(path, tuple(embeddings.shape))) is not None:
                return whole  # of another process, which has removed the shards
            if part is None:
                part = self._compute(names[own])
                try:
                    if file:
                        _write(file, part)
                except OSError as error:
                    self._warn("kept", error)
            embeddings[own] = part
            done += len(part)
            if progress:
                progress(done, len(names))
        return embeddings

    def _read(self, path: Path, shape: tuple[int, ...]) -> Tensor | None:
        """The embeddings in a file, or None, with a warning where there is a file that cannot be used."""
        try:
            return _read(path, shape=shape) if path.exists() else None
        except FileNotFoundError:  # another process has just removed it
            return None
        except OSError as error:
            self._warn("read", error)
        except (SafetensorError, ValueError) as error:
            logger.warning("%s is damaged (%s); its text embeddings are computed again", path, error)
        return None

    def _warn(self, what: str, error: OSError) -> None:
        if not self._warned:
            logger.warning(
                "text embeddings cannot be %s in %s (%s) and are computed whenever they are wanted; give a folder that "
                'can be written, or "" for none, as MODEL.TEXT_CACHE or text_cache of from_pretrained',
                what,
                self._directory,
                error.strerror or error,
            )
        self._warned = True

    def _prompts(self, names: Sequence[str]) -> list[str]:
        return [fill_template(template, name) for name in names for template in self._templates]

    @torch.no_grad()
    def _compute(self, names: Sequence[str]) -> Tensor:
        """name × template → encode → normalize → mean over templates → normalize (METHOD.md 1.7)."""
        prompts = self._prompts(names)
        rows = []
        for start in range(0, len(prompts), _PROMPTS_PER_CALL):
            batch = prompts[start : start + _PROMPTS_PER_CALL]
            encoded = self._encoder.encode_text(batch).float().cpu()
            if encoded.shape != (len(batch), self._encoder.embed_dim):
                raise ValueError(
                    f"the text encoder returned {tuple(encoded.shape)} for {len(batch)} sentences, "
                    f"expected {(len(batch), self._encoder.embed_dim)}"
                )
            rows.append(F.normalize(encoded, dim=-1))
        embeddings = torch.cat(rows).unflatten(0, (len(names), len(self._templates))).mean(dim=1)
        embeddings = F.normalize(embeddings, dim=-1)
        if not embeddings.isfinite().all():
            raise ValueError("the text encoder returned numbers that are not finite; check its weights")
        return embeddings


def _shards(names: int) -> list[slice]:
    return [slice(first, first + _NAMES_PER_SHARD) for first in range(0, names, _NAMES_PER_SHARD)]


def _shard_folder(path: Path) -> Path:
    return path.with_suffix(".shards")


def _digest(embeddings: Tensor) -> str:
    return hashlib.sha256(embeddings.contiguous().numpy().tobytes()).hexdigest()


def _read(path: Path, *, shape: tuple[int, ...]) -> Tensor:
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        if "embeddings" not in file.keys():  # noqa: SIM118 (a safetensors handle, not a dict)
            raise ValueError("it holds no embeddings")
        embeddings = file.get_tensor("embeddings")
    if tuple(embeddings.shape) != shape or embeddings.dtype != torch.float32:
        raise ValueError(f"it holds {tuple(embeddings.shape)} {embeddings.dtype}, expected {shape} float32")
    # The format itself has no checksum, and a flipped bit would quietly change every score.
    if metadata.get("sha256") != _digest(embeddings):
        raise ValueError("its content does not match its checksum")
    return embeddings


def _write(path: Path, embeddings: Tensor) -> None:
    content = save({"embeddings": embeddings.contiguous()}, metadata={"sha256": _digest(embeddings)})
    write_atomically(path, lambda file: file.write(content))
