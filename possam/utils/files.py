"""Writing files so that a reader sees the whole of a file or nothing of it."""

import codecs
import hashlib
import json
import math
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import yaml

__all__ = [
    "decode_text",
    "dump_json",
    "expand_home",
    "file_sha256",
    "full_path",
    "read_any_json",
    "read_json",
    "read_json_list",
    "read_text",
    "read_yaml",
    "write_atomically",
    "write_json",
]

_MOST_VALUES = 100_000
_TEMPORARY = ".tmp"
_BLOCK = 1 << 22  # bytes
_VARIABLE = re.compile(r"\$([A-Za-z_]\w*|\{[A-Za-z_]\w*\})", re.ASCII)
# The longer marks first: that of UTF-32 begins with that of UTF-16.
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def full_path(path: str | Path) -> Path:
    """The path whose home folder and environment variables are written out, as `expand_home` does."""
    return Path(expand_home(path))


def opencv_path(path: str | Path) -> Any:
    """A path as OpenCV takes it: text, or bytes where a byte of it is no UTF-8.

    OpenCV crashes on such text, and takes bytes from version 4.12 on.
    """
    name = os.fspath(path)
    try:
        name.encode()
    except UnicodeEncodeError:
        return os.fsencode(name)
    return name


def expand_home(path: str | Path) -> str:
    """Write out the home folder, `~` or `~user`, that a path begins with, and environment variables, `$NAME` or
    `${NAME}`, as a shell does; any other path is returned as it is.

    Raises:
        ValueError: there is no such home folder or variable, and no file of that name.
    """
    full = os.path.expanduser(os.path.expandvars(str(path)))
    if (unset := _VARIABLE.search(full)) and not os.path.exists(full):
        raise ValueError(f"{path} has the environment variable {unset[0]}, which is not set; write the path out.")
    if full.startswith("~") and not os.path.exists(full):
        home = str(path).split(os.sep)[0]
        raise ValueError(f"{path} begins with {home}, a home folder that is unknown; write the folder out.")
    return full


def write_atomically(path: str | Path, write: Callable[[IO[bytes]], object]) -> None:
    """Call ``write(file)`` on a temporary file beside `path`, then rename it to `path`.

    A run that is stopped half-way leaves the old file, or none, never half of a new one. Missing parent
    folders are made.

    Raises:
        OSError: it could not be written; the error names `path`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        _write_and_rename(path, write)
    except OSError as error:
        # The system names the temporary file, or, where the disk is full, none.
        unnamed = error.filename is None or str(error.filename).endswith(_TEMPORARY)
        if error.errno is not None and unnamed:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def _write_and_rename(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=_TEMPORARY)
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes private files; results are to be readable like any file that the user's umask allows.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):  # the first error is the one to know
            os.unlink(temporary)
        raise


def write_json(path: str | Path, content: Any) -> None:
    """Write `content` as JSON, all of it or nothing; NaN, which JSON does not have, becomes null."""
    data = dump_json(content)
    write_atomically(path, lambda file: file.write(data))


def dump_json(content: Any) -> bytes:
    """Encode `content` as one line of JSON in ASCII; NaN, which JSON does not have, becomes null."""
    return json.dumps(_without_nan(content), allow_nan=False).encode()


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def decode_text(data: bytes) -> str:
    """Decode a text file: UTF-8, or the UTF-8, UTF-16 or UTF-32 whose byte order mark it begins with.

    Windows programs write the mark. It is not part of the text.

    Raises:
        UnicodeDecodeError: the bytes are not text in that encoding.
    """
    encoding = next((name for mark, name in _MARKS.items() if data.startswith(mark)), "utf-8")
    return data.decode(encoding)


def read_text(path: str | Path) -> str:
    """Read a text file in an encoding that `decode_text` accepts.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: it is not text; the message names the file.
    """
    try:
        return decode_text(Path(path).read_bytes())
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8 ({error}); save it as UTF-8.") from error


def read_json(path: str | Path) -> dict[str, Any]:
    """Read a JSON object, in an encoding that `decode_text` accepts.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not JSON, or not an object; the message names the file.
    """
    content = read_any_json(path)
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds a {type(content).__name__}, but a JSON object {{…}} is expected.")
    return dict(content)


def read_json_list(path: str | Path) -> list[Any]:
    """Read a JSON list; raises as `read_json`."""
    content = read_any_json(path)
    if not isinstance(content, list):
        raise ValueError(f"{path} holds a {type(content).__name__}, but a JSON list […] is expected.")
    return content


def read_any_json(path: str | Path) -> Any:
    """Read JSON of any type, otherwise as `read_json`."""
    path = Path(path)
    try:
        return json.loads(decode_text(path.read_bytes()))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} does not exist; check the path or prepare the dataset.") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}); give the path of a JSON file.") from error
    except (ValueError, RecursionError) as error:  # of bytes, of syntax, of numbers too long, of brackets too deep
        raise ValueError(f"{path} is not valid JSON ({error}); copy or export it again.") from error


class _KeyTwiceError(ValueError):
    """A mapping has a key twice."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, except that a mapping with a key twice is refused: PyYAML would drop the first."""

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        marks: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            name, line = (key.tag, key.value), key.start_mark.line + 1
            if name in marks:
                raise _KeyTwiceError(f"the key {key.value!r:.80} twice, in line {marks[name]} and in line {line}")
            marks[name] = line
        return node


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML mapping without running anything it may hold.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not plain YAML, not a mapping of names to values, has a key twice in one mapping, or has
            aliases that unfold to over 100,000 values or to themselves; the message names the file.
    """
    path = Path(path)
    try:
        content = yaml.load(decode_text(path.read_bytes()), _Loader)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} does not exist; check the path.") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}); give the path of a YAML file.") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8 ({error}); save it as UTF-8.") from error
    except _KeyTwiceError as error:
        raise ValueError(f"{path} has {error}, and only one can hold; join them or remove one.") from None
    except Exception as error:  # PyYAML raises half a dozen types for values that are none
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path} is not plain YAML ({reason:.200}).") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is not a YAML mapping of keys to values, but a {type(content).__name__}.")
    _check_tree(content, path)
    return content


def _check_tree(content: Any, path: Path) -> None:
    """Aliases make a file of a few lines stand for more values than fit into memory."""
    left, count = [content], 0
    while left:
        node = left.pop()
        count += 1
        if count > _MOST_VALUES:
            raise ValueError(f"{path} unfolds to over {_MOST_VALUES:,} values; write them out without YAML's aliases.")
        if isinstance(node, dict):
            odd = [key for key in node if not isinstance(key, str)]
            if odd:
                raise ValueError(f"{path} has the key {odd[0]!r:.80}, but keys are names.")
            left.extend((*node, *node.values()))
        elif isinstance(node, list | tuple | set):
            left.extend(node)
        elif isinstance(node, str) and not node.isascii() and any("\ud800" <= c <= "\udfff" for c in node):
            raise ValueError(f"{path} has half of a character in {node!r:.80}.")
        elif isinstance(node, int) and node.bit_length() > 1024:
            raise ValueError(f"{path} has a number of more than 300 digits.")


def file_sha256(path: str | Path, report: Callable[[int], object] | None = None) -> str:
    """sha256 of a file, hexadecimal; `report` hears of every block's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            if report is not None:
                report(len(block))
    return digest.hexdigest()
