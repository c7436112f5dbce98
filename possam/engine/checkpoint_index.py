"""What the checkpoints of a folder must be: size and sha256 of each, and when it was saved."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from possam.utils.files import file_sha256, read_json, write_json

__all__ = ["MANIFEST", "CheckpointIndex"]

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"


class CheckpointIndex:
    """The file `manifest.json` of a folder: {"model_final.pth": {"bytes", "sha256", "saved" (Unix time)}}.

    Files that it does not list are nobody's promise: they may be whole or not.
    """

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder) / MANIFEST

    def entries(self) -> dict[str, dict[str, Any]]:
        """The entries by file name, oldest first; none where there is no file, or, with a warning, no readable one."""
        try:
            content = read_json(self.path)
        except FileNotFoundError:
            return {}
        except ValueError as error:
            logger.warning("%s Checkpoints of this folder are checked by reading them instead.", error)
            return {}
        whole = {name: entry for name, entry in content.items() if _is_entry(entry)}
        return dict(sorted(whole.items(), key=lambda item: float(item[1]["saved"])))

    def add(self, name: str, *, size: int, sha256: str) -> None:
        """List a file that is in the folder now."""
        entries = self.entries()
        # The order of saving, also where this machine's clock is behind that of the machine before.
        saved = max([time.time(), *(entry["saved"] + 1e-3 for entry in entries.values())])
        entries.pop(name, None)
        write_json(self.path, {**entries, name: {"bytes": size, "sha256": sha256, "saved": saved}})

    def forget(self, *names: str) -> None:
        """Take files out of the list, if they are in it."""
        entries = self.entries()
        if any(name in entries for name in names):
            write_json(self.path, {key: entry for key, entry in entries.items() if key not in names})

    def check(self, name: str) -> bool:
        """Whether a file of the folder is listed, and so, as nothing was raised, is what was saved.

        Raises:
            ValueError: it is listed, and has another size or sha256.
        """
        entry = self.entries().get(name)
        if entry is None:
            return False
        path = self.path.parent / name
        size = path.stat().st_size
        if size != entry["bytes"]:
            found = f"it has {size:,} bytes, but {MANIFEST} beside it says {entry['bytes']:,}"
        elif (sha256 := file_sha256(path)) != entry["sha256"]:
            found = f"its sha256 is {sha256[:12]}…, but {MANIFEST} beside it says {entry['sha256'][:12]}…"
        else:
            return True
        raise ValueError(
            f"{path} is damaged: {found}. Take another checkpoint; if you replaced the file yourself, delete its entry "
            f"from {MANIFEST}."
        )


def _is_entry(entry: Any) -> bool:
    kinds = {"bytes": int, "sha256": str, "saved": int | float}
    return isinstance(entry, dict) and all(isinstance(entry.get(key), kind) for key, kind in kinds.items())
