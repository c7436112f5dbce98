"""PosSAM as a whole: what goes in and out, what is trained, what is saved."""

import pytest
import torch

from possam.d2.structures import Instances
from possam.inference import SEMANTIC
from possam.vocabulary import Vocabulary

A = Vocabulary.load("mini_a")
B = Vocabulary.load("mini_b")


def training_input(height=128, width=128, targets=2, vocabulary=A):
    instances = Instances((height, width))
    instances.gt_classes = torch.arange(targets)
    masks = torch.zeros(targets, height, width, dtype=torch.bool)
    for index in range(targets):
        masks[index, 10 + 40 * index : 40 + 40 * index, 20:70] = True
    instances.gt_masks = masks
    image = torch.randint(0, 256, (3, height, width), generator=torch.Generator().manual_seed(targets))
    return {"image": image.to(torch.uint8), "vocabulary": vocabulary, "instances": instances}


def test_trains_every_trained_parameter_and_no_frozen_one(mini_model):
    mini_model.train()
    losses = mini_model([training_input(), training_input(targets=0)])
    assert all(torch.isfinite(loss) for loss in losses.values())
    sum(losses.values()).backward()
    trained = [name for name, parameter in mini_model.named_parameters() if parameter.requires_grad]
    without = [name for name in trained if mini_model.get_parameter(name).grad is None]
    assert without == []
    assert not any(name.startswith(("sam.", "clip.")) for name in trained)
    assert not mini_model.sam.training and not mini_model.clip.training


def test_a_batch_without_any_segment_reaches_every_parameter(mini_model):
    """Otherwise DDP would wait for the gradients of a process whose images are all empty."""
    mini_model.train()
    losses = mini_model([training_input(targets=0)])
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in mini_model.parameters() if p.requires_grad)
    assert losses["loss_mask"] == 0 and torch.isfinite(losses["loss_class"])


def test_optimizer_steps_leave_the_frozen_encoders_as_they_were(mini_model):
    before = mini_model.sam.state_dict(), mini_model.clip.state_dict()
    before = [{key: value.clone() for key, value in state.items()} for state in before]
    optimizer = torch.optim.SGD([p for p in mini_model.parameters() if p.requires_grad], lr=0.1)
    mini_model.train()
    sum(mini_model([training_input()]).values()).backward()
    optimizer.step()
    for state, module in zip(before, (mini_model.sam, mini_model.clip), strict=True):
        assert all(torch.equal(value, module.state_dict()[key]) for key, value in state.items())


def test_state_dict_holds_the_trained_parameters_alone_and_loads_strictly(mini_model):
    state = mini_model.state_dict()
    assert state and not any(key.startswith(("sam.", "clip.")) for key in state)
    assert mini_model.load_state_dict(state, strict=True).missing_keys == []
    del state["classifier.void"]
    with pytest.raises(RuntimeError, match="classifier.void"):
        mini_model.load_state_dict(state, strict=True)


def test_outputs_have_the_size_asked_for(mini_model):
    mini_model.eval()
    inputs = [
        {"image": torch.zeros(3, 128, 96, dtype=torch.uint8), "vocabulary": B, "height": 64, "width": 48},
        {"image": torch.full((3, 100, 128), 200, dtype=torch.uint8), "vocabulary": A},
    ]
    for output, (height, width), vocabulary in zip(mini_model(inputs), [(64, 48), (100, 128)], (B, A), strict=True):
        segmentation, segments_info = output["panoptic_seg"]
        assert segmentation.shape == (height, width) and segmentation.dtype == torch.int32
        assert set(segmentation.unique().tolist()) - {0} == {segment["id"] for segment in segments_info}
        assert output["semantic_seg"].shape == (height, width)
        assert output["semantic_seg"].max() < len(vocabulary)
        assert output["instances"].pred_masks.shape[1:] == (height, width)


def test_each_image_is_named_in_its_own_vocabulary_in_either_order(mini_model):
    """A model that kept the first vocabulary would score the second dataset with the first one's names."""
    mini_model.eval()
    inputs = [{"image": training_input()["image"], "vocabulary": vocabulary} for vocabulary in (A, B)]
    forth = mini_model.predict(inputs)
    back = mini_model.predict(inputs[::-1])[::-1]
    for first, second, vocabulary in zip(forth, back, (A, B), strict=True):
        assert first.inputs.query_logits.shape[-1] == len(vocabulary) + 1
        torch.testing.assert_close(first.inputs.query_logits, second.inputs.query_logits)
        torch.testing.assert_close(first.inputs.clip_logits, second.inputs.clip_logits)


def test_cached_features_give_the_same_losses(mini_model):
    mini_model.train()
    inputs = training_input()
    torch.manual_seed(1)
    plain = mini_model([inputs])
    encoded = mini_model.encode([inputs["image"]])
    features = {role: {stride: values[0] for stride, values in maps.items()} for role, maps in encoded.items()}
    torch.manual_seed(1)
    cached = mini_model([{**inputs, "features": features}])
    torch.testing.assert_close(cached, plain, rtol=1e-4, atol=1e-4)


def test_the_border_of_a_padded_image_is_zero_to_sam(mini_model):
    batch = mini_model._pad([torch.full((3, 100, 60), 7, dtype=torch.uint8)], 128)
    normalized = (batch - mini_model.sam.pixel_mean) / mini_model.sam.pixel_std
    assert batch.shape == (1, 3, 128, 128)
    assert torch.all(batch[:, :, :100, :60] == 7)
    assert torch.all(normalized[:, :, 100:] == 0) and torch.all(normalized[:, :, :, 60:] == 0)


def test_an_image_that_does_not_fit_is_refused(mini_model):
    with pytest.raises(ValueError, match="130x128 pixels does not fit"):
        mini_model.predict([{"image": torch.zeros(3, 130, 128), "vocabulary": A}])


def test_memory_that_does_not_suffice_for_merging_changes_no_result(mini_model, monkeypatch):
    mini_model.eval()
    prediction = mini_model.predict([{"image": training_input()["image"], "vocabulary": B}])[0]
    expected = mini_model.segment(prediction)
    merge_semantic, attempts = SEMANTIC["masks"], []

    def short_of_memory(*arguments):
        attempts.append(arguments)
        if len(attempts) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB.")
        return merge_semantic(*arguments)

    monkeypatch.setitem(SEMANTIC, "masks", short_of_memory)
    output = mini_model.segment(prediction)
    assert len(attempts) == 2
    assert torch.equal(output["semantic_seg"], expected["semantic_seg"])
    assert torch.equal(output["panoptic_seg"][0], expected["panoptic_seg"][0])
    assert torch.equal(output["instances"].scores, expected["instances"].scores)
