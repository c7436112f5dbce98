"""Overlap reading, forward passes and post-processing of items, in bounded memory and a fixed order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Any, TypeVar

__all__ = ["by_size", "finish_beside", "read_ahead", "workers_pool"]

T = TypeVar("T")
E = TypeVar("E")
R = TypeVar("R")

_CHUNK = 2  # items that a reader is asked for at a time; a video has many
_WAITING = 4  # batches' worth of items that may wait for others of their size


class _Inline(Executor):
    """Runs each call at once, in the thread that submits it."""

    def submit(self, fn: Callable[..., R], /, *args: Any, **kwargs: Any) -> Future[R]:
        future: Future[R] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future


def workers_pool(workers: int) -> AbstractContextManager[Executor]:
    """An executor of `workers` threads; of none, one that runs each call where it is submitted."""
    return ThreadPoolExecutor(workers, thread_name_prefix="possam") if workers else nullcontext(_Inline())


def read_ahead(readers: Iterable[Iterator[T]], pool: Executor, ahead: int) -> Iterator[T]:
    """All items of all readers, one reader after the other, the next ones being read in the pool meanwhile.

    Args:
        readers: each is read by one thread at a time, to its end. `readers` itself is iterated in this thread.
        ahead: readers that are begun at a time, at least 1.
    """
    readers = iter(readers)
    begun: deque[tuple[Iterator[T], Future[list[T]]]] = deque()

    def fill() -> None:
        for reader in islice(readers, ahead - len(begun)):
            begun.append((reader, pool.submit(_take, reader)))

    fill()
    while begun:
        reader, future = begun.popleft()
        ended = False
        while not ended:
            items = future.result()
            ended = len(items) < _CHUNK
            if not ended:
                future = pool.submit(_take, reader)
            fill()
            yield from items


def _take(reader: Iterator[T]) -> list[T]:
    return list(islice(reader, _CHUNK))


def by_size(items: Iterable[T], size: Callable[[T], Hashable], count: int) -> Iterator[list[T]]:
    """Batches of `count` items of one size; of fewer at the end, and where too many wait for others of their size.

    The batches depend on the items and their order alone.
    """
    waiting: dict[Hashable, list[T]] = {}  # the size that was begun first comes first
    for item in items:
        batch = waiting.setdefault(size(item), [])
        batch.append(item)
        if len(batch) == count:
            yield waiting.pop(size(item))
        elif sum(map(len, waiting.values())) >= _WAITING * count:
            yield waiting.pop(next(iter(waiting)))
    yield from waiting.values()


def finish_beside(
    batches: Iterable[list[T]],
    encode: Callable[[list[T]], Iterable[tuple[T, E]]],
    finish: Callable[[T, E], R],
    pool: Executor,
    ahead: int,
) -> Generator[R]:
    """Encode batches in this thread, and finish their items in the pool meanwhile.

    Args:
        encode: gives the items of a batch that could be encoded, and what came of each.
        ahead: items that may wait to be finished, or for their results to be taken.

    Yields:
        What `finish` returns, in the order of the batches; what it raises is raised here.
    """
    waiting: deque[Future[R]] = deque()
    try:
        for batch in batches:
            for item, encoded in encode(batch):
                waiting.append(pool.submit(finish, item, encoded))
            while len(waiting) > ahead or (waiting and waiting[0].done()):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
