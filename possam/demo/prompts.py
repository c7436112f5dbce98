"""The demo's page for models that take prompts: click an object or draw a box around it, and read its names.

As in `possam.demo.page`, what the page does is in plain functions; Gradio is imported where the page is built alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from possam.data.pictures import Picture
from possam.predict.predictor import Predictor
from possam.predict.prompted_result import PromptedResult, draw_prompt
from possam.predict.prompting import EncodedImage, EverythingOptions, parse_prompts
from possam.visualize.sizes import enlarge_image, enlargement

if TYPE_CHECKING:
    import gradio

__all__ = ["MODES", "Clicks", "add_prompt_page", "clear", "click", "find_everything", "start"]

MODES = {"on the object": 1, "outside it": 0, "two corners of a box": None}
"""What a click means, and the label of the point that it adds."""
_SIDE = 1280  # a page shows no more pixels; a larger picture is drawn in this size
_NO_PICTURE = "There is no picture: drop one into the field."
_HEADINGS = ["mask", "IoU", "names"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Clicks:
    """A picture and what was clicked on it.

    Attributes:
        image: the picture, encoded once for all clicks.
        points, labels: x and y in pixels of the picture, and 1 (on the object) or 0 (outside it).
        corner: the first corner of a box that waits for its second.
        box: x0, y0, x1, y1 in pixels.
        result: the mask that was asked for; None before the first point on the object or box.
    """

    image: EncodedImage
    points: tuple[tuple[float, float], ...] = ()
    labels: tuple[int, ...] = ()
    corner: tuple[float, float] | None = None
    box: tuple[float, float, float, float] | None = None
    result: PromptedResult | None = None

    @property
    def picture(self) -> NDArray[np.uint8]:
        """h×w×3 uint8 RGB as the page shows it: masks, names and clicks over the picture; h×w is `shown_size`."""
        if self.result is not None:
            drawn = np.array(self.result.plot())
        else:
            drawn = enlarge_image(self.image.image, enlargement(self.image.image)).copy()
            points = [(*point, label) for point, label in zip(self.points, self.labels, strict=True)]
            draw_prompt(drawn, points, None, drawn.shape[1] / self.image.size[1])
        if drawn.shape[:2] != self.shown_size:
            drawn = cv2.resize(drawn, self.shown_size[::-1], interpolation=cv2.INTER_AREA)
        if self.corner is not None:
            scale = drawn.shape[1] / self.image.size[1]
            center = (round(scale * (self.corner[0] + 0.5)), round(scale * (self.corner[1] + 0.5)))
            cv2.drawMarker(drawn, center, (255, 200, 40), cv2.MARKER_CROSS, 20, 2, cv2.LINE_AA)
        return drawn

    @property
    def shown_size(self) -> tuple[int, int]:
        """(height, width) of the picture on the page: small ones are enlarged, large ones have at most 1280 pixels."""
        height, width = (enlargement(self.image.image) * side for side in self.image.size)
        shrink = min(1.0, _SIDE / max(height, width))
        return max(1, round(shrink * height)), max(1, round(shrink * width))

    @property
    def rows(self) -> list[list[str]]:
        """The list beside the picture, a row a mask: its number, its predicted IoU, its names with probabilities."""
        if self.result is None:
            return []
        return [
            [str(place), f"{iou:.2f}", ", ".join(f"{name} ({probability:.2f})" for name, probability in names)]
            for place, (iou, names) in enumerate(zip(self.result.iou.tolist(), self.result.names, strict=True), start=1)
        ]


def start(predictor: Predictor, picture: Picture | None) -> Clicks:
    """Encode a picture.

    Raises:
        FileNotFoundError, ValueError: no picture, or one that cannot be read; or the model takes no prompts.
    """
    if picture is None:
        raise ValueError(_NO_PICTURE)
    return Clicks(image=predictor.encode(picture))


def click(predictor: Predictor, clicks: Clicks | None, x: int, y: int, mode: str, words: str) -> Clicks:
    """Add a click, and segment what all clicks so far ask for.

    Of a box the first click is a corner and the second the opposite one, in any order; a third starts a new box. A
    click outside the object alone asks for nothing yet.

    Args:
        x, y: pixel of the picture that the page shows.
        mode: a key of `MODES`.
        words: as `possam.demo.page.read_typed`; "" for the classes of the model's training.

    Raises:
        ValueError: no picture, an unknown mode, a place outside the picture, or words that cannot be used.
    """
    if clicks is None:
        raise ValueError(_NO_PICTURE)
    if mode not in MODES:
        raise ValueError(f"a click is {mode!r}, but must be one of: {', '.join(MODES)}.")
    height, width = clicks.shown_size
    if not (0 <= x < width and 0 <= y < height):
        raise ValueError(f"({x}, {y}) is outside the picture of {width}×{height} pixels.")
    scale = clicks.image.size[1] / width
    place = max(0.0, (x + 0.5) * scale - 0.5), max(0.0, (y + 0.5) * clicks.image.size[0] / height - 0.5)
    label = MODES[mode]
    if label is not None:
        points, labels = (*clicks.points, place), (*clicks.labels, label)
        return _segment(predictor, replace(clicks, points=points, labels=labels, corner=None), words)
    corner = clicks.corner
    if corner is None:
        return _segment(predictor, replace(clicks, box=None, corner=place), words)
    x0, x1 = sorted((corner[0], place[0]))
    y0, y1 = sorted((corner[1], place[1]))
    return _segment(predictor, replace(clicks, box=(x0, y0, x1 + scale, y1 + scale), corner=None), words)


def clear(clicks: Clicks | None) -> Clicks | None:
    """The picture without clicks; it is not encoded again."""
    return None if clicks is None else Clicks(image=clicks.image)


def find_everything(
    predictor: Predictor, clicks: Clicks | None, words: str, options: EverythingOptions | None = None
) -> Clicks:
    """Segment everything in the picture, and forget the clicks. Raises ValueError as `click`."""
    if clicks is None:
        raise ValueError(_NO_PICTURE)
    vocabulary = _vocabulary(predictor, words)
    return Clicks(image=clicks.image, result=clicks.image.everything(vocabulary, options))


def _segment(predictor: Predictor, clicks: Clicks, words: str) -> Clicks:
    if clicks.box is None and 1 not in clicks.labels:
        return replace(clicks, result=None)
    height, width = clicks.image.size
    box = clicks.box and [*clicks.box[:2], min(clicks.box[2], width), min(clicks.box[3], height)]
    prompts = parse_prompts(clicks.points or None, clicks.labels or None, box)
    return replace(clicks, result=clicks.image.prompt(prompts, _vocabulary(predictor, words)))


def _vocabulary(predictor: Predictor, words: str) -> Any:
    from possam.demo.page import read_typed

    return predictor.check(read_typed(words) if words.strip() else predictor.model.train_vocabulary)


# ---------------------------------------------------------------- the page
def add_prompt_page(gr: Any, predictor: Predictor, image: Any, *, forget_after: int, alone: dict[str, Any]) -> None:
    """Add the page's parts to the `gradio.Blocks` that is being built.

    Args:
        gr: the module gradio.
        image: the field in which a picture is given, as a file's path.
        forget_after: seconds after which what a visitor has given is dropped.
        alone: options of events that use the model.
    """
    page = _PromptPage(predictor)
    clicks = gr.State(time_to_live=forget_after)
    with gr.Row():
        mode = gr.Radio(list(MODES), value=next(iter(MODES)), label="A click is", elem_id="mode")
        words = gr.Textbox(label="Names to choose from (default: those of the training)", lines=2, elem_id="names")
        clear_button, everything = gr.Button("Clear clicks"), gr.Button("Everything", variant="primary")
    shown = gr.Image(label="Click an object", format="png", interactive=False, height=520, elem_id="prompted")
    table = gr.Dataframe(headers=_HEADINGS, label="Masks and their names", interactive=False, elem_id="masks")
    results = [clicks, shown, table]
    image.change(page.start, [image], results, **alone)
    clear_button.click(page.clear, [clicks], results, **alone)
    everything.click(page.everything, [clicks, words], results, **alone)
    shown.select(_told_where(gr, page.click), [clicks, mode, words], results, **alone)


class _PromptPage:
    """What the page's events call: the functions above, with mistakes as messages on the page."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def start(self, picture: str | None) -> tuple[Any, ...]:
        return _shown(lambda: None if picture is None else start(self._predictor, picture), picture or "")

    def click(self, clicks: Clicks | None, mode: str, words: str, event: gradio.SelectData) -> tuple[Any, ...]:
        x, y = event.index
        return _shown(lambda: click(self._predictor, clicks, x, y, mode, words))

    def clear(self, clicks: Clicks | None) -> tuple[Any, ...]:
        return _shown(lambda: clear(clicks))

    def everything(self, clicks: Clicks | None, words: str) -> tuple[Any, ...]:
        return _shown(lambda: find_everything(self._predictor, clicks, words))


def _shown(act: Callable[[], Clicks | None], path: str = "") -> tuple[Any, ...]:
    """What the page shows after an act; where the server keeps a visitor's file, `path`, is not told."""
    import gradio

    try:
        clicks = act()
    except (ValueError, OSError) as error:
        message = str(error).replace(path, Path(path).name) if path else str(error)
        raise gradio.Error(message, print_exception=False) from error
    return (clicks, clicks.picture, clicks.rows) if clicks is not None else (None, None, [])


def _told_where(gr: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    """A handler that Gradio gives the place of a click, which it does where a parameter's type asks for it."""

    def handler(clicks: Clicks | None, mode: str, words: str, event: Any) -> Any:
        return function(clicks, mode, words, event)

    handler.__annotations__["event"] = gr.SelectData
    return handler
