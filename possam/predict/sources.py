"""Find images and videos in files, folders and patterns, and read them frame by frame."""

from __future__ import annotations

import glob
import logging
import os
import re
import stat
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from possam.data.addresses import web_address
from possam.data.pictures import read_picture
from possam.predict.videos import VIDEO_SUFFIXES, read_video
from possam.utils.files import expand_home
from possam.utils.folders import walk
from possam.utils.messages import few

__all__ = ["Frame", "Source", "as_text", "distinct_sources", "find_sources", "read_frames"]

logger = logging.getLogger(__name__)

# Pictures and videos that nothing here reads, unless Pillow has a plug-in for them.
_UNREAD_SUFFIXES = frozenset(
    ".3fr .ai .arw .asf .avif .cr2 .cr3 .crw .dng .erf .exr .hdr .heic .heif .hif .iiq .insv .jxl .kdc .mef .mos .mrw "
    ".mxf .nef .nrw .orf .pdf .pef .psb .raf .raw .rm .rmvb .rw2 .rwl .sr2 .srf .srw .svg .svgz .vob .x3f .xcf".split()
)
_PAGED = ("AVIF", "GIF", "PNG", "TIFF", "WEBP")  # formats of several images a file; others have layers or previews


@dataclass(frozen=True)
class Source:
    """A file or an http or https address, the name its results get (its path without suffix, below the folder it was
    found in), and why it cannot be read, where that is known before it is opened.

    Attributes:
        address: the address, or "" for a file; `path`, which has one slash of each two, then only names it.
    """

    path: Path
    name: str
    problem: str = ""
    address: str = ""

    @property
    def place(self) -> str:
        """The path or the address, for messages and for the JSON."""
        return self.address or str(self.path)

    @property
    def is_video(self) -> bool:
        return self.path.suffix.casefold() in VIDEO_SUFFIXES


@dataclass(frozen=True, eq=False)
class Frame:
    """An image H×W×3 uint8 RGB, and the name its results get."""

    name: str
    image: NDArray[np.uint8]


def find_sources(paths: Sequence[str | Path]) -> list[Source]:
    """Files of images and videos, from files, folders (with their subfolders, linked ones too), patterns such as
    "photos/*.jpg", and http and https addresses of images.

    A file that is named is taken whatever its suffix and whether or not it exists; reading says what is wrong with it.
    So does reading of broken links, subfolders that cannot be listed and formats that are not supported, where folders
    and patterns have them. What else these have is named in a warning, and so are results that get another name than
    their file's (`distinct_sources`).

    Raises:
        ValueError: no path, an empty one, or a folder or pattern without any picture or video.
    """
    found: list[Source] = []
    for path in map(expand_home, paths):
        if not path:
            raise ValueError("an image's path is empty; name a file, a folder or a pattern such as 'photos/*.jpg'.")
        if address := web_address(path):  # which may have a ? that is no pattern
            source = Source(Path(path), Path(urlsplit(address).path).stem or "image", address=address)
            video = "is a video, of which no address is read; download it and give the file"
            found.append(replace(source, problem=video) if source.is_video else source)
            continue
        if os.path.isdir(path):
            found += _in_folder(Path(path))
            continue
        folder, pattern = _split_pattern(path)
        if pattern and glob.has_magic(pattern):
            found += _of_pattern(path, folder, pattern)
        else:
            found.append(Source(Path(path), Path(path).stem))
    if not found:
        raise ValueError("no image was given; name files, folders or patterns such as 'photos/*.jpg'.")
    return distinct_sources(found)


def distinct_sources(sources: Sequence[Source]) -> list[Source]:
    """Each file once, and names whose results do not overwrite each other, also where case does not count.

    A name that is taken gets a number, and one that is no text, which a JSON cannot hold, a "�" for each byte that is
    none; a warning says which.
    """
    files: set[str] = set()
    numbers: dict[str, int] = {}
    renamed = []
    results: set[str] = set()
    folders: set[str] = set()
    distinct = []
    for source in sources:
        if os.path.abspath(source.path) in files:
            continue
        files.add(os.path.abspath(source.path))
        name, number = as_text(source.name), numbers.get(source.name, 2)
        own, above = _places(name, source.is_video)
        while own & (results | folders) or above & results:
            # Where one of its folders is another's result, no number behind the name helps.
            wanted = as_text(source.name).replace("/", "-") if above & results else as_text(source.name)
            name, number = f"{wanted}-{number}", number + 1
            own, above = _places(name, source.is_video)
        results |= own
        folders |= above
        numbers[source.name] = number
        distinct.append(replace(source, name=name))
        if name != source.name and not source.problem:
            renamed.append(f"{source.path} as {name}")
    if renamed:
        logger.warning("written under other names, as theirs are taken or are no text in UTF-8: %s", few(renamed))
    return distinct


def as_text(name: str) -> str:
    """A file's name with "�" for the bytes that are no UTF-8."""
    return re.sub("[\ud800-\udfff]", "\ufffd", name)  # as Python has such bytes in a str


