"""Training data whose order and random changes follow from a seed and a count alone, so that a run can go on exactly.

Nothing here has a state but the number of images that training has had. So it does not matter how many loading
processes there are, how far they have read ahead, or what else drew random numbers.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from possam.d2.data import DatasetFromList
from possam.d2.utils import comm

__all__ = ["Draw", "ResumableLoader", "SeededSamples", "TrainingOrder", "seed_step"]

# Streams of random numbers of one seed; apart, or the first step would repeat the first image's.
_SAMPLE, _STEP, _SOURCE = 0, 1, 3  # 2: of replacements for unreadable images


_DRAWS = 1024  # parts that are drawn at a time; another number would be another order


class Draw(NamedTuple):
    """One image of the training order: its place in the dataset, and the seed and number of the draw."""

    image: int
    seed: int
    number: int


class TrainingOrder(Sampler[Draw]):
    """The endless order of this process's images: every epoch all images once, shuffled anew, shared out in turn.

    With weighted parts of the dataset each draw is of a part by its weight, independently of the others, and every part
    has epochs of its own.

    Attributes:
        seed: of the order, the same in all processes.
        skipped: batches of this process that are left out at the start.
    """

    def __init__(
        self,
        *,
        size: int,
        batch_size: int,
        seed: int,
        wide: Sequence[bool] | None = None,
        parts: Sequence[tuple[int, float]] = (),
    ) -> None:
        """
        Args:
            size: number of images of the dataset.
            batch_size: images of a batch of this process.
            wide: of every image, whether it is wider than high: batches then are of one kind. None: of any.
            parts: numbers of images, which add up to `size`, and weights above 0; the dataset has them one after the
                other. Without any all images are drawn equally often.
        """
        assert not parts or sum(images for images, _ in parts) == size, "parts must make up the dataset"
        self.parts = tuple(parts)
        self.size, self.batch_size, self.seed, self.wide = size, batch_size, seed, wide
        self.skipped = 0
        self.rank, self.world_size = comm.get_rank(), comm.get_world_size()

    def __iter__(self) -> Iterator[Draw]:
        mine = itertools.islice(self._stream(), self.rank, None, self.world_size)
        draws = mine if self.wide is None else self._grouped(mine, self.wide)
        return itertools.islice(draws, self.skipped * self.batch_size, None)

    def _stream(self) -> Iterator[Draw]:
        images = self._weighted() if self.parts else _epochs(range(self.size), self.seed)
        for number, index in enumerate(images):
            yield Draw(index, self.seed, number)

    def _weighted(self) -> Iterator[int]:
        """Images of parts that are drawn by their weights."""
        seeds = [_long(_words(self.seed, _SOURCE, part)) for part in range(len(self.parts) + 1)]
        starts = itertools.accumulate((images for images, _ in self.parts), initial=0)
        parts = [
            _epochs(range(start, start + images), seed)
            for start, (images, _), seed in zip(starts, self.parts, seeds, strict=False)
        ]
        generator = torch.Generator().manual_seed(seeds[-1])
        weights = torch.tensor([weight for _, weight in self.parts], dtype=torch.float64)
        while True:
            for part in torch.multinomial(weights, _DRAWS, replacement=True, generator=generator).tolist():
                yield next(parts[part])

    def _grouped(self, draws: Iterator[Draw], wide: Sequence[bool]) -> Iterator[Draw]:
        waiting: dict[bool, list[Draw]] = {False: [], True: []}
        for draw in draws:
            group = waiting[wide[draw.image]]
            group.append(draw)
            if len(group) == self.batch_size:
                yield from group
                group.clear()


def _epochs(images: range, seed: int) -> Iterator[int]:
    """The images without end, shuffled anew in every epoch."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        for index in torch.randperm(len(images), generator=generator).tolist():
            yield images[index]


class SeededSamples(Dataset[Any]):
    """Inputs of a model by `Draw`; what the mapper draws at random follows from the draw's seed and number alone."""

    def __init__(self, records: list[dict[str, Any]], mapper: Callable[[dict[str, Any]], Any]) -> None:
        self.records = DatasetFromList(records, copy=False)
        self.mapper = mapper

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, draw: Draw) -> Any:
        record = self.records[draw.image]
        with _seeded(draw.seed, _SAMPLE, draw.number):
            return self.mapper(record)


class ResumableLoader:
    """A loader of training batches that counts the images that all processes together have had from it."""

    def __init__(self, loader: Any, order: TrainingOrder) -> None:
        """
        Args:
            loader: gives the batches of `order`, one after the other.
        """
        self.loader, self.order = loader, order
        self.batches = 0

    @property
    def seed(self) -> int:
        """That of the order."""
        return self.order.seed

    def __iter__(self) -> Iterator[Any]:
        self.order.skipped = self.batches
        for batch in self.loader:
            self.batches += 1
            yield batch

    def skip(self, images: int) -> None:
        """Let the next iteration start after `images` images of all processes, rounded down to whole batches."""
        self.batches = images // (self.order.batch_size * self.order.world_size)

    def state_dict(self) -> dict[str, int]:
        """The seed, the size of the dataset, and the number of images that all processes together have had."""
        images = self.batches * self.order.batch_size * self.order.world_size
        return {"seed": self.order.seed, "size": self.order.size, "images": images}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from a state; the number of processes may be another, and the next iteration starts there.

        Raises:
            ValueError: it is of a dataset of another size, whose order cannot go on.
        """
        if state["size"] != self.order.size:
            raise ValueError(
                f"The checkpoint was trained on {state['size']} images, but DATASETS.TRAIN has {self.order.size}, so "
                "its data order cannot go on. Train on the same images, or start from its weights with MODEL.WEIGHTS."
            )
        self.order.seed = state["seed"]
        self.skip(state["images"])


def seed_step(seed: int, step: int) -> None:
    """Seed Python, NumPy and PyTorch, on all devices, for one step, alike in all processes.

    So what the model draws once a step is the same however many processes share its images; what it draws for an image
    must follow from that and from the image's number in the step.
    """
    words = _words(seed, _STEP, step)
    _seed_libraries(words)
    torch.manual_seed(_long(words))


@contextmanager
def _seeded(*entropy: int) -> Iterator[None]:
    """Seed Python, NumPy and PyTorch's CPU generator inside the block, and leave them afterwards as they were."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    words = _words(*entropy)
    _seed_libraries(words)
    # Not torch.manual_seed, which would seed the GPUs too, and their state is not kept here.
    torch.default_generator.manual_seed(_long(words))
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


def _words(*entropy: int) -> np.ndarray:
    return np.random.SeedSequence(entropy).generate_state(4)


def _seed_libraries(words: np.ndarray) -> None:
    random.seed(words.tobytes())
    np.random.seed(words)


def _long(words: np.ndarray) -> int:
    return int(words[0]) << 31 | int(words[1]) >> 1
