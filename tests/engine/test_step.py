"""One training step: accumulation, mixed precision, and what happens to what is not finite, in all processes."""

import copy
import itertools
import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_

from possam.d2.utils import EventStorage, comm
from possam.engine.step import TrainingStep
from possam.engine.trainer import distribute
from tests.models.test_possam import training_input

FAULTS = ("", "loss", "gradient", "raise", "memory")


class Fitted(nn.Module):
    """Two losses of a linear layer; inputs are dicts of "x" (2) and perhaps a "fault", one of `FAULTS`."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(2, 1)
        self.passes = []

    def forward(self, inputs):
        self.passes.append(len(inputs))
        if comm.get_world_size() > 1:
            torch.distributed.all_reduce(torch.ones(()))  # as losses do, to know how many segments there are
        faults = {item.get("fault", "") for item in inputs}
        if "raise" in faults:
            raise FloatingPointError("matching costs are not finite")
        if "memory" in faults:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")
        y = self.linear(torch.stack([item["x"] for item in inputs])).float()
        first, second = y.square().mean(), (y - 1).square().mean()
        if "loss" in faults:
            second = second * math.inf
        if "gradient" in faults:  # the square root of nothing is finite, its slope is not
            second = second + (y * 0).sum().sqrt()
        return {"loss_a": first, "loss_b": second}


def batches(*faults, images=4):
    """One batch a fault, which the first image has."""
    generator = torch.Generator().manual_seed(comm.get_rank())
    made = [[{"x": torch.randn(2, generator=generator)} for _ in range(images)] for _ in faults]
    for batch, fault in zip(made, faults, strict=True):
        assert fault in FAULTS
        batch[0]["fault"] = fault
    return made


def training(loader, **settings):
    model = Fitted()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    return TrainingStep(model=distribute(model), loader=loader, optimizer=optimizer, **settings)


def take(step, steps=1):
    """Takes steps; the storage they wrote to."""
    with EventStorage() as storage:
        for _ in range(steps):
            step.run_step()
            step.iter += 1
    return storage


def weights(step):
    return torch.cat([value.detach().flatten().clone() for value in step.model.parameters()])


def test_a_step_is_that_of_a_plain_loop():
    loader = batches("", "")
    step, plain = training(loader, clip=0.5), Fitted()
    optimizer = torch.optim.AdamW(plain.parameters(), lr=0.1)
    storage = take(step, 2)
    for batch in loader:
        optimizer.zero_grad()
        losses = plain(batch)
        sum(losses.values()).backward()
        assert clip_grad_norm_(plain.parameters(), 0.5) > 0.5
        optimizer.step()
    assert torch.equal(weights(step), torch.cat([value.flatten() for value in plain.parameters()]))
    for name, loss in losses.items():
        assert storage.history(name).latest() == loss.item()
    assert storage.history("total_loss").latest() == pytest.approx(sum(losses.values()).item())


def test_an_unlimited_gradient_is_left_as_it_is():
    step = training(batches(""))
    take(step)
    assert torch.cat([value.grad.flatten() for value in step.model.parameters()]).norm() > 0.5


def test_accumulation_averages_over_forward_passes():
    loader = batches("")
    whole, shared = training(loader), training(loader, accumulate=2)
    storages = take(whole), take(shared)
    assert whole.model.passes == [4] and shared.model.passes == [2, 2]
    torch.testing.assert_close(shared.model.linear.weight.grad, whole.model.linear.weight.grad, rtol=0, atol=1e-6)
    torch.testing.assert_close(weights(shared), weights(whole), rtol=0, atol=1e-6)
    one, other = (storage.history("loss_b").latest() for storage in storages)
    assert one == pytest.approx(other, abs=1e-6)


@pytest.mark.parametrize("square", [True, False])
def test_accumulation_is_the_step_of_the_whole_batch(mini_model, square):
    """Of images with uneven numbers of segments; and of uneven sizes, which are padded to those of the batch."""
    mini_model.train().pad_to = 128 * square
    batch = [
        training_input(height=size, targets=count) for count, size in ((1, 128), (1, 64), (0, 96), (20, 128))
    ]
    start, seen = copy.deepcopy(mini_model.state_dict()), []
    for passes in (1, 2, 4):
        mini_model.load_state_dict(start)
        optimizer = torch.optim.SGD([value for value in mini_model.parameters() if value.requires_grad], lr=0.1)
        step = TrainingStep(model=mini_model, loader=[batch], optimizer=optimizer, accumulate=passes, clip=0.5)
        torch.manual_seed(2)
        storage = take(step)
        losses = {name: storage.history(name).latest() for name in storage.histories() if "loss" in name}
        seen.append((losses, torch.cat([value.grad.flatten() for value in optimizer.param_groups[0]["params"]])))
    (expected, wanted), *others = seen
    assert wanted.norm().item() == pytest.approx(0.5, rel=1e-4)
    for losses, gradient in others:
        for name, loss in expected.items():
            tolerance = 1e-4 if "iou" in name or name == "total_loss" else 2e-6  # a pixel of a mask may flip
            assert losses[name] == pytest.approx(loss, rel=tolerance), name
        assert (gradient - wanted).norm() < 1e-4


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("fault", ["loss", "gradient", "raise"])
def test_what_is_not_finite_stops_before_the_update(fault, accumulate):
    step = training(batches("", fault), accumulate=accumulate)
    take(step)
    before, state = weights(step), step.optimizer.state_dict()["state"][0]["exp_avg"].clone()
    said = {"loss": "in process 0 loss_b not finite", "gradient": "the gradient is", "raise": "matching costs are not"}
    with pytest.raises(FloatingPointError, match=rf"before the update of step 2: .*{said[fault]}.*NON_FINITE skip"):
        take(step)
    assert torch.equal(weights(step), before)
    assert torch.equal(step.optimizer.state_dict()["state"][0]["exp_avg"], state)


def test_steps_can_be_left_out_but_not_three_in_a_row(caplog):
    step = training(batches("loss", "raise", "", "gradient", "loss", "raise", ""), skip=True)
    start = weights(step)
    take(step, 2)
    assert torch.equal(weights(step), start) and "Step 2 is left out" in caplog.text
    take(step)
    moved = weights(step)
    assert not torch.equal(moved, start)
    take(step, 2)
    again = training(batches("raise"), skip=True)
    again.load_state_dict(step.state_dict())  # a run that goes on knows what was before
    for stopped in (step, again):
        with pytest.raises(FloatingPointError, match=r"step 6, the last of 3 in a row: in process 0 matching"):
            take(stopped)
    assert torch.equal(weights(step), moved)


def test_bf16_trains_without_a_scaler():
    step, plain = training(batches(""), precision=torch.bfloat16), training(batches(""))
    take(step), take(plain)
    assert step.state_dict()["grad_scaler"] == {} and not torch.equal(weights(step), weights(plain))
    torch.testing.assert_close(step.model.linear.weight.grad, plain.model.linear.weight.grad, rtol=0.05, atol=0.05)


def test_fp16_lowers_the_scale_until_it_is_not_to_blame():
    step = training(batches("", *["gradient"] * 3), precision=torch.float16)
    take(step)
    before = weights(step)
    step.scaler.update(2.0)
    take(step)
    assert step.scaler.get_scale() == 1 and step.left_out == 0 and torch.equal(weights(step), before)
    with pytest.raises(FloatingPointError, match="step 3: the gradient is not finite"):
        take(step)
    assert torch.equal(weights(step), before)
    with pytest.raises(FloatingPointError, match="step 3"):  # and not an error of the scaler's
        take(step)


def test_fp16_keeps_its_scale_in_the_checkpoint_and_losses_must_be_finite():
    step = training(batches("", "loss"), precision=torch.float16)
    take(step)
    step.scaler.update(512.0)
    other = training([], precision=torch.float16)
    other.load_state_dict(step.state_dict())
    assert other.scaler.get_scale() == 512 and other.scaler.state_dict() == step.scaler.state_dict()
    with pytest.raises(FloatingPointError, match="loss_b"):
        take(step)
    assert step.scaler.get_scale() == 512
    for precision in (None, torch.bfloat16):  # go on in another precision, and back
        full = training([], precision=precision)
        full.load_state_dict(step.state_dict())
        other.load_state_dict(full.state_dict())


@pytest.mark.parametrize("images", [1, 4])
def test_too_little_memory_comes_with_advice(images):
    with pytest.raises(MemoryError, match="you tried to allocate 9 bytes.*smaller INPUT.IMAGE_SIZE") as error:
        take(training(batches("memory", images=images)))
    assert ("fewer than 4 images" in str(error.value)) == (images > 1) and "\n" not in str(error.value)
    other = RuntimeError("shapes do not match")
    step = training(batches(""))
    step.model.forward = lambda _: (_ for _ in ()).throw(other)
    with pytest.raises(RuntimeError, match="shapes"):
        take(step)


# ------------------------------------------------------------------ several processes


def _two(folder):
    log = {}
    for fault, accumulate in itertools.product(("loss", "raise", "gradient"), (1, 2)):
        own = fault if comm.get_rank() == 1 else ""
        step = training(batches(own), accumulate=accumulate)
        before = weights(step)
        with pytest.raises(FloatingPointError) as error:
            take(step)
        log[f"{fault} {accumulate}"] = [str(error.value), torch.equal(weights(step), before)]
        step = training(batches(own, "", "", own, own, own), accumulate=accumulate, skip=True)
        take(step, 3)
        moved = weights(step)
        with pytest.raises(FloatingPointError, match="the last of 3 in a row"):
            take(step, 3)
        assert torch.equal(moved, weights(step)) and not torch.equal(moved, before)
        log[f"{fault} {accumulate} skip"] = moved.tolist()
    step = training(batches("", ""), accumulate=2)
    take(step, 2)
    log["passes"], log["gradient"] = step.model.module.passes, step.model.module.linear.weight.grad.tolist()
    Path(folder, f"{comm.get_rank()}.json").write_text(json.dumps(log))


def test_one_process_is_enough_to_stop_all(two_processes, tmp_path):
    two_processes(_two, str(tmp_path))
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert first == second
    for accumulate in (1, 2):
        assert all(first[f"{fault} {accumulate}"][1] for fault in ("loss", "raise", "gradient"))
        assert "step 1: in process 1 loss_b not finite. " in first[f"loss {accumulate}"][0]
        assert "step 1: in process 1 matching costs are not finite. " in first[f"raise {accumulate}"][0]
        assert "step 1: the gradient is not finite" in first[f"gradient {accumulate}"][0]
    assert first["passes"] == [2, 2, 2, 2]


def _one_without_memory():
    take(training(batches("memory" if comm.get_rank() == 1 else "")))


def test_a_process_without_memory_ends_the_others(two_processes):
    with pytest.raises(MemoryError, match="^Training ran out of memory"):
        two_processes(_one_without_memory)
