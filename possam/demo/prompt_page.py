"""The demo's page for models that take prompts. Needs Gradio."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from possam.demo.parts import (
    ALONE,
    FORGET_AFTER,
    MESSAGE_STAYS,
    attempt,
    image_field,
    import_gradio,
    result_field,
    save_result,
    told_where,
    words_field,
)
from possam.demo.prompts import MODES, Clicks, clear, click, find_everything, keep, rename, start
from possam.predict.limits import doubt
from possam.predict.predictor import Predictor
from possam.predict.prompting import EverythingOptions

if TYPE_CHECKING:
    import gradio

__all__ = ["add_prompt_page"]

_HEADINGS = ("#", "IoU", "names and their probabilities")
_HELP = """\
Click an object to see its mask and its names. Click **outside it** where the mask shows too much, or draw a **box** by
two opposite corners. **Keep** the mask to go on with another object."""


def add_prompt_page(predictor: Predictor, examples: list[list[str]]) -> None:
    """Add the page's parts to the `gradio.Blocks` that is being built.

    Args:
        examples: pictures' paths with words.
    """
    gr, page = import_gradio(), _PromptPage(predictor)
    clicks = gr.State(time_to_live=FORGET_AFTER)
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            image = image_field()
            words = words_field(
                "Names to choose from",
                "Separated by commas or lines, synonyms by |. Without any, those of the model's training. Other words "
                "give other names to the same masks.",
                "names",
            )
            if examples:
                gr.Examples(examples, [image, words], label="Examples: click one")
        with gr.Column(scale=3, min_width=300):
            gr.Markdown(_HELP)
            mode = gr.Radio(list(MODES), value=next(iter(MODES)), label="A click is", elem_id="mode")
            shown = result_field("Click an object", "prompted")
            with gr.Row():
                buttons = [
                    gr.Button("Keep the mask", variant="primary", min_width=110, elem_id="keep"),
                    gr.Button("Clear clicks", min_width=110, elem_id="clear"),
                    gr.Button("Everything", min_width=110, elem_id="everything"),
                    gr.Button("Start over", min_width=110, elem_id="restart"),
                ]
            with gr.Accordion("Which masks “Everything” keeps", open=False, elem_id="kept"):
                least = EverythingOptions()
                iou = gr.Slider(0, 1, value=least.iou_threshold, step=0.01, label="Least predicted IoU", elem_id="iou")
                stability = gr.Slider(
                    0, 1, value=least.stability_threshold, step=0.01, label="Least stability", elem_id="stability"
                )
            table = gr.Dataframe(
                headers=list(_HEADINGS),
                label="Masks and their names",
                interactive=False,
                wrap=True,
                column_widths=["12%", "20%", "68%"],
                buttons=[],
                elem_id="masks",
            )
    given, results = [clicks, words], [clicks, shown, table]
    image.change(page.start, [image], results, **ALONE)
    gr.on([words.submit, words.blur], page.rename, given, results, **ALONE)
    shown.select(told_where(page.click), [clicks, mode, words], results, **ALONE)
    keep_, clear_, everything, restart = buttons
    for button, act in ((keep_, page.keep), (clear_, page.clear), (restart, page.restart)):
        button.click(act, given, results, **ALONE)
    everything.click(page.everything, [*given, iou, stability], results, **ALONE)


_NOTHING: tuple[Any, ...] = (None, None, [])


class _PromptPage:
    """Handlers of the page's events: the functions of `possam.demo.prompts`, with errors as messages on the page."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def start(self, picture: str | None) -> tuple[Any, ...]:
        gr = import_gradio()
        if picture is None:
            return _NOTHING

        def started() -> tuple[Any, ...]:
            clicks = start(self._predictor, picture)
            _warn(doubt(self._predictor.model, clicks.image.image))
            return _parts(clicks)

        parts = attempt(started, len(_NOTHING), picture)
        return _NOTHING if parts[0] == gr.skip() else parts  # rather than the picture before

    def click(self, clicks: Clicks | None, mode: str, words: str, event: gradio.SelectData) -> tuple[Any, ...]:
        x, y = event.index
        return _shown(lambda: click(self._predictor, clicks, x, y, mode, words))

    def rename(self, clicks: Clicks | None, words: str) -> tuple[Any, ...]:
        return _shown(lambda: rename(self._predictor, clicks, words), clicks)

    def keep(self, clicks: Clicks | None, words: str) -> tuple[Any, ...]:
        return _shown(lambda: keep(clicks))

    def clear(self, clicks: Clicks | None, words: str) -> tuple[Any, ...]:
        return _shown(lambda: clear(clicks))

    def everything(self, clicks: Clicks | None, words: str, iou: float, stability: float) -> tuple[Any, ...]:
        def found() -> Clicks:
            options = EverythingOptions(iou_threshold=iou, stability_threshold=stability)
            after = find_everything(self._predictor, clicks, words, options)
            _warn(after.kept.nothing if after.kept is not None else "")
            return after

        return _shown(found)

    def restart(self, clicks: Clicks | None, words: str) -> tuple[Any, ...]:
        return _shown(lambda: clicks and Clicks(image=clicks.image))


def _warn(sentence: str) -> None:
    if sentence:
        import_gradio().Warning(sentence, duration=MESSAGE_STAYS)


def _shown(act: Callable[[], Clicks | None], before: Clicks | None = None) -> tuple[Any, ...]:
    """Parts of the page after an action; unchanged where the clicks have not changed."""

    def parts() -> tuple[Any, ...]:
        clicks = act()
        return (import_gradio().skip(),) * len(_NOTHING) if clicks is before else _parts(clicks)

    return attempt(parts, len(_NOTHING))


def _parts(clicks: Clicks | None) -> tuple[Any, ...]:
    if clicks is None:
        return _NOTHING
    return clicks, save_result(clicks.picture, clicks.image.file_name), clicks.rows
