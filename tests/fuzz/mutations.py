"""What is done to whole files to make broken ones, and how a reader's answer to a broken file is judged."""

import copy
import gc
import io
import json
import os
import pickle
import re
import resource
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from PIL import Image

from possam.data.pictures import UnreadableFile

DOCUMENTED = (ValueError, UnreadableFile, FileNotFoundError)
SECONDS = 2
SURROGATE = re.compile("[\ud800-\udfff]")
MEMORY = 1 << 30
# Python reserves, and does not touch, what a length of 32 bits in a file claims: 4 GB.
ADDRESSES = 8 << 30


def cases(count: int) -> settings:
    """The same `count` cases on every machine; POSSAM_FUZZ_TIMES=10 looks at ten times as many others."""
    times = int(os.environ.get("POSSAM_FUZZ_TIMES", "0"))
    return settings(
        max_examples=count * max(times, 1),
        derandomize=not times,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def read(call: Callable[[], Any], *names: str | Path) -> Any:
    """The result of a reader, or None where it refuses as documented.

    Args:
        call: the reader with its file.
        names: what a refusal's message must name, any one of them.
    Raises:
        AssertionError: it raised something else, did not name the file, ran over `SECONDS` of CPU time or took more
            than `MEMORY` bytes.
    """
    assert names, "say what a refusal has to name"
    try:
        with _bounds(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return call()
    except (ValueError, FileNotFoundError) as error:
        assert type(error) in DOCUMENTED, f"a bare {type(error).__name__} came out: {error}"
        assert any(str(name) in str(error) for name in names), f"{str(error)[:600]!r} names none of {names}"
        assert len(str(error)) < 20_000, f"a message of {len(str(error)):,} characters"
        if not any(SURROGATE.search(str(name)) for name in names):
            str(error).encode()  # a message that no terminal or log can write is none
        causes = list(_causes(error))
        assert not any(isinstance(cause, MemoryError) or "allocate memory" in str(cause) for cause in causes), causes
        return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


class Hang(BaseException):
    """A reader took too long."""


@contextmanager
def _bounds():
    def stop(*_):
        raise Hang(f"over {SECONDS} s of CPU time")

    gc.collect(0)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    own = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    old = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGVTALRM, stop)
    resource.setrlimit(resource.RLIMIT_AS, (own + ADDRESSES, old[1]))
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, old)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) << 10
        assert grown < MEMORY, f"it took {grown >> 20:,} MB"


# ---------------------------------------------------------------- values and trees


def nest(depth: int) -> list[Any]:
    """A list in a list, `depth` times."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


INTEGERS = st.sampled_from([-(10**30), -(2**63), -1, 0, 1, 2, 255, 256, 65535, 2**24, 2**31, 2**32, 2**63, 10**30])
FLOATS = st.sampled_from([0.5, -0.5, 1e300, -1e300, float("nan"), float("inf"), float("-inf"), 1e9, 4.0])
TEXTS = st.sampled_from(
    [
        "", " ", "\0", "a\0b", "\ud800", "é", "狗", "../..", "/", ".", "nan", "1", "x" * 300, "a,b", ",", "\n", "🦜",
        "x.json",
    ]
) | st.text(max_size=6)  # fmt: skip
LEAVES = st.one_of(st.none(), st.booleans(), INTEGERS, FLOATS, TEXTS, st.builds(nest, st.just(40)))
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


def _places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path]
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        found += _places(value, (*path, key))
    return found


def _at(node: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        node = node[key]
    return node


CHANGES = ("value", "value", "leaf", "delete", "repeat", "wrap", "elsewhere", "key", "add")


@st.composite
def mutated(draw: Callable[[Any], Any], tree: Any, most: int = 3) -> Any:
    """A tree of dicts, lists and plain values with one to `most` changes of keys, types, numbers and repetitions."""
    tree = copy.deepcopy(tree)
    for _ in range(draw(st.integers(1, most))):
        path = draw(st.sampled_from(_places(tree)))
        if not path:
            if draw(st.integers(0, 9)) == 0:
                return draw(VALUES)
            continue
        parent, key = _at(tree, path[:-1]), path[-1]
        change = draw(st.sampled_from(CHANGES))
        if change == "value":
            parent[key] = draw(VALUES)
        elif change == "leaf":
            parent[key] = draw(LEAVES)
        elif change == "delete":
            del parent[key]
        elif change == "repeat" and isinstance(parent, list):
            parent.insert(key, copy.deepcopy(parent[key]))
        elif change == "wrap":
            parent[key] = draw(st.sampled_from([[parent[key]], {"a": parent[key]}, str(parent[key])]))
        elif change == "elsewhere":
            parent[key] = copy.deepcopy(_at(tree, draw(st.sampled_from(_places(tree)))))
        elif isinstance(parent, dict) and change == "key":
            parent[draw(TEXTS)] = parent.pop(key)
        elif isinstance(parent, dict) and change == "add":
            parent[draw(TEXTS)] = draw(VALUES)
    return tree


# ---------------------------------------------------------------- bytes


def picture(mode: str, size: tuple[int, int] = (6, 8), format: str = "PNG") -> bytes:
    """A picture of zeros as a file's bytes; size as (width, height)."""
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, format)
    return buffer.getvalue()


OTHERS = (
    b"",
    b"\0",
    b"{}",
    b"[]",
    b"null",
    b"NaN",
    b'"text"',
    b"1" * 5000,
    b'{"a": ' + b"1" * 5000 + b"}",
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b"\xef\xbb\xbf{}",
    "ü".encode("utf-16"),
    b"\xff\xfe\x00",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    b"<html><body>404</body></html>",
    b"PK\x03\x04" + bytes(40),
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff\xe0" + bytes(30),
    b"GIF89a" + bytes(30),
    b"II*\0" + bytes(30),
    b"RIFF\x10\0\0\0WEBPVP8 " + bytes(8),
    b"BM" + bytes(60),
    b"P6 60000 60000 255\n",
    picture("RGB", format="JPEG"),
    picture("P", format="GIF"),
    picture("1"),
    picture("LA"),
    picture("I;16", format="TIFF"),
    picture("F", format="TIFF"),
    picture("CMYK", format="JPEG"),
    pickle.dumps({"model": [1, 2]}),
    json.dumps({"classes": []}).encode(),
)


@st.composite
def damaged(draw: Callable[[Any], Any], content: bytes, others: tuple[bytes, ...] = OTHERS) -> bytes:
    """The bytes of a file, cut, flipped, overwritten, spliced or replaced by another format's or any bytes."""
    kind = draw(st.sampled_from(["cut", "flip", "flip", "write", "write", "drop", "insert", "other", "any", "glue"]))
    if kind == "other":
        return draw(st.sampled_from(others))
    if kind == "any":
        return draw(st.binary(max_size=64))
    if kind == "glue":
        return draw(st.sampled_from([content + content, content + b"\0" * 9, draw(st.sampled_from(others)) + content]))
    place = draw(st.integers(0, len(content) - 1))
    if kind == "cut":
        return content[:place]
    if kind == "drop":
        return content[:place] + content[place + draw(st.integers(1, 8)) :]
    if kind == "insert":
        return content[:place] + draw(st.binary(min_size=1, max_size=8)) + content[place:]
    changed = bytearray(content)
    if kind == "write":
        new = draw(st.sampled_from([b"\0" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\0\0\xea\x60"]))
        return bytes(changed[:place] + new + changed[place + 4 :])
    for _ in range(draw(st.integers(1, 6))):
        changed[draw(st.integers(0, len(content) - 1))] ^= 1 << draw(st.integers(0, 7))
    return bytes(changed)
