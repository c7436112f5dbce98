"""The demo: a page on which a picture is given, words are typed, and a mask says why it got its name.

What the page does is in plain functions; `build_app` puts them behind Gradio, which is imported there alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from possam.classifiers import ENSEMBLE_REGISTRY
from possam.data.augmentations import ResizeLongestSide
from possam.data.miniature import lexicon
from possam.data.pictures import Picture, to_rgb
from possam.demo.prompts import add_prompt_page
from possam.models.explanation import MaskExplanation
from possam.predict.missing import tell_missing
from possam.predict.predictor import Predictor
from possam.predict.segmentation import Segmentation, enlarge
from possam.shipped import SAMPLE, SAMPLE_WORDS
from possam.visualize import draw_explanation, draw_panoptic
from possam.vocabulary import Vocabulary
from possam.vocabulary.words import read_line, split_words

if TYPE_CHECKING:
    import gradio

__all__ = ["Shown", "build_app", "describe_click", "describe_segment", "launch", "read_typed", "segment"]

_SIDE = 1280  # a page shows no more pixels; a larger picture is drawn in this size, not drawn and then shrunk
_HEADINGS = ("id", "name", "kind", "score", "IoU", "seen", "area")
_FORGET_AFTER = 1800  # seconds, after which what a visitor has segmented is dropped: up to 65 MB each
_MAX_NAMES = 5000  # of a visitor: a large CLIP reads them in minutes, while others wait
_LARGEST_FILE = "64mb"
_FORGOTTEN = "This picture has been forgotten; press the button again."
# One at a time, since the device's memory may not suffice for two. Who clicks again before the answer is there wants
# the later one.
_ALONE: dict[str, Any] = {
    "concurrency_limit": 1,
    "concurrency_id": "model",
    "trigger_mode": "always_last",
    "api_visibility": "private",
}
_SECOND_WORDS = "heart, flower, gear, frost: stuff, pebbles: stuff, mosaic: stuff"
# A small picture fills its field; on a phone the panel is pushed sideways, as its letters would be too small.
_CSS = """
#image img {width: 100%; height: 100%; object-fit: contain;}
#panel {overflow-x: auto;}
#panel button {justify-content: safe center;}
#panel img {min-width: 900px;}
"""
_MINI_NOTE = """\
This is the miniature model: it knows drawings like the example and the words below, and cannot read photos. For those
start the demo with `--model` and the folder of a trained model.

**An attribute and a shape**, such as “striped star” — {attributes}; {shapes}.

**A surface**, such as “lawn: stuff” — {textures}."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
    """A segmentation as the page has it.

    Attributes:
        segmentation: what the model said.
        picture: h×w×3 uint8 RGB, the segments over the image, of the image's proportions.
        rows: one a segment, largest first, with the values of the list's columns.
        warnings: sentences for the visitor.
    """

    segmentation: Segmentation
    picture: NDArray[np.uint8]
    rows: list[list[Any]]
    warnings: tuple[str, ...] = ()


def read_typed(text: str) -> Vocabulary:
    """Make a vocabulary of what is typed into the page, as `possam.vocabulary.words.read_line` takes it.

    No file is opened or looked for: who types here need not be who owns the machine.

    Raises:
        ValueError: there is no word, one of them cannot be used, or there are more than 5,000.
    """
    if not split_words(text):
        raise ValueError('There is no word to look for: type some, such as "cat, dog, grass".')
    vocabulary = read_line(text, files=False)
    if len(vocabulary.names) > _MAX_NAMES:
        raise ValueError(f"There are {len(vocabulary.names)} names, but this page takes at most {_MAX_NAMES}.")
    return vocabulary


