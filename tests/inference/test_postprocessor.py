"""Settings of a model's post-processing: the void rule of the panoptic merging, and what semantic merging resizes."""

import pytest
import torch

from possam.inference import MaskGrid, Postprocessor

LOGITS = torch.full((3, 4, 4), -6.0)
for _query in range(3):
    LOGITS[_query, :, _query] = 6.0
SCORES = torch.tensor([[0.6, 0.1], [0.2, 0.3], [0.25, 0.4]])
VOID = torch.tensor([0.3, 0.31, 0.4])  # above, below, and equal to the best score


def merge(tasks=("panoptic",), **settings):
    return Postprocessor(object_threshold=0.0, **settings)(
        SCORES, MaskGrid(LOGITS), torch.tensor([0.9, 0.8, 0.7]), VOID, isthing=[True, True], tasks=tasks
    )


@pytest.mark.parametrize(("void_competes", "queries"), [(False, [0, 1, 2]), (True, [0, 2])])
def test_a_mask_is_left_out_where_void_is_more_probable_than_its_best_class(void_competes, queries):
    """As an argmax over the classes and void, the last of them: a tie goes to the class."""
    ids, segments = merge(void_competes=void_competes)["panoptic_seg"]
    assert [segment["query"] for segment in segments] == queries
    assert [segment["iou"] for segment in segments] == pytest.approx([[0.9, 0.8, 0.7][query] for query in queries])
    found = [segment["score"] for segment in segments]
    assert found == pytest.approx([float(SCORES[query].max()) for query in queries])
    expected = torch.zeros(4, 4, dtype=torch.int32)
    for number, query in enumerate(queries, start=1):
        expected[:, query] = number
    assert torch.equal(ids, expected)


def test_void_leaves_the_other_tasks_as_they_are():
    tasks = ("semantic", "instance", "mask_quality")
    plain, competing = merge(tasks), merge(tasks, void_competes=True)
    assert set(plain) == set(competing) == {"semantic_seg", "instances", "mask_quality"}
    assert torch.equal(plain["semantic_seg"], competing["semantic_seg"])
    assert torch.equal(plain["instances"].scores, competing["instances"].scores) and len(plain["instances"]) == 6
    assert plain["semantic_seg"][0].tolist()[:3] == [0, 1, 1]


def test_an_unknown_output_is_refused():
    with pytest.raises(ValueError, match="be made into 'semantik', but into panoptic, .*Did you mean 'semantic'"):
        merge(("panoptic", "semantik"))


def test_void_everywhere_leaves_nothing():
    ids, segments = Postprocessor(object_threshold=0.0, void_competes=True)(
        SCORES, MaskGrid(LOGITS), torch.ones(3), torch.ones(3), isthing=[True, True], tasks=("panoptic",)
    )["panoptic_seg"]
    assert segments == [] and not ids.any()
