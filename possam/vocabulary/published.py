"""Class names that other projects have published for the datasets: read from their files, which are not shipped."""

from __future__ import annotations

import hashlib
import http.client
import logging
import os
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from possam.utils.files import full_path, read_text, write_atomically
from possam.utils.messages import did_you_mean

from .vocabulary import Category, Vocabulary, fold_name

__all__ = ["check_class_names_source", "published_vocabulary", "read_names"]

logger = logging.getLogger(__name__)

_TIMEOUT = 30.0  # seconds without a byte
_MOST_BYTES = 1 << 20
_NO_CLASS = "invalid_class_id"


@dataclass(frozen=True, kw_only=True)
class NameFile:
    """The file of one table's names.

    Args:
        name: of the file.
        sha256: hex digest at the publication's commit.
        left_out: classes at its beginning that the table does not have.
    """

    name: str
    sha256: str
    left_out: int = 0


@dataclass(frozen=True, kw_only=True)
class Publication:
    """The name files of one project.

    Args:
        title: what people call the project.
        repository: "owner/name" at GitHub.
        commit: the one that the files are fetched at.
        folder: of the files in the repository.
        files: by the shipped table whose classes they name.
    """

    title: str
    repository: str
    commit: str
    folder: str
    files: dict[str, NameFile]

    def address(self, file: NameFile) -> str:
        return f"{_RAW}/{self.repository}/{self.commit}/{self.folder}/{file.name}"


_RAW = "https://raw.githubusercontent.com"
# Table, beginning of the file's name, its sha256, and classes at its beginning that the table does not have.
_FCCLIP_FILES = """
ade20k_150 ade20k_150 3204c154e2c524ce2575f873838893fc25d68c5c4f7973f2d4ee76d7e24bb781 0
ade20k_847 ade20k_847 173d44806d8b3ca94cfb8947f459e6ecdb90770387b3a4116fdd78e8e111d732 0
cityscapes cityscapes e4afc7fb7776a05213822333a48ad708448a0fd25eb819b2ea7ef253af164b43 0
coco_panoptic coco_panoptic 560169ea22202460c3b9427df387f8d1778e94dadecd38554da683e2097cda9f 0
coco_stuff coco_stuff af860dc8362af7c7fed556b79014cfbf775b7ece2279b11317a16260cdca9bcb 0
lvis lvis_1203 7108477b1bdfca7c95d17f7b9e992250be9a6bd6dc704fcb4592484ac626dffd 0
mapillary_vistas mapillary_vistas 67d04273ba43538b4ae8c5c809951422982e3abd6eb2ee6ab2a2d063916e9c10 0
pascal_context_459 pascal_ctx_459 574ae7e3dc9decff20366696309c36d40502cda90204f7e94c96251559be5197 0
pascal_context_59 pascal_ctx_59 0bf48d67f93b15d331cbf36e112777cc3a407084e94e395b98fad8c67e50149a 0
pascal_voc_20 pascal_voc_21 9acddc0dc82ebb9167e23ac93b197c91794603ec320f5e30053f983d4fa23c21 1
pascal_voc_21 pascal_voc_21 9acddc0dc82ebb9167e23ac93b197c91794603ec320f5e30053f983d4fa23c21 0
"""
PUBLICATIONS = {
    "fcclip": Publication(
        title="FC-CLIP",
        repository="bytedance/fc-clip",
        commit="2b0bbe213070d44da9182530fa2e826fef03f974",
        folder="fcclip/data/datasets",
        files={
            table: NameFile(name=f"{stem}_with_prompt_eng.txt", sha256=sha256, left_out=int(left_out))
            for table, stem, sha256, left_out in map(str.split, _FCCLIP_FILES.strip().splitlines())
        },
    )
}


def check_class_names_source(source: str) -> None:
    """Raise ValueError unless `source` is empty, a publication's name or a folder; files are not looked at."""
    if not source or source in PUBLICATIONS or full_path(source).is_dir():
        return
    hint = did_you_mean(source, PUBLICATIONS)
    raise ValueError(
        f"the class names are to come from {source!r}, which is neither one of {', '.join(PUBLICATIONS)}, nor a folder "
        f"such as a checkout of {' or of '.join(one.repository for one in PUBLICATIONS.values())}.{hint}"
    )


