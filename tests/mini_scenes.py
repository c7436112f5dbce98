"""Drawn scenes whose things are prompted for."""

from possam.data.instance_prompts import center_point
from possam.data.miniature.world import draw_scene


def scenes_of_things(palette, count, seed=991):
    """Scenes that no training has drawn: H×W×3 uint8 RGB, its T things, their masks, points in their middles, boxes."""
    for index in range(count):
        scene = draw_scene([seed, index], palette)
        things = [segment for segment in scene.segments if segment.isthing]
        masks = [scene.mask(thing) for thing in things]
        boxes = [[x, y, x + width, y + height] for x, y, width, height in (thing.bbox for thing in things)]
        yield scene.image, things, masks, [center_point(mask) for mask in masks], boxes


def iou(found, wanted):
    """IoU of two masks, H×W bool."""
    return (found & wanted).sum() / (found | wanted).sum()
