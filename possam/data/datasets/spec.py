"""What a dataset consists of on disk: plain data, from which it is prepared, checked, registered and loaded.

All paths are relative to the datasets' root (`datasets_root`), in the layout that FC-CLIP and Mask2Former use.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from possam.data.catalog import ANNOTATIONS
from possam.data.images import IMAGE_NAMES
from possam.vocabulary import Vocabulary
from possam.vocabulary.published import published_vocabulary
from possam.vocabulary.splits import find_split

__all__ = ["DatasetSpec", "InstanceFiles", "PanopticFiles", "SemanticFiles"]


@dataclass(frozen=True, kw_only=True)
class PanopticFiles:
    """An annotation file in the COCO panoptic format and the folder of its RGB id PNGs."""

    json: str
    folder: str


@dataclass(frozen=True, kw_only=True)
class SemanticFiles:
    """Label maps: one single-channel picture an image, whose pixels are contiguous classes.

    Attributes:
        folder: root of the label maps; subfolders are those of the images.
        suffix: end of a label map's name, in place of the image's (`DatasetSpec.image_suffix`).
        ignore_label: value of pixels without a class: 255 in 8-bit maps, 65535 in 16-bit ones, or as the
            dataset says.
        dtype: "uint8", "uint16", or "any width".
    """

    folder: str
    suffix: str = ".png"
    ignore_label: int = 255
    dtype: str = "uint8"


@dataclass(frozen=True, kw_only=True)
class InstanceFiles:
    """An annotation file in the COCO instance format, or LVIS's, whose annotation of an image is `federated`:
    classes that it does not name as present or absent are unknown, not absent."""

    json: str
    federated: bool = False


@dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """One split of one dataset. It has at least one of `panoptic`, `semantic` and `instances`.

    Attributes:
        name: in the catalogs, such as "ade20k_panoptic_val".
        vocabulary: a shipped table, whose dataset ids are the category ids of the JSONs.
        things_only: the vocabulary is the table's things alone, in the table's order.
        image_folder: root of the images; image_suffix: end of their names.
        image_names: how the annotation file names images (`possam.data.images.ImageFinder`).
        class_split: a shipped split (`possam.vocabulary.splits`): the vocabulary has its classes alone, and instances
            of others are left out; base_only: its base classes alone.
        images: number of annotated images of the official split; other_counts: numbers that trees in use have, too.
        source: where the official files come from and what to unpack, a sentence or two for a person.
        preparation: what `possam data prepare` calls the step that makes the files that are not the official
            ones; "" where the official files are used as they are.
    """

    name: str
    vocabulary: str
    image_folder: str
    images: int
    source: str
    other_counts: tuple[int, ...] = ()
    image_suffix: str = ".jpg"
    image_names: str = "file_name"
    things_only: bool = False
    class_split: str = ""
    base_only: bool = False
    panoptic: PanopticFiles | None = None
    semantic: SemanticFiles | None = None
    instances: InstanceFiles | None = None
    preparation: str = ""

    def __post_init__(self) -> None:
        assert self.panoptic or self.semantic or self.instances, f"{self.name} has no annotation"
        assert self.image_names in IMAGE_NAMES, f"{self.name} has the image_names {self.image_names!r}"

    @property
    def tasks(self) -> tuple[str, ...]:
        """The kinds of annotation it has; a panoptic one serves for all three."""
        if self.panoptic:
            return ANNOTATIONS
        return tuple(["semantic"] * bool(self.semantic) + ["instance"] * bool(self.instances))

    @property
    def fix(self) -> str:
        """What a person does where files are missing."""
        step = f" Then run: possam data prepare {self.preparation}" if self.preparation else ""
        return self.source + step

    def load_vocabulary(self, class_names: str = "") -> Vocabulary:
        """The dataset's classes under the names of the shipped table, or of another source (`published_vocabulary`)."""
        whole = self.load_table(class_names)
        if not self.class_split:
            return whole
        # By id, since class names of another source are others.
        kept = find_split(self.class_split).restrict(self.load_table(), base_only=self.base_only)
        ids = set(kept.contiguous_id)
        return replace(whole, name=kept.name, categories=tuple(c for c in whole.categories if c.dataset_id in ids))

    def load_table(self, class_names: str = "") -> Vocabulary:
        """The classes of the dataset's annotation file: with those that `class_split` leaves out."""
        table = self.vocabulary
        vocabulary = published_vocabulary(table, class_names) if class_names else Vocabulary.load(table)
        return vocabulary.things() if self.things_only else vocabulary

    @property
    def left_out(self) -> frozenset[int]:
        """Category ids of the annotation file that are no class of the dataset."""
        return frozenset(self.load_table().contiguous_id) - frozenset(self.load_vocabulary().contiguous_id)
