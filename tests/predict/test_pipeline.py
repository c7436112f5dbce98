"""Order, bounds and errors of what goes on at the same time."""

import threading

import pytest

from possam.predict.pipeline import by_size, finish_beside, read_ahead, workers_pool


@pytest.mark.parametrize("workers", [0, 3])
def test_items_come_in_order_and_few_readers_are_begun(workers):
    begun, taken = [], []

    def reader(number):
        begun.append(number)
        yield from ((number, frame) for frame in range(number % 6))  # also none, and more than are read at a time

    with workers_pool(workers) as pool:
        for item in read_ahead(map(reader, range(30)), pool, 2):
            taken.append(item)
            assert max(begun) <= item[0] + 2 + 1  # one of them may be empty
    assert taken == [(number, frame) for number in range(30) for frame in range(number % 6)]
    assert sorted(begun) == list(range(30))


def test_what_a_reader_raises_is_raised():
    def reader():
        yield 1
        yield 2
        raise KeyError("bug")

    with workers_pool(1) as pool, pytest.raises(KeyError, match="bug"):
        list(read_ahead([reader()], pool, 1))


def test_batches_have_one_size_and_do_not_wait_for_ever():
    assert list(by_size("aabbab", ord, 2)) == [["a", "a"], ["b", "b"], ["a"], ["b"]]
    assert list(by_size("abcdefgh", ord, 1)) == [[letter] for letter in "abcdefgh"]
    items = iter("abcdefghij")
    assert next(by_size(items, ord, 2)) == ["a"] and next(items) == "i"  # eight wait, at most


@pytest.mark.parametrize("workers", [0, 2])
def test_results_come_in_order_and_few_wait(workers):
    waiting = set()

    def encode(batch):
        waiting.update(batch)
        assert len(waiting) <= 3 + 2 + 2
        return [(item, -item) for item in batch if item != 4]

    def finish(item, encoded):
        assert (threading.current_thread() is threading.main_thread()) == (workers == 0)
        return item, encoded

    batches = [[n, n + 1] for n in range(0, 20, 2)]
    results = []
    with workers_pool(workers) as pool:
        for item, encoded in finish_beside(batches, encode, finish, pool, 3):
            waiting.discard(item)
            waiting.discard(4)
            results.append((item, encoded))
    assert results == [(n, -n) for n in range(20) if n != 4]


def test_what_finishing_raises_is_raised_and_the_rest_is_not_begun():
    begun = []

    def finish(item, encoded):
        begun.append(item)
        raise KeyError("bug")

    with workers_pool(1) as pool, pytest.raises(KeyError, match="bug"):
        list(finish_beside([[n] for n in range(50)], lambda batch: [(n, n) for n in batch], finish, pool, 2))
    assert len(begun) < 10
