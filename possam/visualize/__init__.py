"""Pictures of panoptic segmentations: colors by class, outlines, names where they can be read, and why a mask
got its name."""

from possam.visualize.colors import class_color
from possam.visualize.figure import save_picture, side_by_side
from possam.visualize.mask_panel import draw_explanation
from possam.visualize.overlay import draw_panoptic

__all__ = ["class_color", "draw_explanation", "draw_panoptic", "save_picture", "side_by_side"]
