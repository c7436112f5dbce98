"""Settings from YAML files and command lines, over the defaults of the system that they name."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from fvcore.common.config import BASE_KEY

from possam.config.key import value_of
from possam.config.migration import RENAMED, drop_foreign, migrate, migrate_overrides
from possam.config.table import default_config, keys_of, owners
from possam.config.tree import flatten, nest
from possam.d2.config import CfgNode
from possam.utils.files import expand_home, full_path, read_yaml

__all__ = [
    "ConfigFile",
    "ConfigFiles",
    "config_folder",
    "find_config",
    "list_files",
    "load",
    "read_with_bases",
    "setting",
]

logger = logging.getLogger(__name__)
_SYSTEM = "MODEL.META_ARCHITECTURE"

ConfigFiles = str | Path | Sequence[str | Path] | None
"""One YAML file, or several, of which a later one holds over those before it."""


class ConfigFile(NamedTuple):
    """One YAML file without those that it is based on.

    Attributes:
        settings: values by full key, under their present names.
        changes: which settings it has under former names; those of an earlier version may also be another system's.
    """

    path: Path
    settings: dict[str, Any]
    changes: list[str]


def config_folder() -> Path:
    """The folder of the project's own configurations: of the installed package, or of the clone that it runs from."""
    package = Path(__file__).parents[1]
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def find_config(name: str | Path) -> Path:
    """The path of a configuration, or a folder of them.

    What is not there as it is written is looked up among the project's own, with or without `configs/` before it:
    `mini/possam.yaml` and `configs/mini/possam.yaml` are found from any folder.
    """
    path = full_path(name)
    if path.exists() or path.is_absolute():
        return path
    own = config_folder().joinpath(*path.parts[path.parts[:1] == ("configs",) :])
    return own if own.exists() else path


def list_files(files: ConfigFiles) -> list[Path]:
    """Files of a configuration as a list (`find_config`); an empty name is none."""
    names = [files] if isinstance(files, str | Path) else files or []
    return [find_config(name) for name in names if str(name)]


def read_with_bases(path: Path, *above: Path) -> list[ConfigFile]:
    """Read a file, and before it those that it is based on (`_BASE_`), each with the present names of settings.

    Args:
        path: the file.
        above: the files, absolute, that are based on it.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is not plain YAML, is based on itself, or has a setting by its former and its present name.
    """
    if path.resolve() in above:
        raise ValueError(f"{path} is its own {BASE_KEY}; take it out.")
    content = read_yaml(path)
    bases = content.pop(BASE_KEY, [])
    files: list[ConfigFile] = []
    for base in bases if isinstance(bases, list) else [bases]:
        if not isinstance(base, str) or not base or "://" in base:
            raise ValueError(f"{path}: {BASE_KEY} must be the path of another YAML file, but is {base!r:.200}.")
        place = path.parent / full_path(base)
        if not place.is_file():
            raise FileNotFoundError(f"{path} is based on {base!r:.300}, and there is no file {place}.")
        files.extend(read_with_bases(place, path.resolve(), *above))
    try:
        settings, changes = migrate(flatten(content))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return [*files, ConfigFile(path, settings, changes)]


def setting(files: Iterable[ConfigFile], key: str, default: Any = None) -> Any:
    """The value of a key in the last of some files that has it."""
    return next((file.settings[key] for file in reversed(list(files)) if key in file.settings), default)


def load(path: ConfigFiles = None, overrides: Sequence[str] = ()) -> CfgNode:
    """Merge YAML files and then `KEY VALUE` overrides into the defaults of the system that they name.

    A home folder, `~`, that a path begins with, and environment variables in it are written out. Former names of
    settings are named in a warning. Ranges are not checked.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: an unknown system or key, one of another system, or a value of the wrong type.
    """
    files: list[ConfigFile] = []
    for file in list_files(path):
        if not file.is_file():
            raise FileNotFoundError(f"No configuration at {file}; the package's own are in {config_folder()}.")
        files.extend(read_with_bases(file))
    pairs, changes = _pairs(overrides)
    system = _system(files, pairs)
    cfg = default_config(system)
    known, left_out = flatten(cfg), list[str]()
    for one in files:
        _check_version(one, cfg)
        with _merging(str(one.path)):
            settings = dict(one.settings)
            if one.changes:
                left_out.extend(drop_foreign(settings, known))
            for key, value in settings.items():
                _check_key(key, value, cfg, system)
            before = cfg.clone()
            cfg.merge_from_other_cfg(CfgNode(nest(settings)))
            _check_given(cfg, before, settings)
    changes = [*(change for one in files for change in one.changes), *changes]
    if changes:
        logger.warning(
            "%s: these settings have new names: %s%s.", " + ".join(map(str, list_files(path))) or "The overrides",
            "; ".join(dict.fromkeys(changes)),
            f"; of other systems, and not read: {', '.join(dict.fromkeys(left_out))}" if left_out else "",
        )  # fmt: skip
    with _merging(f"the overrides {list(overrides)!r:.200}"):
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            _check_key(key, value, cfg, system)
        before = cfg.clone()
        cfg.merge_from_list(pairs)
        _check_given(cfg, before, pairs[::2])
    _write_out_paths(cfg)
    return cfg


