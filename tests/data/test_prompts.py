"""Prompts of a training image's instances."""

from collections import Counter

import numpy as np
import pytest
import torch

from possam.d2.data import transforms as T
from possam.data import ResizeLongestSide, load_instances
from possam.data.datasets import find_spec, load_records
from possam.data.prompts import PromptMapper, PromptSampler, has_instances
from tests.layouts.coco import make_coco
from tests.layouts.lvis import make_lvis


def rectangles(*corners, size=(40, 50)):
    masks = torch.zeros(len(corners), *size, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, corners, strict=True):
        mask[y0:y1, x0:x1] = True
    return masks


@pytest.fixture
def seeded():
    np.random.seed(0)


def test_an_image_has_21_boxes_and_19_points_of_its_instances(seeded):
    corners = [(2, 3, 20, 13), (30, 5, 48, 39), (10, 20, 18, 26)]
    masks = rectangles(*corners)
    prompts, index = PromptSampler()(masks)
    assert len(prompts) == len(index) == 40 and int(prompts.has_box.sum()) == 21
    assert sorted(Counter(index.tolist()).values()) == [13, 13, 14]
    prompts.check_inside(40, 50)
    for place, instance in enumerate(index.tolist()):
        if prompts.has_box[place]:
            assert prompts.boxes[place].tolist() == list(corners[instance]) and prompts.labels[place].item() == -1
        else:
            x, y = prompts.points[place, 0].long().tolist()
            assert masks[instance, y, x] and prompts.labels[place].item() == 1
    assert len(set(index[prompts.has_box].tolist())) == 3 == len(set(index[~prompts.has_box].tolist()))


def test_points_are_uniform_over_the_mask(seeded):
    masks = rectangles((5, 7, 9, 9))
    prompts, _ = PromptSampler(prompts=4000, boxes=0, min_area=1)(masks)
    drawn = Counter(map(tuple, prompts.points[:, 0].long().tolist()))
    assert set(drawn) == {(x, y) for x in range(5, 9) for y in range(7, 9)}
    assert all(abs(count - 500) < 4 * 500**0.5 for count in drawn.values())


def test_many_instances_are_chosen_at_random(seeded):
    masks = rectangles(*[(x, y, x + 2, y + 2) for x in range(0, 50, 5) for y in range(0, 40, 4)])
    sampler = PromptSampler(min_area=4)
    chosen = [sampler(masks)[1].tolist() for _ in range(2)]
    assert all(len(set(one)) == 40 for one in chosen) and set(chosen[0]) != set(chosen[1])
    np.random.seed(0)
    assert sampler(masks)[1].tolist() == chosen[0]


def test_small_instances_are_not_asked_for(seeded):
    masks = rectangles((0, 0, 4, 7), (9, 9, 13, 17))  # 28 and 32 pixels
    prompts, index = PromptSampler()(masks)
    assert set(index.tolist()) == {1}
    for none in (masks[:1], masks[:0]):
        prompts, index = PromptSampler()(none)
        assert len(prompts) == len(index) == 0
    with pytest.raises(ValueError, match="prompts=3, boxes=4, min_area=32"):
        PromptSampler(prompts=3, boxes=4)


def test_the_mapper_gives_a_target_a_prompt(tmp_path, seeded):
    make_coco(tmp_path, images=1)
    spec = find_spec("coco_instance_train")
    record = {**load_records(spec, tmp_path)[0]}
    record["annotations"] = [annotation | {"iscrowd": 0} for annotation in record["annotations"]]
    mapper = PromptMapper(
        sampler=PromptSampler(prompts=6, boxes=3, min_area=1),
        augmentations=[ResizeLongestSide(64), T.RandomFlip()],
        vocabulary=spec.load_vocabulary(),
    )
    sample = mapper(record)
    prompts, targets = sample["prompts"], sample["instances"]
    masks = targets.gt_masks.to("cpu").tensor
    assert sample["image"].shape == (3, 48, 64) and masks.shape == (6, 48, 64) and len(targets.gt_masks) == 6
    assert len(targets.gt_masks.masks) == 2 and sorted(Counter(targets.gt_classes.tolist()).values()) == [3, 3]
    assert set(targets.gt_classes.tolist()) == {annotation["category_id"] for annotation in record["annotations"]}
    for place, mask in enumerate(masks):
        if prompts.has_box[place]:
            rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
            expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert prompts.boxes[place].tolist() == expected
        else:
            x, y = prompts.points[place, 0].long().tolist()
            assert mask[y, x]