def segment(
    predictor: Predictor,
    image: Picture | None,
    words: str,
    *,
    ensemble: str | None = None,
    threshold: float | None = None,
) -> Shown:
    """What happens when the button is pressed.

    Args:
        image: as `possam.data.pictures.to_rgb` takes it; None where none was given.
        words: see `read_typed`.
        ensemble, threshold: see `Predictor`.

    Raises:
        FileNotFoundError, ValueError: no image, one that cannot be read, or words that cannot be used.
    """
    if image is None:
        raise ValueError("There is no picture: drop one into the field, or click the example.")
    vocabulary = read_typed(words)
    result = predictor(to_rgb(image), vocabulary, ensemble=ensemble, threshold=threshold)
    warnings = _unknown_words(predictor, vocabulary)
    if not result.segments_info:
        warnings.append("Nothing was found that one of these words names.")
    return Shown(segmentation=result, picture=_draw(result), rows=_rows(result), warnings=tuple(warnings))


def describe_click(shown: Shown, x: int, y: int) -> MaskExplanation | None:
    """Why the segment under a pixel of `shown.picture` got its name; None where there is no segment.

    Raises:
        ValueError: the pixel is outside the picture.
    """
    height, width = shown.picture.shape[:2]
    if not (0 <= x < width and 0 <= y < height):
        raise ValueError(f"({x}, {y}) is outside the picture of {width}×{height} pixels.")
    ids = shown.segmentation.segmentation
    row, column = int((y + 0.5) * ids.shape[0] / height), int((x + 0.5) * ids.shape[1] / width)
    chosen = int(ids[row, column])
    return shown.segmentation.explain(chosen) if chosen else None


def describe_segment(shown: Shown, segment_id: int) -> MaskExplanation:
    """Why a segment of the list got its name.

    Raises:
        ValueError: there is no such segment.
    """
    return shown.segmentation.explain(segment_id)


def _unknown_words(predictor: Predictor, vocabulary: Vocabulary) -> list[str]:
    unknown = predictor.model.clip.unknown_words(vocabulary.names)
    if not unknown:
        return []
    return [f"The miniature model does not know {', '.join(map(repr, unknown))}; see “What this model knows”."]


def _draw(result: Segmentation) -> NDArray[np.uint8]:
    image, ids = result.image, result.segmentation
    if max(image.shape[:2]) > _SIDE:
        image = ResizeLongestSide(_SIDE).get_transform(image).apply_image(image)
        ids = enlarge(ids, image.shape[:2])
    infos = [{**info, "category_id": info["label_id"]} for info in result.segments_info]
    return draw_panoptic(image, ids, infos, result.vocabulary.display_names)


def _rows(result: Segmentation) -> list[list[Any]]:
    pixels = result.segmentation.size
    return [
        [
            info["id"],
            info["label"],
            "thing" if info["isthing"] else "stuff",
            f"{info['score']:.2f}",
            f"{info['iou']:.2f}",
            f"{info['seen_confidence']:.2f}",
            f"{100 * info['area'] / pixels:.1f} %",
        ]
        for info in sorted(result.segments_info, key=lambda info: -info["area"])
    ]


