"""Pictures of panoptic segmentations: colours by class name, outlines, names where they can be read."""

from possam.visualize.colors import class_color
from possam.visualize.figure import save_picture, side_by_side
from possam.visualize.overlay import draw_panoptic

__all__ = ["class_color", "draw_panoptic", "save_picture", "side_by_side"]
