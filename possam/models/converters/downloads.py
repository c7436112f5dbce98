"""Fetching published checkpoints that lie in a repository of the Hugging Face hub."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from possam.encoders.downloads import NoConnection
from possam.encoders.published_files import PublishedFile
from possam.utils.output import guarded_output

__all__ = ["download_published"]


@guarded_output()
def download_published(file: PublishedFile, folder: str | Path) -> Path:
    """Fetch a published file into a folder, or leave it alone if there is one of its name; the hub's client checks what
    arrives, and goes on where an earlier transfer was cut.

    Args:
        file: one with a `repo`.
        folder: made if missing.

    Returns:
        path of the file.

    Raises:
        NoConnection: the hub cannot be reached or does not give it; says where it is and where to put it by hand.
    """
    from huggingface_hub import hf_hub_download

    target = Path(folder) / file.filename
    if target.is_file():
        return target
    staging = target.with_name(f".{file.filename}.part")
    staging.mkdir(parents=True, exist_ok=True)
    try:
        fetched = hf_hub_download(file.repo, file.filename, local_dir=staging)
    except Exception as error:  # its kinds differ between versions of huggingface_hub and of what that stands on
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise NoConnection(
            f"cannot fetch {file.name} from {file.url} ({reason}). On a machine with a connection, run `possam weights "
            f"download {file.name}` or fetch {file.filename} there, and put the file at {target}."
        ) from error
    os.replace(fetched, target)
    shutil.rmtree(staging)
    return target
