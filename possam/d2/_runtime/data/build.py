"""From the names of datasets to loaders of batches."""

import itertools
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, Sampler

from ..config import configurable
from ..utils.comm import get_world_size
from ..utils.env import seed_all_rng
from ..utils.logger import runtime_logger
from .catalog import DatasetCatalog, MetadataCatalog
from .common import AspectRatioGroupedDataset, DatasetFromList, MapDataset, ToIterableDataset
from .samplers import InferenceSampler, RandomSubsetTrainingSampler, RepeatFactorTrainingSampler, TrainingSampler

logger = runtime_logger(__name__)


def filter_images_with_only_crowd_annotations(dataset_dicts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Drop images in which every annotation, if there is any, is a crowd."""
    kept = [item for item in dataset_dicts if any(not one.get("iscrowd", 0) for one in item["annotations"])]
    logger.info(f"{len(dataset_dicts) - len(kept)} images have no usable annotation; {len(kept)} are left")
    return kept


def get_detection_dataset_dicts(
    names: Any, filter_empty: bool = True, min_keypoints: int = 0, proposal_files: list[str] | None = None,
    check_consistency: bool = True,
) -> Any:
    """Read datasets and join them into one list of dicts (or one PyTorch dataset, if that is what they are).

    Args:
        names: one name or several.
        filter_empty: drop images without usable annotations, where there are annotations at all.
        min_keypoints, proposal_files: not supported; leave the defaults.
        check_consistency: require equal class names of all datasets.
    """
    if min_keypoints > 0 or proposal_files is not None:
        raise ValueError("keypoints and precomputed proposals need Detectron2: the built-in runtime has neither")
    names = [names] if isinstance(names, str) else list(names)
    assert names, "no dataset is named"
    datasets = [DatasetCatalog.get(name) for name in names]
    if isinstance(datasets[0], Dataset):
        return datasets[0] if len(datasets) == 1 else ConcatDataset(datasets)
    for name, items in zip(names, datasets, strict=True):
        assert len(items), f"the dataset '{name}' is empty"
    joined = list(itertools.chain.from_iterable(datasets))
    if "annotations" in joined[0]:
        if filter_empty:
            joined = filter_images_with_only_crowd_annotations(joined)
        classes = [MetadataCatalog.get(name).get("thing_classes") for name in names]
        if check_consistency and any(one != classes[0] for one in classes):
            raise ValueError(f"the datasets {', '.join(names)} do not have the same thing_classes")
    assert joined, f"the datasets {', '.join(names)} hold no usable image"
    return joined


def build_batch_data_loader(
    dataset: Any, sampler: Sampler | None, total_batch_size: int, *, aspect_ratio_grouping: bool = False,
    num_workers: int = 0, collate_fn: Callable[[list[Any]], Any] | None = None, drop_last: bool = True,
    single_gpu_batch_size: int | None = None, prefetch_factor: int | None = 2, persistent_workers: bool = False,
    pin_memory: bool = False, seed: int | None = None, **kwargs: Any,
) -> Any:
    """A loader of batches, of which each process sees its share.

    Args:
        dataset: map-style with a sampler, or iterable without.
        sampler: gives this process's indices.
        total_batch_size: over all processes; a multiple of their number.
        aspect_ratio_grouping: batch wide images with wide ones; needs ``drop_last``.
        num_workers: loading processes.
        collate_fn: makes a batch of a list of items; by default the list is the batch.
        drop_last: drop an incomplete last batch.
        single_gpu_batch_size: per process, in place of ``total_batch_size``.
        prefetch_factor, persistent_workers, pin_memory, kwargs: for PyTorch's DataLoader.
        seed: of the loader's base seed, from which the workers take theirs.
    """
    if single_gpu_batch_size and total_batch_size:
        raise ValueError("give total_batch_size or single_gpu_batch_size, not both")
    batch_size = single_gpu_batch_size
    if not batch_size:
        world = get_world_size()
        fits = total_batch_size > 0 and total_batch_size % world == 0
        assert fits, f"the total batch size {total_batch_size} must be a positive multiple of {world} processes"
        batch_size = total_batch_size // world
    if isinstance(dataset, IterableDataset):
        assert sampler is None, "an iterable dataset chooses its own order: leave sampler=None"
    else:
        assert sampler is not None, "a map-style dataset needs a sampler"
        dataset = ToIterableDataset(dataset, sampler, shard_chunk_size=batch_size)
    options: dict[str, Any] = {
        "num_workers": num_workers, "worker_init_fn": worker_init_reset_seed,
        "prefetch_factor": prefetch_factor if num_workers > 0 else None, "persistent_workers": persistent_workers,
        "pin_memory": pin_memory, "generator": None if seed is None else torch.Generator().manual_seed(seed), **kwargs,
    }
    if not aspect_ratio_grouping:
        collate = trivial_batch_collator if collate_fn is None else collate_fn
        return DataLoader(dataset, batch_size=batch_size, drop_last=drop_last, collate_fn=collate, **options)
    assert drop_last, "aspect_ratio_grouping drops incomplete batches, so it needs drop_last=True"
    # Loaded one by one and grouped in this process, since one worker alone sees few images of either kind.
    grouped = AspectRatioGroupedDataset(DataLoader(dataset, collate_fn=operator.itemgetter(0), **options), batch_size)
    return grouped if collate_fn is None else MapDataset(grouped, collate_fn)


def _repeat_factor_sampler(cfg: Any, dataset: Any) -> Sampler:
    factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(
        dataset, cfg.DATALOADER.REPEAT_THRESHOLD, sqrt=cfg.DATALOADER.REPEAT_SQRT
    )
    return RepeatFactorTrainingSampler(factors, seed=_seed_of(cfg))


def _seed_of(cfg: Any) -> int | None:
    # A negative seed means "a fresh one": it must not become the same stream in every run.
    return None if cfg.SEED < 0 else cfg.SEED


_TRAINING_SAMPLERS: dict[str, Callable[[Any, Any], Sampler]] = {
    "TrainingSampler": lambda cfg, dataset: TrainingSampler(len(dataset), seed=_seed_of(cfg)),
    "RepeatFactorTrainingSampler": _repeat_factor_sampler,
    "RandomSubsetTrainingSampler": lambda cfg, dataset: RandomSubsetTrainingSampler(
        len(dataset), cfg.DATALOADER.RANDOM_SUBSET_RATIO
    ),
}


def _training_sampler(cfg: Any, dataset: Any) -> Sampler | None:
    if isinstance(dataset, IterableDataset):
        return None
    name = cfg.DATALOADER.SAMPLER_TRAIN
    if name not in _TRAINING_SAMPLERS:
        raise ValueError(f"DATALOADER.SAMPLER_TRAIN is '{name}'; known are: {', '.join(_TRAINING_SAMPLERS)}")
    return _TRAINING_SAMPLERS[name](cfg, dataset)


def _required(mapper: Any) -> Any:
    if mapper is None:
        raise ValueError("pass mapper=…: the built-in runtime has no DatasetMapper that a config could describe")
    return mapper


def _train_loader_from_config(
    cfg: Any, mapper: Any = None, *, dataset: Any = None, sampler: Any = None
) -> dict[str, Any]:
    if dataset is None:
        dataset = get_detection_dataset_dicts(cfg.DATASETS.TRAIN, filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS)
    return {
        "dataset": dataset, "sampler": _training_sampler(cfg, dataset) if sampler is None else sampler,
        "mapper": _required(mapper), "total_batch_size": cfg.SOLVER.IMS_PER_BATCH,
        "aspect_ratio_grouping": cfg.DATALOADER.ASPECT_RATIO_GROUPING, "num_workers": cfg.DATALOADER.NUM_WORKERS,
    }


def _mapped(dataset: Any, mapper: Callable[[Any], Any] | None) -> Any:
    if isinstance(dataset, list):
        dataset = DatasetFromList(dataset, copy=False)
    return dataset if mapper is None else MapDataset(dataset, mapper)


@configurable(from_config=_train_loader_from_config)
def build_detection_train_loader(
    dataset: Any, *, mapper: Callable[[Any], Any] | None, sampler: Sampler | None = None, total_batch_size: int,
    aspect_ratio_grouping: bool = True, num_workers: int = 0, collate_fn: Callable[[list[Any]], Any] | None = None,
    **kwargs: Any,
) -> Any:
    """An endless loader for training; also called as ``build_detection_train_loader(cfg, mapper=…)``.

    Args:
        dataset: a list of dicts or a PyTorch dataset.
        mapper: makes a model's input of an item, or None to skip it.
        sampler: by default a `TrainingSampler`.
        total_batch_size, aspect_ratio_grouping, num_workers, collate_fn, kwargs: as in `build_batch_data_loader`.
    """
    dataset = _mapped(dataset, mapper)
    if sampler is None and not isinstance(dataset, IterableDataset):
        sampler = TrainingSampler(len(dataset))
    assert sampler is None or isinstance(sampler, Sampler), f"sampler is a {type(sampler)}"
    return build_batch_data_loader(
        dataset, sampler, total_batch_size, aspect_ratio_grouping=aspect_ratio_grouping, num_workers=num_workers,
        collate_fn=collate_fn, **kwargs,
    )


def _test_loader_from_config(cfg: Any, dataset_name: Any, mapper: Any = None) -> dict[str, Any]:
    dataset = get_detection_dataset_dicts(dataset_name, filter_empty=False)
    return {
        "dataset": dataset, "mapper": _required(mapper), "num_workers": cfg.DATALOADER.NUM_WORKERS,
        "sampler": None if isinstance(dataset, IterableDataset) else InferenceSampler(len(dataset)),
    }


@configurable(from_config=_test_loader_from_config)
def build_detection_test_loader(
    dataset: Any, *, mapper: Callable[[Any], Any] | None, sampler: Sampler | None = None, batch_size: int = 1,
    num_workers: int = 0, collate_fn: Callable[[list[Any]], Any] | None = None,
) -> DataLoader:
    """A loader that gives every item once; also called as ``build_detection_test_loader(cfg, name, mapper=…)``.

    The arguments are those of `build_detection_train_loader`; ``batch_size`` is per process, and the default sampler
    is an `InferenceSampler`.
    """
    dataset = _mapped(dataset, mapper)
    if isinstance(dataset, IterableDataset):
        assert sampler is None, "an iterable dataset chooses its own order: leave sampler=None"
    elif sampler is None:
        sampler = InferenceSampler(len(dataset))
    return DataLoader(
        dataset, batch_size=batch_size, sampler=sampler, drop_last=False, num_workers=num_workers,
        collate_fn=trivial_batch_collator if collate_fn is None else collate_fn,
    )


def trivial_batch_collator(batch: list[Any]) -> list[Any]:
    """The list of items is the batch."""
    return batch


def worker_init_reset_seed(worker_id: int) -> None:
    """Give every worker process its own random state, in all libraries."""
    seed_all_rng(torch.initial_seed() % 2**31 + worker_id)
