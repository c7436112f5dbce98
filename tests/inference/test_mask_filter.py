import torch

from possam.inference import MASK_FILTERS

SCORES = torch.tensor([[0.6, 0.3], [0.1, 0.2], [0.0, 0.0]])
IOU = torch.tensor([0.5, 0.9, 0.7])


def test_masks_are_ranked_by_class_iou_or_both():
    best = {name: rank(SCORES, IOU).amax(dim=1) for name, rank in MASK_FILTERS.items()}
    assert best["cls"].tolist() == SCORES.amax(dim=1).tolist()
    torch.testing.assert_close(best["cls_iou"], torch.tensor([0.3, 0.18, 0.0]))
    torch.testing.assert_close(best["iou"], torch.tensor([0.5, 0.9, 0.0]))


def test_the_label_and_the_ratios_of_a_masks_classes_stay():
    for rank in MASK_FILTERS.values():
        scores = rank(SCORES, IOU)
        torch.testing.assert_close(scores[:2, 0] / scores[:2, 1], SCORES[:2, 0] / SCORES[:2, 1])
        assert scores.min() >= 0 and scores.max() <= 1