# ---------------------------------------------------------------- the page
def build_app(predictor: Predictor, *, name: str = "") -> gradio.Blocks:
    """The page, ready to `launch`.

    Args:
        predictor: answers one visitor at a time; the others wait.
        name: of the model, for the page's head.

    Raises:
        ValueError: Gradio is not installed.
    """
    gr = _import_gradio()
    if predictor.model.takes_prompts:
        return _prompt_app(gr, predictor, name)
    page = _Page(predictor)
    knows_little = not predictor.model.clip.reads_any_word
    with gr.Blocks(title="possam", analytics_enabled=False) as app:
        name = name or type(predictor.model).__name__
        gr.Markdown(f"# Any words, one picture\nGive a picture, and say what to look for. Model: `{name}`.")
        shown = gr.State(time_to_live=_FORGET_AFTER)
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                image, words, ensemble, threshold, button = _inputs(predictor)
                if knows_little:
                    examples = [[str(SAMPLE), SAMPLE_WORDS], [str(SAMPLE), _SECOND_WORDS]]
                    gr.Examples(examples, [image, words], label="Examples: click one")
            with gr.Column(scale=3, min_width=300):
                overlay, table = _outputs()
        note = gr.Markdown(elem_id="note")
        panel = gr.Image(show_label=False, format="png", interactive=False, visible=False, buttons=[], elem_id="panel")
        with gr.Accordion("The same as numbers", open=False, visible=False, elem_id="numbers") as numbers:
            details = gr.JSON(show_label=False)
        if knows_little:
            with gr.Accordion("What this model knows", open=False):
                gr.Markdown(_mini_note())
        explained = [note, panel, numbers, details]
        given, results = [image, words, ensemble, threshold], [shown, overlay, table, *explained]
        gr.on([button.click, words.submit], page.segment, given, results, **_ALONE)
        overlay.select(_told_where(page.explain_click), shown, explained, **_ALONE)
        table.select(_told_where(page.explain_row), shown, explained, **_ALONE)
    return app


def _prompt_app(gr: Any, predictor: Predictor, name: str) -> gradio.Blocks:
    with gr.Blocks(title="possam", analytics_enabled=False) as app:
        name = name or type(predictor.model).__name__
        gr.Markdown(f"# Click an object\nGive a picture, and click what you want the name of. Model: `{name}`.")
        add_prompt_page(gr, predictor, _image_field(gr), forget_after=_FORGET_AFTER, alone=_ALONE)
    return app


def _image_field(gr: Any) -> Any:
    image = gr.Image(type="filepath", image_mode=None, label="Picture", height=300, elem_id="image")
    # The file as it came, for this project's own reader, which says what is wrong with one.
    setattr(image, "preprocess", _path_of)  # noqa: B010
    return image


def _inputs(predictor: Predictor) -> tuple[Any, ...]:
    gr = _import_gradio()
    image = _image_field(gr)
    words = gr.Textbox(
        label="What to look for",
        info="One a line or separated by commas, synonyms by |. “lawn: stuff” says that something is not counted. "
        "The name of a list will do, too, such as ade20k_150.",
        placeholder="cat, sofa|couch, floor: stuff",
        lines=2,
        max_length=100_000,
        elem_id="words",
    )
    names = list(ENSEMBLE_REGISTRY)
    model, label = predictor.model, "Ensemble of trained classifier and CLIP"
    chosen = gr.Dropdown(names, value=model.ensemble, label=label, elem_id="ensemble")
    least = model.postprocessor.object_threshold
    threshold = gr.Slider(0, 1, value=least, step=0.01, label="Score above which a mask is kept", elem_id="threshold")
    return image, words, chosen, threshold, gr.Button("Segment", variant="primary", elem_id="segment")


def _outputs() -> tuple[Any, ...]:
    gr = _import_gradio()
    overlay = gr.Image(
        label="Segments: click one to see why it got its name",
        format="png",
        interactive=False,
        height=520,
        buttons=["download", "fullscreen"],
        elem_id="overlay",
    )
    table = gr.Dataframe(
        headers=list(_HEADINGS),
        datatype=["number", *["str"] * (len(_HEADINGS) - 1)],
        label="List of segments",
        interactive=False,
        max_height=300,
        buttons=[],
        elem_id="segments",
    )
    return overlay, table