def read_frames(source: Source, *, every: int = 1) -> Iterator[Frame]:
    """The frames of a video, each `every`-th of them, or the one image of a picture's file.

    Raises:
        FileNotFoundError, ValueError: the file is not there or cannot be read; names it. Of a video some of whose
            frames cannot be read, after the last of the others.
    """
    if source.problem:
        raise ValueError(f"{source.place} {source.problem}.")
    if os.path.isfile(source.path) and not os.path.getsize(source.path):
        raise ValueError(f"{source.path} is empty (0 bytes); get it again.")
    if source.is_video:
        for number, image in read_video(source.path, every=every):
            yield Frame(f"{source.name}/{number:06d}", image)
        return
    yield Frame(source.name, read_picture(source.place))
    pages = _pages(source.path)
    if pages > 1:
        logger.warning("%s has %d images, of which only the first is taken.", source.path, pages)


def _pages(path: Path) -> int:
    try:
        with Image.open(path) as opened:
            return getattr(opened, "n_frames", 1) if opened.format in _PAGED else 1
    except Exception:  # Pillow raises a dozen types for damaged files; the first image was read
        return 1


def _refused(error: OSError) -> Source:
    path = Path(error.filename)
    return Source(path, path.name, f"is a folder that cannot be read ({error.strerror}); change its permissions")


def _in_folder(folder: Path) -> list[Source]:
    left_out: list[Path] = []
    sources: list[Source] = []
    for here, names in walk(folder, refused=lambda e: sources.append(_refused(e)), back=left_out.append):
        for path in (here / name for name in names):
            _sort_in(path, path.relative_to(folder).with_suffix("").as_posix(), sources, left_out)
    return _checked(str(folder), sources, left_out)


def _split_pattern(path: str) -> tuple[Path, str]:
    """The longest part of a path that exists, whatever brackets it has, and the rest as a pattern."""
    folder, parts = Path(), list(Path(path).parts)
    while parts and os.path.lexists(folder / parts[0]):
        folder /= parts.pop(0)
    return folder, os.path.join(*parts) if parts else ""


def _of_pattern(path: str, folder: Path, pattern: str) -> list[Source]:
    left_out: list[Path] = []
    sources: list[Source] = []
    parts = Path(pattern).parts
    for file in sorted(set(_expand(folder, parts, sources))):
        if "**" not in parts or not os.path.isdir(file):
            _sort_in(file, file.stem, sources, left_out)
    return _checked(path, sources, left_out)


def _expand(folder: Path, parts: Sequence[str], sources: list[Source]) -> Iterator[Path]:
    """What matches a pattern, as `glob.glob` does, which goes round in circles of links; adds folders that cannot be
    listed to `sources`."""
    if not parts:
        yield folder
    elif parts[0] != "**":
        for match in glob.iglob(os.path.join(glob.escape(str(folder)), parts[0])):
            yield from _expand(Path(match), parts[1:], sources)
    else:
        for here, _ in walk(folder, refused=lambda e: sources.append(_refused(e))):
            if not any(part.startswith(".") for part in here.relative_to(folder).parts):
                yield from _expand(here, parts[1:] or ("*",), sources)


def _sort_in(path: Path, name: str, sources: list[Source], left_out: list[Path]) -> None:
    """Add a file with the suffix of a picture or a video to `sources`, any other to `left_out`."""
    suffix = path.suffix.casefold()
    kind = Image.registered_extensions().get(suffix)
    known = suffix in VIDEO_SUFFIXES or kind in Image.OPEN or kind == "MPO"
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        link = f"is a link to {os.readlink(path)}, which does not exist" if path.is_symlink() else "is no longer there"
        sources.append(Source(path, name, link))
    except OSError as error:
        sources.append(Source(path, name, f"cannot be opened ({error.strerror})"))
    else:
        if stat.S_ISREG(mode) and known:
            sources.append(Source(path, name))
        elif stat.S_ISREG(mode) and suffix in _UNREAD_SUFFIXES:
            sources.append(Source(path, name, f"is of a format ({suffix}) that is not read; convert it to JPEG or MP4"))
        elif not path.name.startswith("."):
            left_out.append(path)


def _checked(path: str, sources: list[Source], left_out: list[Path]) -> list[Source]:
    """The sources in order, if any can be read; a warning names what is left out."""
    if all(source.problem for source in sources):
        there = sorted([*left_out, *(source.path for source in sources)])
        others = f" What is there: {few(there)}." if there else ""
        brackets = " In a pattern [abc] is one of these characters, and [[] a bracket." if "[" in path else ""
        raise ValueError(
            f"there is no picture and no video in {path}; known suffixes: .jpg, .png, .tif, .webp, "
            f"{', '.join(sorted(VIDEO_SUFFIXES))} and others that Pillow reads.{others}{brackets}"
        )
    if left_out:
        logger.warning("%s: left out, as no pictures or videos: %s", path, few(sorted(left_out)))
    return sorted(sources, key=lambda source: source.path)


def _places(name: str, is_video: bool) -> tuple[set[str], set[str]]:
    """What a source's results are called, which nothing else may be, and the folders they are in, which may be shared.

    Case does not count, nor how accents are encoded, since some file systems take such names for one.
    """
    folded = unicodedata.normalize("NFC", name.casefold())
    own = {folded} if is_video else {f"{folded}.jpg", f"{folded}.png"}
    return own, {parent.as_posix() for parent in Path(folded).parents}
