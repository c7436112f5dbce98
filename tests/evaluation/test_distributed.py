"""Evaluation on two real processes. A file of its own, because starting processes takes seconds."""

import json
import multiprocessing
import os
import socket

import torch
import torch.distributed as dist

from possam.evaluation import PanopticEvaluator, SemanticEvaluator


def _evaluate(world, inputs, outputs, output_dir):
    results = {}
    for evaluator in (
        PanopticEvaluator(world.name, train_vocabulary=world.train_vocabulary, output_dir=output_dir),
        SemanticEvaluator(world.name),
    ):
        evaluator.process(inputs, outputs)
        results |= evaluator.evaluate() or {}
    return results


def _worker(rank, world, inputs, outputs, directory, port):
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    # The second image goes to both: samplers that pad do that.
    chosen = [i for i in range(len(inputs)) if i % 2 == rank or i == 1]
    result = _evaluate(world, [inputs[i] for i in chosen], [outputs[i] for i in chosen], directory / "two")
    (directory / f"{rank}.json").write_text(json.dumps(result))
    dist.destroy_process_group()


def test_two_processes_give_what_one_gives(world, tmp_path):
    inputs, outputs = world.inputs(), world.panoptic_outputs()
    for output in outputs:
        output["semantic_seg"] = output["panoptic_seg"][0].long() % 8
    expected = _evaluate(world, inputs, outputs, tmp_path / "one")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    # Forked, so that the processes know the registered dataset and need not import everything again.
    context = multiprocessing.get_context("fork")
    workers = [
        context.Process(target=_worker, args=(rank, world, inputs, outputs, tmp_path, port))
        for rank in range(2)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert json.loads((tmp_path / "0.json").read_text()) == json.loads(json.dumps(expected))
    assert json.loads((tmp_path / "1.json").read_text()) == {}
    one, two = (json.loads((tmp_path / run / "panoptic.json").read_text()) for run in ("one", "two"))
    assert one == two
    assert len(list((tmp_path / "two" / "panoptic").glob("*.png"))) == len(inputs)
