"""The demo's page for models that take prompts. Needs Gradio."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from possam.demo.parts import ALONE, FORGET_AFTER, attempt, image_field, import_gradio, told_where
from possam.demo.prompts import MODES, Clicks, clear, click, find_everything, keep, rename, start
from possam.demo.typed import MAX_LETTERS
from possam.predict.predictor import Predictor

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
            words = gr.Textbox(
                label="Names to choose from",
                info="One a line or separated by commas, synonyms by |. Without any, those of the model's training. "
                "Other words give other names to the same masks.",
                placeholder="cat, sofa|couch, floor: stuff",
                lines=2,
                max_length=MAX_LETTERS,
                elem_id="names",
            )
            if examples:
                gr.Examples(examples, [image, words], label="Examples: click one")
        with gr.Column(scale=3, min_width=300):
            gr.Markdown(_HELP)
            mode = gr.Radio(list(MODES), value=next(iter(MODES)), label="A click is", elem_id="mode")
            shown = gr.Image(
                label="Click an object",
                format="png",
                interactive=False,
                height=520,
                buttons=["download", "fullscreen"],
                elem_id="prompted",
            )
            with gr.Row():
                buttons = [
                    gr.Button("Keep the mask", variant="primary", min_width=110, elem_id="keep"),
                    gr.Button("Clear clicks", min_width=110, elem_id="clear"),
                    gr.Button("Everything", min_width=110, elem_id="everything"),
                    gr.Button("Start over", min_width=110, elem_id="restart"),
                ]
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
    for button, act in zip(buttons, (page.keep, page.clear, page.everything, page.restart), strict=True):
        button.click(act, given, results, **ALONE)


_NOTHING: tuple[Any, ...] = (None, None, [])


class _PromptPage:
    """Handlers of the page's events: the functions of `possam.demo.prompts`, with errors as messages on the page."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def start(self, picture: str | None) -> tuple[Any, ...]:
        gr = import_gradio()
        if picture is None:
            return _NOTHING
        parts = attempt(lambda: _parts(start(self._predictor, picture)), len(_NOTHING), picture)
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

    def everything(self, clicks: Clicks | None, words: str) -> tuple[Any, ...]:
        return _shown(lambda: find_everything(self._predictor, clicks, words))

    def restart(self, clicks: Clicks | None, words: str) -> tuple[Any, ...]:
        return _shown(lambda: clicks and Clicks(image=clicks.image))


def _shown(act: Callable[[], Clicks | None], before: Clicks | None = None) -> tuple[Any, ...]:
    """Parts of the page after an action; unchanged where the clicks have not changed."""

    def parts() -> tuple[Any, ...]:
        clicks = act()
        return (import_gradio().skip(),) * len(_NOTHING) if clicks is before else _parts(clicks)

    return attempt(parts, len(_NOTHING))


def _parts(clicks: Clicks | None) -> tuple[Any, ...]:
    return _NOTHING if clicks is None else (clicks, clicks.picture, clicks.rows)
