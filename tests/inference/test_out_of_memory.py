"""What memory did not suffice for is done again, and the result is the same."""

import logging

import pytest
import torch

from possam.inference import out_of_memory, retry_out_of_memory

CPU, META = torch.device("cpu"), torch.device("meta")  # meta stands for a device whose memory is full
ON_CPU = "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"


class Work:
    """Fails as often as told, then says where it was done."""

    def __init__(self, *errors):
        self.errors, self.places = list(errors), []

    def __call__(self, device):
        self.places.append(device)
        if len(self.places) <= len(self.errors):
            raise self.errors[len(self.places) - 1]
        return device


@pytest.fixture(autouse=True)
def _as_a_new_process():
    out_of_memory._say.cache_clear()


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError(ON_CPU),
        RuntimeError("CUDA error: out of memory\nCompile with `TORCH_USE_CUDA_DSA`"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
@pytest.mark.parametrize(("failures", "places"), [(0, [META]), (1, [META, META]), (2, [META, META, CPU])])
def test_it_is_tried_again_there_and_then_on_the_cpu(error, failures, places):
    work = Work(*[error] * failures)
    assert retry_out_of_memory(work, META) == places[-1]
    assert work.places == places


def test_what_the_first_attempt_held_is_free_before_the_second():
    held = []

    class Volume:
        def __del__(self):
            held.clear()

    def work(device):
        if held:
            raise AssertionError("the first attempt's memory is still held")
        if calls.pop():
            volume = Volume()
            held.append(id(volume))
            raise torch.OutOfMemoryError("full")
        return "done"

    calls = [False, True]
    assert retry_out_of_memory(work, CPU) == "done"


def test_the_warning_is_said_once(caplog):
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            retry_out_of_memory(Work(torch.OutOfMemoryError("full")), CPU)
    assert [record.getMessage()[:17] for record in caplog.records] == ["Out of memory on "]


def test_too_little_memory_everywhere_ends_with_advice_and_other_errors_are_not_touched():
    with pytest.raises(RuntimeError, match="fewer tasks at once: .*can't allocate memory"):
        retry_out_of_memory(Work(*[RuntimeError(ON_CPU)] * 2), CPU)
    work = Work(RuntimeError("shapes disagree"))
    with pytest.raises(RuntimeError, match="^shapes disagree$"):
        retry_out_of_memory(work, META)
    assert work.places == [META]
