"""Class tables as JSON, and the reading and writing of such files.

Schema: ``{"name": str, "source": str (optional), "classes": [...], "shared_names": bool (optional)}``, each class being
``{"id": int, "dataset_name": str, "names": [str, ...], "isthing": 0 or 1}``,
where ``dataset_name`` may be absent. The order is that of the contiguous class ids.
``id`` is the id in the dataset's annotation files, ``names[0]`` the displayed name and the rest synonyms,
``dataset_name`` the dataset's own spelling. ``shared_names`` tells whether a name may belong to several classes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from possam.utils.files import decode_text, write_atomically

_FOLDER = Path(__file__).parent
_TABLE_KEYS = {"name": True, "source": False, "classes": True, "shared_names": False}
_CLASS_KEYS = {"id": True, "dataset_name": False, "names": True, "isthing": True}


def table_names() -> list[str]:
    """Names of the tables that ship with the package, sorted."""
    return sorted(path.stem for path in _FOLDER.glob("*.json"))


def table_path(name: str) -> Path | None:
    """Path of a shipped table, or None where no table has this name."""
    return _FOLDER / f"{name}.json" if name in table_names() else None


def read_table(path: Path) -> dict[str, Any]:
    """Read and check one table.

    Raises:
        ValueError: the file is absent, is not JSON or breaks the schema; the message names file and place.
    """
    try:
        table = json.loads(decode_text(path.read_bytes()))
    except FileNotFoundError as error:
        raise ValueError(f"{path}: no such vocabulary file; check the path") from error
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); give the path of a .json file") from error
    except (ValueError, RecursionError) as error:  # of the path, of bytes, of syntax, of brackets too deep
        raise ValueError(f"{path}: not a JSON file: {error}") from error
    check_table(table, f"{path}")
    return dict(table)


def check_table(table: Any, source: str) -> None:
    """ValueError, which names the place in ``source``, where plain data breaks the schema."""
    _check_keys(table, _TABLE_KEYS, source)
    _check_type(table, "name", str, source)
    _check_type(table, "source", str, source)
    if not isinstance(table.get("shared_names", False), bool):
        raise ValueError(f"{source}: shared_names must be true or false, got {table['shared_names']!r:.200}")
    _check_type(table, "classes", list, source)
    for position, entry in enumerate(table["classes"]):
        where = f"{source}: class number {position}"
        _check_keys(entry, _CLASS_KEYS, where)
        _check_type(entry, "id", int, where)
        _check_type(entry, "dataset_name", str, where)
        _check_type(entry, "names", list, where)
        if not all(isinstance(name, str) for name in entry["names"]):
            raise ValueError(f"{where}: names must hold strings only, got {entry['names']!r:.200}")
        if entry["isthing"] not in (0, 1):
            raise ValueError(f"{where}: isthing must be 1 (thing) or 0 (stuff), got {entry['isthing']!r:.200}")


def write_table(table: dict[str, Any], path: Path) -> None:
    """Write one table, a class a line; a reader never sees half a file."""
    lines = [json.dumps(entry, ensure_ascii=False) for entry in table["classes"]]
    head = "".join(
        f"  {json.dumps(key)}: {json.dumps(table[key], ensure_ascii=False)},\n" for key in table if key != "classes"
    )
    text = "{\n" + head + '  "classes": [\n    ' + ",\n    ".join(lines) + "\n  ]\n}\n"
    write_atomically(path, lambda file: file.write(text.encode()))


def _check_keys(entry: Any, keys: dict[str, bool], where: str) -> None:
    if not isinstance(entry, dict):
        raise ValueError(f"{where}: expected a JSON object with the keys {', '.join(keys)}, got {entry!r:.200}")
    missing = [key for key, required in keys.items() if required and key not in entry]
    if missing:
        needed = ", ".join(key for key in keys if keys[key])
        raise ValueError(f"{where}: missing {', '.join(missing)}; needed are {needed}")
    unknown = [key for key in entry if key not in keys]
    if unknown:
        raise ValueError(f"{where}: unknown key {unknown[0]!r:.200}; the valid ones are {', '.join(keys)}")


def _check_type(entry: dict[str, Any], key: str, kind: type, where: str) -> None:
    if key in entry and (not isinstance(entry[key], kind) or isinstance(entry[key], bool)):
        raise ValueError(f"{where}: {key} must be of type {kind.__name__}, got {entry[key]!r:.200}")