def launch(
    predictor: Predictor,
    *,
    name: str = "",
    host: str = "127.0.0.1",
    port: int | None = None,
    share: bool = False,
    wait: bool = True,
) -> str:
    """Serve the page.

    Args:
        predictor, name: see `build_app`.
        host: address to listen at; "0.0.0.0" for all of the machine's.
        port: by default the first free one from 7860 on.
        share: also through a public address of Gradio's, for which Gradio downloads a program.
        wait: until Ctrl-C; otherwise the page is served by a thread of this process.

    Returns:
        The page's address on this machine.

    Raises:
        ValueError: Gradio is not installed.
        OSError: the port is taken, or the host is none of this machine's.
    """
    gr = _import_gradio()
    fonts = ["system-ui", "sans-serif"]  # the theme's own would be fetched from the net
    app = build_app(predictor, name=name)
    try:
        _, address, _ = app.launch(
            server_name=host,
            server_port=port,
            share=share,
            prevent_thread_lock=not wait,
            quiet=not wait,
            max_file_size=_LARGEST_FILE,
            footer_links=[],
            css=_CSS,
            theme=gr.themes.Default(font=fonts, font_mono=["ui-monospace", "monospace"]),
        )
    except OSError as error:
        where = f"{host}:{port}" if port else f"{host}, where all ports from 7860 on are taken"
        raise OSError(f"the page cannot be served at {where}; choose another port or host.") from error
    return address


class _Page:
    """What the page's events call: the functions above, with mistakes as messages on the page."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def segment(self, image: str | None, words: str, ensemble: str, threshold: float) -> tuple[Any, ...]:
        gr = _import_gradio()
        try:
            shown = segment(self._predictor, image, words, ensemble=ensemble, threshold=threshold)
        except (ValueError, OSError) as error:
            # Where the server keeps a visitor's file is nobody's business.
            message = str(error).replace(str(image), Path(image).name) if image else str(error)
            raise gr.Error(message, print_exception=False) from error
        for warning in shown.warnings:
            gr.Warning(warning)
        note = "\n".join(f"- {line}" for line in tell_missing(shown.segmentation.missing))
        return shown, shown.picture, shown.rows, note, *_hidden()

    def explain_click(self, shown: Shown | None, event: gradio.SelectData) -> tuple[Any, ...]:
        if shown is None:
            return _FORGOTTEN, *_hidden()
        x, y = event.index
        explanation = describe_click(shown, x, y)
        return _explained(shown, explanation) if explanation else ("There is no segment here.", *_hidden())

    def explain_row(self, shown: Shown | None, event: gradio.SelectData) -> tuple[Any, ...]:
        if shown is None:
            return _FORGOTTEN, *_hidden()
        return _explained(shown, describe_segment(shown, int(event.row_value[0])))


def _explained(shown: Shown, explanation: MaskExplanation) -> tuple[Any, ...]:
    gr = _import_gradio()
    result = shown.segmentation
    infos = {info["query"]: info["id"] for info in result.segments_info}
    mask = result.segmentation == infos[explanation.query]
    picture = draw_explanation(result.image, mask, explanation)
    panel = gr.update(value=picture, visible=True, alt_text=explanation.reason)
    return "", panel, gr.update(visible=True), explanation.to_dict()


def _hidden() -> tuple[Any, ...]:
    """The panel and the numbers of an explanation, put away."""
    gr = _import_gradio()
    return gr.update(value=None, visible=False), gr.update(visible=False), None


def _mini_note() -> str:
    kinds = {"attributes": lexicon.ATTRIBUTES, "shapes": lexicon.SHAPES, "textures": lexicon.TEXTURES}
    return _MINI_NOTE.format(**{key: ", ".join("|".join(names) for names in kinds[key].values()) for key in kinds})


def _path_of(payload: Any) -> str | None:
    return payload.path if payload else None


def _told_where(function: Callable[[Shown | None, Any], Any]) -> Callable[[Shown | None, Any], Any]:
    """A handler that Gradio gives the place of a click, which it does where a parameter's type asks for it."""

    def handler(shown: Shown | None, event: Any) -> Any:
        return function(shown, event)

    handler.__annotations__["event"] = _import_gradio().SelectData
    return handler


def _import_gradio() -> Any:
    try:
        import gradio
    except ImportError as error:
        raise ValueError(f"the demo needs Gradio ({error}); run: pip install 'possam[demo]'") from error
    return gradio
