"""The miniature world: a drawn panoptic data set with classes that training never sees.

`lexicon` names what exists, `world` draws it with exact ground truth, `export` writes a split in the COCO
panoptic format, and `splits` puts `mini_a_train`, `mini_b_selection` and `mini_b_report` into the catalogs.
"""

from possam.data.miniature.lexicon import EVERYTHING, Palette, kind_of, palette_of, words
from possam.data.miniature.world import Scene, Segment, crop, draw_scene

__all__ = [
    "EVERYTHING",
    "Palette",
    "Scene",
    "Segment",
    "crop",
    "draw_scene",
    "kind_of",
    "palette_of",
    "words",
]