class Away:
    """An augmentation that crops to the upper left corner, `times` times."""

    def __init__(self, times):
        self.times = times

    def __call__(self, aug_input):
        self.times -= 1
        height, width = aug_input.image.shape[:2]
        transform = T.CropTransform(0, 0, 3, 3) if self.times >= 0 else T.NoOpTransform()
        return aug_input.transform(transform) or transform


@pytest.mark.parametrize(("times", "count"), [(3, 40), (99, 0)])
def test_a_crop_without_instances_is_drawn_anew(tmp_path, seeded, times, count):
    make_lvis(tmp_path, images=1)
    spec = find_spec("lvis_instance_train")
    (record,) = load_records(spec, tmp_path)
    mapper = PromptMapper(sampler=PromptSampler(min_area=1), augmentations=[], vocabulary=spec.load_vocabulary())
    mapper.augmentations = Away(times)
    sample = mapper(record)
    assert len(sample["prompts"]) == len(sample["instances"]) == count
    assert len(sample["instances"].gt_masks.tensor) == count


def test_records_without_instances_are_known():
    crowd, instance = {"iscrowd": 1}, {"iscrowd": 0}
    answers = [has_instances({"annotations": list(a)}) for a in ((), (crowd,), (crowd, instance))]
    assert answers == [False, False, True] and has_instances({"masks_file_name": "a.json"})


def test_datasets_of_a_split_have_its_classes_alone(tmp_path):
    make_coco(tmp_path)
    full = load_records(find_spec("coco_instance_train"), tmp_path)
    spec = find_spec("coco_48_17_train")
    names = find_spec("coco_instance_train").load_vocabulary().display_names
    kept = set(spec.load_vocabulary().display_names)
    found = load_records(spec, tmp_path)
    assert [record["image_id"] for record in found] == [record["image_id"] for record in full]
    for own, other in zip(found, full, strict=True):
        expected = [names[a["category_id"]] for a in other["annotations"] if names[a["category_id"]] in kept]
        assert [spec.load_vocabulary().display_names[a["category_id"]] for a in own["annotations"]] == expected
    assert sum(len(r["annotations"]) for r in found) < sum(len(r["annotations"]) for r in full)
    make_lvis(tmp_path)
    base, table = find_spec("lvis_866_337_train"), find_spec("lvis_instance_train")
    for own, other in zip(load_records(base, tmp_path), load_records(table, tmp_path), strict=True):
        for key in ("neg_category_ids", "not_exhaustive_category_ids"):
            ids = [table.load_vocabulary().categories[i].dataset_id for i in other[key]]
            kept = [i for i in ids if i in base.load_vocabulary().contiguous_id]
            assert [base.load_vocabulary().categories[i].dataset_id for i in own[key]] == kept


def test_unknown_categories_are_still_refused(tmp_path):
    make_coco(tmp_path)
    vocabulary = find_spec("coco_48_17_train").load_vocabulary()
    with pytest.raises(ValueError, match=r"category ids \[17\] are not in the vocabulary 'coco_48_17_base'"):
        load_instances(
            image_root=tmp_path / "coco" / "train2017",
            instances_json=tmp_path / "coco" / "annotations" / "instances_train2017.json",
            vocabulary=vocabulary,
            left_out={90},
        )
