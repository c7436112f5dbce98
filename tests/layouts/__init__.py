"""Tiny made-up trees of every dataset, in its OFFICIAL layout: as the archives unpack, before any preparation.

``make_<dataset>(root, *, images=2, size=(24, 32))`` writes `images` pictures of `size` (height, width) in each
of the two splits under `root`. The same arguments make the same files.
"""

from collections.abc import Callable

from tests.layouts.ade20k import make_ade20k
from tests.layouts.ade20k_full import make_ade20k_full
from tests.layouts.cityscapes import make_cityscapes
from tests.layouts.coco import make_coco
from tests.layouts.lvis import make_lvis
from tests.layouts.mapillary import make_mapillary
from tests.layouts.pascal import make_pascal_context, make_pascal_voc

LAYOUTS: dict[str, Callable[..., None]] = {
    "coco": make_coco,
    "ade20k": make_ade20k,
    "ade20k_full": make_ade20k_full,
    "pascal_context": make_pascal_context,
    "pascal_voc": make_pascal_voc,
    "cityscapes": make_cityscapes,
    "mapillary": make_mapillary,
    "lvis": make_lvis,
}

__all__ = ["LAYOUTS", *(maker.__name__ for maker in LAYOUTS.values())]
