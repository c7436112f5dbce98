"""From the names of datasets to loaders of batches."""

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from ..utils.comm import get_world_size
from ..utils.env import seed_all_rng
from .catalog import DatasetCatalog, MetadataCatalog
from .common import DatasetFromList, MapDataset, ToIterableDataset
from .samplers import InferenceSampler


def get_detection_dataset_dicts(names: Any, filter_empty: bool) -> list[dict[str, Any]]:
    """Read datasets and join them into one list of dicts.

    Args:
        names: one name or several.
        filter_empty: only False is supported: images without usable annotations stay.

    Raises:
        ValueError: the datasets have annotations of instances, but not the same classes.
    """
    assert not filter_empty, "dropping images without annotations needs Detectron2"
    names = [names] if isinstance(names, str) else list(names)
    assert names, "no dataset is named"
    datasets = [DatasetCatalog.get(name) for name in names]
    for name, items in zip(names, datasets, strict=True):
        assert len(items), f"the dataset '{name}' is empty"
    joined = list(itertools.chain.from_iterable(datasets))
    if "annotations" in joined[0]:
        classes = [MetadataCatalog.get(name).get("thing_classes") for name in names]
        if any(one != classes[0] for one in classes):
            raise ValueError(f"the datasets {', '.join(names)} do not have the same thing_classes")
    return joined


def build_detection_train_loader(
    dataset: Dataset, *, mapper: None, sampler: Sampler, total_batch_size: int, aspect_ratio_grouping: bool,
    num_workers: int = 0, seed: int | None = None,
) -> DataLoader:
    """A loader of batches for training, of which each process sees its share; the list of items is the batch.

    Args:
        dataset: map-style; its items are the model's inputs.
        mapper: only None is supported: the dataset maps by itself.
        sampler: gives this process's indices.
        total_batch_size: over all processes; a multiple of their number.
        aspect_ratio_grouping: only False is supported.
        num_workers: loading processes.
        seed: of the loader's base seed, from which the workers take theirs.
    """
    assert mapper is None and not aspect_ratio_grouping, "a mapper and aspect-ratio grouping need Detectron2"
    world = get_world_size()
    fits = total_batch_size > 0 and total_batch_size % world == 0
    assert fits, f"the total batch size {total_batch_size} must be a positive multiple of {world} processes"
    batch_size = total_batch_size // world
    return DataLoader(
        ToIterableDataset(dataset, sampler, shard_chunk_size=batch_size), batch_size=batch_size, drop_last=True,
        num_workers=num_workers, collate_fn=trivial_batch_collator, worker_init_fn=worker_init_reset_seed,
        generator=None if seed is None else torch.Generator().manual_seed(seed),
    )


def build_detection_test_loader(
    dataset: list[Any], *, mapper: Callable[[Any], Any], batch_size: int = 1, num_workers: int = 0
) -> DataLoader:
    """A loader that gives every item once over all processes; the list of items is the batch.

    Args:
        dataset: a list of dicts.
        mapper: makes a model's input of an item.
        batch_size: per process.
        num_workers: loading processes.
    """
    mapped = MapDataset(DatasetFromList(dataset, copy=False), mapper)
    return DataLoader(
        mapped, batch_size=batch_size, sampler=InferenceSampler(len(mapped)), drop_last=False,
        num_workers=num_workers, collate_fn=trivial_batch_collator,
    )


def trivial_batch_collator(batch: list[Any]) -> list[Any]:
    """The list of items is the batch."""
    return batch


def worker_init_reset_seed(worker_id: int) -> None:
    """Give every worker process its own random state, in all libraries."""
    seed_all_rng(torch.initial_seed() % 2**31 + worker_id)