def published_vocabulary(table: str, source: str) -> Vocabulary:
    """The classes of a shipped table under published names.

    The order of the classes, their ids and which of them are things are the table's. A name may belong to several
    classes; a name that a class has twice, case and spacing ignored, is kept once.

    Args:
        table: name of a shipped table, such as "ade20k_150".
        source: a publication's name ("fcclip"), whose files are fetched and kept in the user's cache; or a folder with
            its files, or a checkout of its repository.

    Raises:
        ValueError: an unknown source, a table that it has no names for, or a file of another format, of another number
            of classes or, fetched, of another content.
        FileNotFoundError: the folder lacks the file, or it cannot be fetched.
    """
    check_class_names_source(source)
    key = source if source in PUBLICATIONS else next(iter(PUBLICATIONS))
    publication = PUBLICATIONS[key]
    if table not in publication.files:
        raise ValueError(
            f"{publication.title} has no class names for {table!r}, only for {', '.join(publication.files)}."
            f"{did_you_mean(table, publication.files)}"
        )
    file = publication.files[table]
    path = _fetched(publication, file, key) if source == key else _found(publication, file, full_path(source))
    names = read_names(path)[file.left_out :]
    classes = Vocabulary.load(table).categories
    if len(names) != len(classes):
        raise ValueError(
            f"{path} names {len(names) + file.left_out} classes, but {table} needs {len(classes) + file.left_out}; "
            f"take the file of {publication.repository}, commit {publication.commit[:7]}."
        )
    categories = tuple(
        Category(names=own, isthing=known.isthing, dataset_id=known.dataset_id, dataset_name=known.dataset_name)
        for own, known in zip(names, classes, strict=True)
    )
    return Vocabulary(
        name=f"{table}_{key}", categories=categories, source=f"{publication.title}'s {file.name}", shared_names=True
    )


def read_names(path: Path) -> list[tuple[str, ...]]:
    """Names of each class of a file with a line "id:name,name" for each class, in the order of the ids.

    Lines of the name "invalid_class_id" are no classes. A name that a class has twice, case and spacing ignored, is
    kept once.

    Raises:
        ValueError: a line of another form, with its number.
    """
    classes: list[tuple[str, ...]] = []
    last = -1
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        identifier, colon, text = line.partition(":")
        names = text.replace(", ", ",").split(",")
        if not (colon and identifier.isascii() and identifier.isdecimal() and int(identifier) > last and all(names)):
            raise ValueError(
                f"{path}, line {number}: expected an id above {last}, a colon and names separated by commas, such as "
                f"'2:bicycle,bike', but got {line!r:.200}."
            )
        last = int(identifier)
        if text != _NO_CLASS:
            classes.append(_without_repeated(names))
    return classes


def _without_repeated(names: Sequence[str]) -> tuple[str, ...]:
    first: dict[str, str] = {}
    for name in names:
        first.setdefault(fold_name(name), name)
    return tuple(first.values())


def _found(publication: Publication, file: NameFile, folder: Path) -> Path:
    """The file in a checkout, or in a folder of such files."""
    candidates = [folder / publication.folder / file.name, folder / file.name]
    path = next((path for path in candidates if path.is_file()), None)
    if path is None:
        raise FileNotFoundError(
            f"{folder} has no {publication.folder}/{file.name} and no {file.name}; name a checkout of "
            f"https://github.com/{publication.repository}."
        )
    if _digest(path.read_bytes().replace(b"\r\n", b"\n")) != file.sha256:
        logger.warning(
            "%s is not %s's file of commit %s: results need not equal the published ones.",
            *(path, publication.title, publication.commit[:7]),
        )
    return path


def _fetched(publication: Publication, file: NameFile, key: str) -> Path:
    """The file in the user's cache, fetched if it is not there or damaged."""
    cache = full_path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "possam" / "class_names"
    path = cache / key / publication.commit[:12] / file.name
    if path.is_file() and _digest(path.read_bytes()) == file.sha256:
        return path
    address = publication.address(file)
    by_hand = (
        f"Clone https://github.com/{publication.repository} where there is a connection, copy it here, and give its "
        "folder as DATASETS.CLASS_NAMES"
    )
    try:
        with urllib.request.urlopen(address, timeout=_TIMEOUT) as answer:
            content = answer.read(_MOST_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise FileNotFoundError(f"{address} cannot be fetched ({error}). {by_hand}.") from error
    if (sha256 := _digest(content)) != file.sha256:
        raise ValueError(
            f"what came from {address} has the sha256 {sha256}, but {file.sha256} was expected; something between here "
            f"and there changes it. {by_hand}."
        )
    write_atomically(path, lambda target: target.write(content))
    return path


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
