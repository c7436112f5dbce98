"""Merging masks where they matter gives what merging them at full size gives: the same pixels, segments, instances."""

import pytest
import torch

from possam.inference import MaskGrid, merge_instances, merge_panoptic, merge_semantic
from tests.reference import merging
from tests.reference.scenes import haze, scene

SIZES = {
    "enlarged": {"padded_size": (256, 256), "image_size": (192, 256), "output_size": (180, 240)},
    "a strip": {"padded_size": (256, 256), "image_size": (64, 250), "output_size": (150, 601)},
    "reduced": {"padded_size": (256, 256), "image_size": (256, 200), "output_size": (50, 41)},
    "as it is": {"padded_size": (64, 64), "image_size": (64, 64), "output_size": (64, 64)},
}


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("kind", [scene, haze])
@pytest.mark.parametrize("seed", [0, 1])
def test_segmentations_are_those_of_masks_at_full_size(sizes, kind, seed):
    scores, logits = kind(60, 40, (64, 64), seed=seed)
    isthing = [k % 3 > 0 for k in range(40)]
    expected = merging.merge(scores, logits, isthing, **sizes)
    grid = MaskGrid(logits, **sizes)
    panoptic, segments = merge_panoptic(scores, grid, isthing, object_threshold=0.1, overlap_threshold=0.8)
    assert torch.equal(panoptic, expected.panoptic) and (kind is haze or len(segments) > 5)
    assert [{key: segment[key] for key in ("id", "category_id", "area", "bbox")} for segment in segments] == (
        expected.segments
    )
    instances = merge_instances(scores, grid, isthing)
    values, classes, masks = expected.instances
    torch.testing.assert_close(instances.scores, values, atol=1e-6, rtol=0)
    assert torch.equal(instances.pred_classes, classes) and torch.equal(instances.pred_masks, masks)
    check_semantic(merge_semantic(scores, grid), expected.semantic, scores, logits, sizes)


def check_semantic(got, expected, scores, logits, sizes):
    """Equal, but for pixels where two sums tie within the rounding of float32."""
    differ = got != expected
    probability = merging.restore(logits, **sizes)[:, differ].double().sigmoid()
    sums = scores.double().T @ probability
    one, other = (sums.gather(0, classes[differ][None])[0] for classes in (got, expected))
    torch.testing.assert_close(one, other, atol=0, rtol=4e-6)
    assert differ.float().mean() < 1e-4


def test_sums_far_below_rounding_are_told_apart_as_well():
    """Pixels that no mask claims still take the class whose sum is the larger."""
    scores, logits = scene(60, 40, (64, 64))
    sizes = SIZES["enlarged"]
    faint = logits - 30
    expected = merging.semantic(scores, merging.restore(faint, **sizes))
    check_semantic(merge_semantic(scores, MaskGrid(faint, **sizes)), expected, scores, faint, sizes)


def test_in_a_scene_most_masks_are_not_restored():
    """What makes merging fast; if bounds told nothing, results would still be right."""
    scores, logits = scene(250, 133, (64, 64))
    grid = MaskGrid(logits, output_size=(768, 768))
    restored = []
    restore = grid.restore

    def counted(queries=None, tile=None):
        restored.append((len(grid) if queries is None else len(queries)) * tile.area)
        return restore(queries, tile)

    grid.restore = counted
    merge_semantic(scores, grid)
    assert sum(restored) < 0.2 * 250 * 768 * 768
    restored.clear()
    merge_panoptic(scores, grid, [True] * 133, object_threshold=0.1, overlap_threshold=0.8)
    assert sum(restored) < 0.02 * 250 * 768 * 768


def test_masks_that_are_not_numbers_end_in_no_error():
    """A diverged model is told by its scores, not by a failure within the merging."""
    scores, logits = scene(20, 5, (16, 16))
    grid = MaskGrid(torch.full_like(logits, float("nan")), output_size=(60, 60))
    assert merge_semantic(scores, grid).shape == (60, 60)
    assert merge_panoptic(scores, grid, [True] * 5, object_threshold=0.1, overlap_threshold=0.8)[1] == []
    assert len(merge_instances(scores, grid, [True] * 5)) == 0
