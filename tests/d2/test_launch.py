"""Processes started by the built-in runtime."""

import json
import os

import pytest
import torch
import torch.distributed as dist
from torch import nn

from possam.d2._runtime.engine import SimpleTrainer, create_ddp_model, launch
from possam.d2._runtime.utils import comm


class ToyModel(nn.Module):
    """Learns y = 2x."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.0))

    def forward(self, batch):
        x = torch.tensor([float(item) for item in batch])
        return {"loss_fit": (self.weight * x - 2 * x).square().mean()}


def _worker(folder):
    """In each of two processes: exchange, train wrapped, and write down what was seen."""
    torch.set_num_threads(1)
    rank = comm.get_rank()
    gathered = comm.all_gather({"rank": rank})
    seeds = comm.all_gather(comm.shared_random_seed())
    model = create_ddp_model(ToyModel())
    trainer = SimpleTrainer(model, [[rank + 1]] * 5, torch.optim.SGD(model.parameters(), 0.01))
    trainer.train(0, 5)
    comm.synchronize()
    mean = comm.reduce_dict({"b": torch.tensor(2.0 * rank), "a": torch.tensor(1.0)})
    record = {
        "world": comm.get_world_size(),
        "local": [comm.get_local_rank(), comm.get_local_size()],
        "gathered": gathered,
        "mean": {name: value.item() for name, value in mean.items()},
        "main_only": comm.gather(rank),
        "one_seed": len(set(seeds)) == 1,
        "weight": model.module.weight.item(),
        "backend": dist.get_backend(),
    }
    with open(os.path.join(folder, f"{rank}.json"), "w") as file:
        json.dump(record, file)
    dist.destroy_process_group()
    os._exit(0)  # PyTorch's threads abort one process or another that ends in the usual way


@pytest.mark.skipif(torch.cuda.is_available(), reason="with GPUs, launch() joins processes by NCCL")
def test_launch_starts_processes_that_train_together(tmp_path, monkeypatch):
    monkeypatch.setenv("POSSAM_D2", "builtin")  # the new processes need not import Detectron2
    launch(_worker, 2, dist_url="auto", args=(str(tmp_path),))
    records = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert [record["local"] for record in records] == [[0, 2], [1, 2]]
    assert [record["main_only"] for record in records] == [[0, 1], []]
    for record in records:
        assert record["world"] == 2 and record["one_seed"] and record["backend"] == "gloo"
        assert record["gathered"] == [{"rank": 0}, {"rank": 1}]
    assert records[0]["mean"] == {"a": 1.0, "b": 1.0}
    # Both follow the mean gradient of their two batches, x = 1 and x = 2.
    weight = 0.0
    for _ in range(5):
        weight -= 0.01 * (2 * (weight - 2) * 1 + 2 * (weight - 2) * 4) / 2
    assert records[0]["weight"] == records[1]["weight"] == pytest.approx(weight, rel=1e-5)


def test_launch_of_one_runs_here():
    seen = []
    launch(seen.append, 1, args=("here",))
    assert seen == ["here"]
