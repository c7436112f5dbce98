"""Panoptic counts of single images, kept as data: PQ of any sample of the images can be computed from them."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from possam.utils.files import write_atomically

__all__ = ["ImageCounts"]

_ARRAYS = ("images", "rows", "members", "names")


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageCounts:
    """Counts of `possam.evaluation.panoptic_quality.count_segments` for each of N images, of K classes.

    Attributes:
        image_ids: N ids, int or str, each once.
        class_names: K names.
        groups: K bool by suffix (`possam.evaluation.groups.class_groups`): the classes that PQ is averaged over.
        images: n int64 in [0, N), the position of each row's image in `image_ids`.
        rows: n×5 float64: class in [0, K), IoU, TP, FP, FN. An image may have any number of rows, none included.

    Raises:
        ValueError: an id is there twice, or arrays do not fit each other.
    """

    image_ids: tuple[Any, ...]
    class_names: tuple[str, ...]
    groups: Mapping[str, NDArray[np.bool_]]
    images: NDArray[np.int64]
    rows: NDArray[np.float64]

    def __post_init__(self) -> None:
        if len(set(self.image_ids)) < len(self.image_ids):
            raise ValueError("counts of images have an image id twice; give each image once.")
        shapes = {suffix: group.shape for suffix, group in self.groups.items()}
        if wrong := {suffix: shape for suffix, shape in shapes.items() if shape != (len(self.class_names),)}:
            raise ValueError(f"groups of {len(self.class_names)} classes must have that length, but have {wrong}.")
        if self.rows.shape != (len(self.images), 5):
            raise ValueError(
                f"counts must be {len(self.images)}×5, a row for each of `images`, but are {self.rows.shape}."
            )
        for name, values, most in (
            ("images", self.images, len(self.image_ids)),
            ("classes", self.rows[:, 0], len(self.class_names)),
        ):
            if len(values) and not (0 <= values.min() and values.max() < most):
                raise ValueError(f"counts have {name} from {values.min():g} to {values.max():g}, but there are {most}.")

    @classmethod
    def from_images(
        cls,
        image_ids: Sequence[Any],
        counts: Sequence[NDArray[np.float64]],
        *,
        class_names: Sequence[str],
        groups: Mapping[str, NDArray[np.bool_]],
    ) -> ImageCounts:
        """Join the n×5 counts of each image (`count_segments`), in the order of `image_ids`."""
        if len(image_ids) != len(counts):
            raise ValueError(f"there are counts of {len(counts)} images, but {len(image_ids)} image ids.")
        return cls(
            image_ids=tuple(image_ids),
            class_names=tuple(class_names),
            groups=dict(groups),
            images=np.repeat(np.arange(len(counts)), [len(rows) for rows in counts]).astype(np.int64),
            rows=np.concatenate([np.zeros((0, 5)), *counts]),
        )

    @cached_property
    def fractions(self) -> csr_matrix:
        """Numerator and denominator of PQ of each image and class (`panoptic_quality`), float64: (2·K)×N, first the
        sum of IoU, then TP + FP/2 + FN/2."""
        classes, places = self.rows[:, 0].astype(np.int64), np.concatenate([self.images, self.images])
        values = np.concatenate([self.rows[:, 1], self.rows[:, 2] + 0.5 * self.rows[:, 3] + 0.5 * self.rows[:, 4]])
        index = np.concatenate([classes, classes + len(self.class_names)])
        return csr_matrix((values, (index, places)), shape=(2 * len(self.class_names), len(self.image_ids)))

    @staticmethod
    def file_name(ensemble: str) -> str:
        """The name of an ensemble's file in panoptic_counts/, with characters that file names may not have as %XX."""
        return re.sub(r'[%/\\:*?"<>|\x00-\x1f]', lambda found: f"%{ord(found[0]):02X}", ensemble) + ".npz"

    def save(self, path: str | Path) -> None:
        """Write a compressed .npz of arrays alone, which `load` reads."""
        names = {"image_ids": self.image_ids, "class_names": self.class_names, "groups": list(self.groups)}
        arrays: dict[str, Any] = {
            "images": self.images,
            "rows": self.rows,
            "members": np.array(list(self.groups.values()), dtype=bool).reshape(len(self.groups), -1),
            "names": np.frombuffer(json.dumps(names).encode(), dtype=np.uint8),
        }
        write_atomically(path, lambda file: np.savez_compressed(file, **arrays))

    @classmethod
    def load(cls, path: str | Path) -> ImageCounts:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is another kind of file, or damaged.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"{path} does not exist; give a file of panoptic_counts/ that an evaluation wrote.")
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in _ARRAYS}
            names = json.loads(arrays["names"].tobytes())
            return cls(
                image_ids=tuple(names["image_ids"]),
                class_names=tuple(names["class_names"]),
                groups=dict(zip(names["groups"], arrays["members"], strict=True)),
                images=arrays["images"],
                rows=arrays["rows"],
            )
        except (ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path} does not hold panoptic counts of images ({error}); evaluate again.") from error
