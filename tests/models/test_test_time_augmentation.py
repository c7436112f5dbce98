"""Several views of one image through the miniature model."""

import pytest
import torch

from possam.models import TestTimeAugmentation
from possam.vocabulary import Vocabulary

B = Vocabulary.load("mini_b")
TASKS = ("panoptic", "semantic", "instance", "mask_quality")


def sample(height=96, width=128, seed=0):
    image = torch.randint(0, 256, (3, height, width), generator=torch.Generator().manual_seed(seed))
    return {"image": image.to(torch.uint8), "vocabulary": B, "height": 60, "width": 80}


@pytest.fixture
def model(mini_model):
    mini_model.postprocessor.object_threshold = 0.0
    return mini_model.eval()


def test_one_plain_view_segments_as_the_model_alone(model):
    inputs = sample()
    alone = model.segment(model.predict([inputs])[0], tasks=TASKS)
    views = TestTimeAugmentation(model, scales=[1.0], flip=False)
    output = views.segment(views.predict([inputs])[0], tasks=TASKS)
    assert torch.equal(output["panoptic_seg"][0], alone["panoptic_seg"][0])
    assert torch.equal(output["semantic_seg"], alone["semantic_seg"])
    assert torch.equal(output["instances"].scores, alone["instances"].scores)


def test_the_order_of_the_scales_makes_no_difference(model):
    inputs = sample(96, 128)
    outputs = []
    for scales in ([0.5, 1.0], [1.0, 0.5]):
        views = TestTimeAugmentation(model, scales=scales, flip=False)
        outputs.append(views.segment(views.predict([inputs])[0], tasks=TASKS))
    first, second = outputs
    assert (first["semantic_seg"] == second["semantic_seg"]).float().mean() > 0.999
    assert sorted(i["area"] for i in first["panoptic_seg"][1]) == pytest.approx(
        sorted(i["area"] for i in second["panoptic_seg"][1]), abs=3
    )


def test_a_mirrored_image_has_the_mirrored_segmentation(model):
    inputs = sample()
    mirrored = {**inputs, "image": inputs["image"].flip(-1)}
    views = TestTimeAugmentation(model, scales=[1.0], flip=True)
    plain, turned = (views.segment(v, tasks=("semantic",))["semantic_seg"] for v in views.predict([inputs, mirrored]))
    assert (plain == turned.flip(-1)).float().mean() > 0.99


def test_every_scale_and_side_is_a_view_at_its_own_input_size(model):
    views = TestTimeAugmentation(model, scales=[0.5, 1.0, 1.5], flip=True)
    inputs = [{**sample(144, 192)}, {**sample(192, 100, seed=1), "features": {}}]
    predictions = views.predict(inputs)
    assert [len(own) for own in predictions] == [6, 6]
    assert [p.padded_size for p, _ in predictions[0]] == [(64, 64)] * 2 + [(128, 128)] * 2 + [(192, 192)] * 2
    assert [p.image_size for p, _ in predictions[0]][::2] == [(48, 64), (96, 128), (144, 192)]
    assert [flip for _, flip in predictions[1]] == [False, True] * 3
    output = views.segment(predictions[0], tasks=TASKS)
    assert output["panoptic_seg"][0].shape == output["semantic_seg"].shape == (60, 80)
    assert output["mask_quality"]["masks"].shape[1:] == (60, 80)


def test_without_a_size_asked_for_the_output_has_that_of_the_image(model):
    inputs = {key: value for key, value in sample(144, 192).items() if key not in ("height", "width")}
    views = TestTimeAugmentation(model, scales=[0.5, 1.5], flip=False)
    assert views.segment(views.predict([inputs])[0], tasks=("semantic",))["semantic_seg"].shape == (144, 192)


def test_no_scale_is_refused(model):
    with pytest.raises(ValueError, match="TEST.AUG.SCALES"):
        TestTimeAugmentation(model, scales=[], flip=True)
