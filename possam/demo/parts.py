"""Parts that both pages of the demo share: Gradio, input fields, and event handlers that report errors."""

from __future__ import annotations

import atexit
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from possam.demo.typed import MAX_LETTERS

__all__ = [
    "ALONE",
    "DELETE_FILES",
    "FORGET_AFTER",
    "MESSAGE_STAYS",
    "attempt",
    "image_field",
    "import_gradio",
    "result_field",
    "save_result",
    "told_where",
    "words_field",
]

FORGET_AFTER = 1800
"""Seconds after which what a visitor has given is dropped: up to 65 MB each."""
DELETE_FILES = (300, FORGET_AFTER)
"""Every how many seconds Gradio deletes files of visitors, and how old these are then; at its end all of them."""
_OWN = f"{uuid.uuid4().hex}-"  # begins the folders of this process's results
ALONE: dict[str, Any] = {
    "concurrency_limit": 1,
    "concurrency_id": "model",
    "trigger_mode": "always_last",
    "api_visibility": "private",
}
"""Options of events that use the model: one at a time, since the device's memory may not suffice for two. Who clicks
again before the answer is there wants the later one."""
MESSAGE_STAYS = 6
"""Seconds, as a message hides a part of the page."""


def import_gradio() -> Any:
    """The module gradio.

    Raises:
        ValueError: it is not installed.
    """
    try:
        import gradio
    except ImportError as error:
        raise ValueError(f"the demo needs Gradio ({error}); run: pip install 'possam[demo]'") from error
    return gradio


def image_field() -> Any:
    """The field in which a picture is given, whose value is the file's path."""
    image = import_gradio().Image(type="filepath", image_mode=None, label="Picture", height=300, elem_id="image")
    # The file as it came, for this project's own reader, which says what is wrong with one.
    setattr(image, "preprocess", _path_of)  # noqa: B010
    return image


def result_field(label: str, elem_id: str) -> Any:
    """The field of a result, whose value is a path of `save_result`."""
    return import_gradio().Image(
        label=label,
        type="filepath",
        interactive=False,
        height=520,
        buttons=["download", "fullscreen"],
        elem_id=elem_id,
    )


def save_result(picture: NDArray[np.uint8], file_name: str) -> str:
    """Save a result under the name that a download of it has: photo-segments.png of photo.jpg.

    Earlier results are deleted when they are forgotten, and those of this process at its end: Gradio, which deletes the
    other files of visitors, does not know of those that follow an update of their field.

    Args:
        picture: h×w×3 uint8 RGB.
        file_name: of the photo, or "".

    Returns:
        The path, in a folder that the server gives to visitors.
    """
    from gradio.utils import get_upload_folder

    results = Path(get_upload_folder()) / "possam"
    results.mkdir(parents=True, exist_ok=True)
    _delete_at_exit(results)
    for folder in results.iterdir():
        with suppress(FileNotFoundError):  # another server's thread may delete it, too
            if time.time() - folder.stat().st_mtime > FORGET_AFTER:
                shutil.rmtree(folder, ignore_errors=True)
    path = Path(tempfile.mkdtemp(prefix=_OWN, dir=results)) / f"{Path(file_name).stem or 'picture'}-segments.png"
    Image.fromarray(picture).save(path)
    return str(path)


@cache
def _delete_at_exit(results: Path) -> None:
    """Let the end of this process delete its results in the folder; others' stay."""

    def delete() -> None:
        for folder in results.glob(f"{_OWN}*"):
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(delete)


def words_field(label: str, info: str, elem_id: str) -> Any:
    """The field for words: Enter submits, Shift and Enter start a line."""
    return import_gradio().Textbox(
        label=label,
        info=info,
        placeholder="cat, sofa|couch, floor: stuff",
        lines=1,  # with more, Enter would start a line
        max_lines=8,
        max_length=MAX_LETTERS,
        elem_id=elem_id,
    )


def attempt(act: Callable[[], tuple[Any, ...]], count: int, path: str | None = "") -> tuple[Any, ...]:
    """Return what `act` returns for `count` parts of the page; an error is shown, and leaves them as they are.

    Gradio's own errors would hide the picture, until each part's message is closed.

    Args:
        path: where the server keeps a visitor's file, which the message does not tell.
    """
    gr = import_gradio()
    try:
        return act()
    except (ValueError, OSError) as error:
        message = str(error).replace(path, Path(path).name) if path else str(error)
        gr.Warning(message, duration=MESSAGE_STAYS, title="Not possible")
        return (gr.skip(),) * count


def told_where(function: Callable[..., Any]) -> Callable[..., Any]:
    """A handler of three inputs and the place of a click.

    Gradio gives the place where a parameter's type asks for it, and the module is not here when this file is read.
    """

    def handler(state: Any, first: Any, second: Any, event: Any) -> Any:
        return function(state, first, second, event)

    handler.__annotations__["event"] = import_gradio().SelectData
    return handler


def _path_of(payload: Any) -> str | None:
    return payload.path if payload else None
