"""A system says on a GPU what it says on a CPU. Without a GPU the comparison is of the CPU with itself."""

import copy
from contextlib import nullcontext

import pytest
import torch
from benchmarks.gpu.bench import Bench
from benchmarks.gpu.systems import build
from benchmarks.gpu.training import losses
from measure import sample

from possam.inference import MaskGrid, merge_instances, merge_panoptic, merge_semantic
from possam.layers.point_sampling import draw_points
from possam.layers.prompts import Prompts
from possam.losses import set_criterion
from tests.reference.scenes import scene

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
CPU = Bench(device="cpu", tiny=True, results=None, case="", deadline=0.0)


@pytest.fixture
def exact(device):
    """Convolutions in float32, not TF32."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False) if device == "cuda" else nullcontext():
        yield


@pytest.fixture(scope="module", params=["PosSAM-B", "FC-CLIP-L", "OPSNet-R50", "OVSAM"])
def model(request):
    return build(CPU, request.param)[1]


def inputs_of(model):
    found = sample(64, 3, model.train_vocabulary)
    if model.takes_prompts:
        found["prompts"] = Prompts(points=[[[20.0, 30.0]], [[40.0, 10.0]]])
    return [found]


def near(found, expected, tolerance):
    return (found.cpu() - expected).abs().max() <= tolerance * expected.abs().max()


@pytest.mark.parametrize("device", DEVICES)
def test_proposals_and_scores(model, device, exact):
    inputs = inputs_of(model)
    (expected,) = model.predict(inputs)
    moved = copy.deepcopy(model).to(device)
    (found,) = moved.predict(inputs)
    assert found.mask_logits.device.type == device
    assert near(found.mask_logits, expected.mask_logits, 1e-3)
    assert near(found.inputs.clip_embeddings, expected.inputs.clip_embeddings, 1e-2)  # pixels of a mask at its border
    for ensemble in ("mase", "geometric", "modulation", "uniform"):
        assert near(moved.score(found, ensemble), model.score(expected, ensemble), 1e-2)


@pytest.mark.parametrize("device", DEVICES)
def test_losses(model, device, exact, monkeypatch):
    if model.takes_prompts:
        pytest.skip("its prompts come from a mapper")
    monkeypatch.setattr(
        set_criterion, "draw_points", lambda seeds, counts, to: [x.to(to) for x in draw_points(seeds, counts, "cpu")]
    )
    inputs = inputs_of(model)
    expected = losses(CPU, model, inputs, None)
    found = losses(CPU, copy.deepcopy(model).to(device), inputs, None)
    assert found == pytest.approx(expected, rel=1e-2, abs=1e-2)
    assert sum(found.values()) == pytest.approx(sum(expected.values()), rel=1e-3)


@pytest.mark.parametrize("device", DEVICES)
def test_merging(device):
    sizes = {"padded_size": (128, 128), "image_size": (96, 128), "output_size": (120, 160)}
    scores, logits = scene(20, 7, (32, 32))
    isthing = [index % 2 == 0 for index in range(7)]
    (ids, segments, classes, instances), found = (
        merge(scores.to(place), MaskGrid(logits.to(place), **sizes), isthing) for place in ("cpu", device)
    )
    assert found[0].device.type == device
    assert (found[0].cpu() != ids).float().mean() < 1e-3 and (found[2].cpu() != classes).float().mean() < 1e-3
    assert [each["category_id"] for each in found[1]] == [each["category_id"] for each in segments]
    assert torch.equal(found[3].pred_classes.cpu(), instances.pred_classes)
    assert torch.allclose(found[3].scores.cpu(), instances.scores, atol=1e-4)


def merge(scores, masks, isthing):
    panoptic = merge_panoptic(scores, masks, isthing, object_threshold=0.1, overlap_threshold=0.5)
    return *panoptic, merge_semantic(scores, masks), merge_instances(scores, masks, isthing)
