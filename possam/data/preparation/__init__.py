"""Making the files that this project reads of the files that the datasets' authors offer.

    from possam.data.preparation import PREPARATIONS
    report = PREPARATIONS["ade20k"].run(root, processes=8)

Every preparation works image by image in several processes, leaves alone what is there and whole, goes on where a
stopped run ended, and writes a file in whole or not at all.
"""

from possam.data.preparation.ade20k import ADE20K
from possam.data.preparation.ade20k_full import ADE20K_FULL
from possam.data.preparation.ade20k_instance import ADE20K_INSTANCE
from possam.data.preparation.ade20k_panoptic import ADE20K_PANOPTIC
from possam.data.preparation.ade20k_semantic import ADE20K_SEMANTIC
from possam.data.preparation.cityscapes import CITYSCAPES
from possam.data.preparation.coco_stuff import COCO_STUFF
from possam.data.preparation.mini import MINI
from possam.data.preparation.pascal_context import PASCAL_CONTEXT_59, PASCAL_CONTEXT_459
from possam.data.preparation.pascal_voc import PASCAL_VOC
from possam.data.preparation.plan import Report
from possam.data.preparation.preparation import Preparation

__all__ = ["PREPARATIONS", "Preparation", "Report"]

_ALL: tuple[Preparation, ...] = (
    COCO_STUFF,
    ADE20K,
    ADE20K_SEMANTIC,
    ADE20K_PANOPTIC,
    ADE20K_INSTANCE,
    ADE20K_FULL,
    PASCAL_CONTEXT_59,
    PASCAL_CONTEXT_459,
    PASCAL_VOC,
    CITYSCAPES,
    MINI,
)
PREPARATIONS: dict[str, Preparation] = {preparation.name: preparation for preparation in _ALL}
