"""Trained models that come with the package, each a folder that `from_pretrained` reads."""

from __future__ import annotations

from pathlib import Path

from possam.utils.messages import did_you_mean

__all__ = ["SAMPLE", "SAMPLE_WORDS", "pretrained_folder", "shipped_names"]

_HERE = Path(__file__).parent
SAMPLE = _HERE / "sample.png"
"""A drawn scene, all of whose classes are new to the shipped model: its training showed none of them."""
SAMPLE_WORDS = (
    "striped heart, striped flower, checkered gear, plain ring, "
    "snow: stuff, gravel: stuff, tile: stuff, water: stuff"
)


def shipped_names() -> list[str]:
    return sorted(path.parent.name for path in _HERE.glob("*/config.yaml"))


def pretrained_folder(source: str | Path) -> str | Path:
    """The folder of a shipped model's name; whatever else, a folder, a file or a repository "owner/name", as it is.

    Raises:
        FileNotFoundError: a plain name that is neither shipped nor a folder or file.
    """
    names = shipped_names()
    if source in names:
        return _HERE / source
    if isinstance(source, str) and "/" not in source and not (source and Path(source).expanduser().exists()):
        raise FileNotFoundError(
            f"there is no model {source!r}: the package has {', '.join(names) or 'none'}, and there is no such folder "
            f"or file.{did_you_mean(source, names)} Give the folder of a trained model (`possam share` "
            "makes one), the file of a published one (`possam weights list`), or a repository owner/name of the "
            "Hugging Face hub."
        )
    return source