def _pairs(overrides: Sequence[Any]) -> tuple[list[Any], list[str]]:
    shown = f"the overrides {list(overrides)!r:.200}"
    for key in overrides[::2]:
        if not isinstance(key, str):
            raise ValueError(f"{shown} must be KEY VALUE pairs, but a key is {key!r}.")
    if len(overrides) % 2:
        raise ValueError(f"{shown} must be KEY VALUE pairs, but {overrides[-1]!r:.80} has no value.")
    with _merging(shown):
        return migrate_overrides(overrides)


def _system(files: Iterable[ConfigFile], pairs: Sequence[Any]) -> str:
    given = [value for key, value in zip(pairs[::2], pairs[1::2], strict=True) if key == _SYSTEM]
    found: str = given[-1] if given else setting(files, _SYSTEM, "")
    if found is None:
        raise ValueError(f"{_SYSTEM} is empty, but must be the name of a system.")
    return found


def _check_version(file: ConfigFile, cfg: CfgNode) -> None:
    version = file.settings.get("VERSION", cfg.VERSION)
    if version != cfg.VERSION:
        raise ValueError(
            f"{file.path}: VERSION is {version!r:.80}, but only version {cfg.VERSION} can be read here; convert it "
            "with Detectron2's upgrade_config first."
        )


def _check_key(key: str, value: Any, cfg: CfgNode, system: str) -> None:
    """Raise KeyError for a key that there is not, with what may be meant, and ValueError for a value of a section."""
    try:
        if isinstance(value_of(cfg, key), CfgNode) and value != {}:
            raise ValueError(f"a mapping is needed, but it is {value!r:.200}, for config key: {key}")
    except (KeyError, TypeError):
        if others := owners(key):
            raise KeyError(
                f"{key} is a key of {' and '.join(others)}, but {_SYSTEM} is {system}; leave it out, or set {_SYSTEM}."
            ) from None
        known = {name: name for name in flatten(cfg)} | RENAMED
        close = difflib.get_close_matches(key, known, n=3, cutoff=0.5)
        shown = ", ".join(dict.fromkeys(known[name] for name in close))
        raise KeyError(
            f"there is no setting {key!r:.200}. Closest valid keys: {shown or 'none; see `possam configs keys`'}."
        ) from None


@contextmanager
def _merging(source: str) -> Iterator[None]:
    """What goes wrong in merging, as a ValueError that names the source."""
    try:
        yield
    except KeyError as error:
        raise ValueError(f"{source}: {_one_line(error.args[0])}") from error
    except (ValueError, TypeError, AttributeError, AssertionError, SyntaxError, RecursionError) as error:
        raise ValueError(f"{source}: a setting has the wrong type, or is none: {_one_line(error)}") from error


def _one_line(reason: object) -> str:
    line = " ".join(str(reason).encode(errors="backslashreplace").decode().split())
    # Of a long value or a whole section the key is at the end.
    return line if len(line) <= 500 else f"{line[:240]} … {line[-240:]}"


def _check_given(cfg: CfgNode, before: CfgNode, keys: Iterable[str]) -> None:
    """Merging takes an empty value for one of any type."""
    for key in keys:
        if value_of(cfg, key) is None and (former := value_of(before, key)) is not None:
            wanted = f"{type(former).__name__}, as {former!r:.80}"
            raise ValueError(f"{key} is empty, but must be of type {wanted}.")


def _write_out_paths(cfg: CfgNode) -> None:
    for key in keys_of(cfg.MODEL.META_ARCHITECTURE).values():
        if key.path:
            *sections, last = key.name.split(".")
            node = value_of(cfg, ".".join(sections)) if sections else cfg
            try:
                node[last] = expand_home(node[last])
            except ValueError as error:
                raise ValueError(f"{key.name}: {error}") from error
