"""The demo's page for whole images: segment with words, and explain a segment.

The pages call plain functions: `possam.demo.segmenting` and `possam.demo.refining` for whole pictures,
`possam.demo.prompts` for models that take prompts. Gradio is imported only where a page is built.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from possam.classifiers import ENSEMBLE_REGISTRY
from possam.data.miniature import lexicon
from possam.demo.parts import (
    ALONE,
    DELETE_FILES,
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
from possam.demo.prompt_page import add_prompt_page
from possam.demo.prompts import MODES
from possam.demo.refining import CHOOSE, refine, restore
from possam.demo.segmenting import (
    HEADINGS,
    Shown,
    choose,
    describe_segment,
    knows_little,
    path_in_words,
    segment,
    segment_of_click,
)
from possam.demo.typed import read_tree_file
from possam.models.prediction import no_prompts
from possam.predict.missing import tell_missing
from possam.predict.predictor import Predictor
from possam.shipped import SAMPLE, SAMPLE_WORDS
from possam.visualize import draw_explanation

if TYPE_CHECKING:
    import gradio

__all__ = ["build_app", "check_refining", "launch"]

_LARGEST_FILE = "64mb"
_PARTS = 7  # of the page that an event changes: the state, the picture, the list, and four of the explanation
_FORGOTTEN = "This picture has been forgotten; press the button again."
_SECOND_WORDS = "heart, flower, gear, frost: stuff, pebbles: stuff, mosaic: stuff"
_SAMPLE_TREE = (
    '{"thing": {"heart": ["striped heart", "plain heart"], "flower": ["striped flower", "plain flower"], '
    '"gear": ["checkered gear", "plain gear"]}, "snow: stuff": {}, "gravel: stuff": {}, "tile: stuff": {}}'
)
# A small picture fills its field; on a phone the panel is pushed sideways, as its letters would be too small.
_CSS = """\
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


def build_app(
    predictor: Predictor, *, name: str = "", prompter: Predictor | None = None, prompter_name: str = ""
) -> gradio.Blocks:
    """Build the page for `launch`.

    Args:
        predictor: answers one visitor at a time; the others wait.
        name: of the model, for the page's head.
        prompter: a model that takes prompts, by which the segments of `predictor` are refined; it needs one that takes
            none. prompter_name: as `name`.

    Raises:
        ValueError: Gradio is not installed, or the models are not such.
    """
    gr = import_gradio()
    if prompter is not None:
        check_refining(predictor, prompter)
    name = f"`{name or type(predictor.model).__name__}`"
    if prompter is not None:
        name += f", refined by `{prompter_name or type(prompter.model).__name__}`"
    with gr.Blocks(title="possam", analytics_enabled=False, delete_cache=DELETE_FILES) as app:
        if predictor.model.takes_prompts:
            gr.Markdown(f"# Any object, any words\nGive a picture, and click what you want the name of. Model: {name}.")
            add_prompt_page(predictor, [[str(SAMPLE), SAMPLE_WORDS]] if knows_little(predictor) else [])
        else:
            gr.Markdown(f"# Any words, one picture\nGive a picture, and say what to look for. Model: {name}.")
            _add_page(gr, predictor, prompter)
        if knows_little(predictor):
            with gr.Accordion("What this model knows", open=False):
                gr.Markdown(_mini_note())
    return app


def check_refining(predictor: Predictor, prompter: Predictor) -> None:
    """Raise ValueError where the segments of one model cannot be refined by prompts of the other."""
    if predictor.model.takes_prompts:
        raise ValueError(
            f"{type(predictor.model).__name__} makes masks of prompts itself, so no other model can refine its "
            "segments; leave out the model for prompts, or give a model that segments whole pictures with it."
        )
    if not prompter.model.takes_prompts:
        raise ValueError(no_prompts(prompter.model))


def _add_page(gr: Any, predictor: Predictor, prompter: Predictor | None) -> None:
    """Add the page for whole images."""
    page = _Page(predictor, prompter)
    shown = gr.State(time_to_live=FORGET_AFTER)
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            image, words, load, ensemble, stop_below, threshold, button = _inputs(gr, predictor)
            if knows_little(predictor):
                examples = [[str(SAMPLE), each] for each in (SAMPLE_WORDS, _SECOND_WORDS, _SAMPLE_TREE)]
                gr.Examples(examples, [image, words], label="Examples: click one")
        with gr.Column(scale=3, min_width=300):
            mode, rename, back = _refinement(gr) if prompter else (gr.State(CHOOSE), gr.State(False), None)
            overlay, note, table = _outputs(gr)
    panel = gr.Image(show_label=False, format="png", interactive=False, visible=False, buttons=[], elem_id="panel")
    with gr.Accordion("The same as numbers", open=False, visible=False, elem_id="numbers") as numbers:
        details = gr.JSON(show_label=False)
    explained = [note, panel, numbers, details]
    given, results = [image, words, ensemble, stop_below, threshold], [shown, overlay, table, *explained]
    load.upload(page.load_tree, [load], [words], api_visibility="private")
    gr.on([button.click, words.submit], page.segment, given, results, **ALONE)
    overlay.select(told_where(page.click), [shown, mode, rename], results, **ALONE)
    table.select(told_where(page.choose_row), [shown, mode, rename], results, **ALONE)
    if back is not None:
        back.click(page.restore, [shown], results, **ALONE)


def _inputs(gr: Any, predictor: Predictor) -> tuple[Any, ...]:
    image, model = image_field(), predictor.model
    words = words_field(
        "What to look for",
        "Separated by commas or lines, synonyms by |. “lawn: stuff” says that something is not counted. The name of a "
        "list will do, too, such as ade20k_150, and a tree of names in JSON, by which segments are named level by "
        "level.",
        "words",
    )
    with gr.Accordion("Tree of names, and how names are decided", open=False, elem_id="options"):
        load = gr.UploadButton("Load a tree of names (.json)", file_types=[".json"], size="sm", elem_id="tree")
        stop_below = gr.Slider(
            0,
            1,
            value=0,
            step=0.05,
            label="Least probability of a level",
            info="Of a tree: a segment is named no deeper than this is reached.",
            elem_id="stop_below",
        )
        names = list(ENSEMBLE_REGISTRY)
        label = "Ensemble of trained classifier and CLIP"
        chosen = gr.Dropdown(names, value=model.ensemble, label=label, elem_id="ensemble")
    least = model.postprocessor.object_threshold
    threshold = gr.Slider(0, 1, value=least, step=0.01, label="Score above which a mask is kept", elem_id="threshold")
    button = gr.Button("Segment", variant="primary", elem_id="segment")
    return image, words, load, chosen, stop_below, threshold, button


def _refinement(gr: Any) -> tuple[Any, ...]:
    mode = gr.Radio(
        [CHOOSE, *MODES],
        value=CHOOSE,
        label="What a click does",
        info="Choose a segment; then click on the object where the mask misses a part, outside it where the mask has "
        "too much, or draw a box around the object.",
        elem_id="mode",
    )
    with gr.Row():
        rename = gr.Checkbox(label="Rename by the prompt model", elem_id="rename", min_width=200)
        back = gr.Button("Undo this segment's clicks", size="sm", min_width=200, elem_id="undo")
    return mode, rename, back


def _outputs(gr: Any) -> tuple[Any, ...]:
    overlay = result_field("Segments: click one to see why it got its name", "overlay")
    note = gr.Markdown(elem_id="note")
    table = gr.Dataframe(
        headers=list(HEADINGS),
        datatype=["number", *["str"] * (len(HEADINGS) - 1)],
        label="List of segments",
        interactive=False,
        max_height=300,
        buttons=[],
        elem_id="segments",
    )
    return overlay, note, table


def launch(
    predictor: Predictor,
    *,
    name: str = "",
    prompter: Predictor | None = None,
    prompter_name: str = "",
    host: str = "127.0.0.1",
    port: int | None = None,
    share: bool = False,
    wait: bool = True,
) -> str:
    """Serve the page.

    Args:
        predictor, name, prompter, prompter_name: see `build_app`.
        host: address to listen at; "0.0.0.0" for all of the machine's.
        port: by default the first free one from 7860 on.
        share: also through a public address of Gradio's, for which Gradio downloads a program.
        wait: until Ctrl-C; otherwise the page is served by a thread of this process.

    Returns:
        The page's address on this machine.

    Raises:
        ValueError: as `build_app`.
        OSError: the port is taken, or the host is none of this machine's.
    """
    gr = import_gradio()
    fonts = ["system-ui", "sans-serif"]  # the theme's own would be fetched from the net
    app = build_app(predictor, name=name, prompter=prompter, prompter_name=prompter_name)
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
    """Handlers of the page's events: the plain functions, with errors as messages on the page."""

    def __init__(self, predictor: Predictor, prompter: Predictor | None = None) -> None:
        self._predictor, self._prompter = predictor, prompter

    def load_tree(self, path: str) -> Any:
        (text,) = attempt(lambda: (read_tree_file(path),), 1, path)
        return text

    def segment(
        self, image: str | None, words: str, ensemble: str, stop_below: float, threshold: float
    ) -> tuple[Any, ...]:
        gr = import_gradio()

        def parts() -> tuple[Any, ...]:
            options: dict[str, Any] = {"ensemble": ensemble, "stop_below": stop_below, "threshold": threshold}
            shown = segment(self._predictor, image, words, **options)
            for warning in shown.warnings:
                gr.Warning(warning, duration=MESSAGE_STAYS)
            note = "\n".join(f"- {line}" for line in tell_missing(shown.segmentation.missing))
            return *_drawn(shown), note, *_hidden()

        return attempt(parts, _PARTS, image)

    def click(self, shown: Shown | None, mode: str, rename: bool, event: gradio.SelectData) -> tuple[Any, ...]:
        if shown is None:
            return *_kept(), _FORGOTTEN, *_hidden()
        x, y = event.index
        prompter, before = self._prompter, shown
        if mode == CHOOSE or prompter is None:
            return _chosen(shown, segment_of_click(shown, x, y))

        def parts() -> tuple[Any, ...]:
            after = refine(prompter, before, x, y, mode, rename=rename)
            return *_drawn(after), _refined_in_words(after), *_hidden()

        return attempt(parts, _PARTS)

    def choose_row(self, shown: Shown | None, mode: str, rename: bool, event: gradio.SelectData) -> tuple[Any, ...]:
        if shown is None:
            return *_kept(), _FORGOTTEN, *_hidden()
        return _chosen(shown, int(event.row_value[0]))

    def restore(self, shown: Shown | None) -> tuple[Any, ...]:
        if shown is None:
            return *_kept(), _FORGOTTEN, *_hidden()
        shown = restore(shown)
        return *_drawn(shown), *(_explained(shown) if shown.chosen else ("", *_hidden()))


def _drawn(shown: Shown) -> tuple[Any, ...]:
    return shown, save_result(shown.picture, shown.segmentation.file_name), shown.rows


def _kept() -> tuple[Any, ...]:
    """The state, the picture and the list as they are."""
    return (import_gradio().skip(),) * 3


def _chosen(shown: Shown, segment_id: int) -> tuple[Any, ...]:
    after = choose(shown, segment_id)
    # The picture is sent again where clicks were drawn on it alone.
    same = after.picture is shown.picture
    drawn = (after, *_kept()[1:]) if same else _drawn(after)
    return *drawn, *(_explained(after) if segment_id else ("There is no segment here.", *_hidden()))


def _explained(shown: Shown) -> tuple[Any, ...]:
    """Note, panel, accordion and numbers that explain the name of the chosen segment."""
    gr = import_gradio()
    result, explanation = shown.segmentation, describe_segment(shown, shown.chosen)
    picture = draw_explanation(result.image, result.segmentation == shown.chosen, explanation)
    panel = gr.update(value=picture, visible=True, alt_text=explanation.reason)
    path = path_in_words(shown, shown.chosen)
    if path:
        path += " Without the tree’s levels, all its names are compared: "
    return f"{path}{explanation.reason} More below.", panel, gr.update(visible=True), explanation.to_dict()


def _refined_in_words(shown: Shown) -> str:
    (info,) = (info for info in shown.segmentation.segments_info if info["id"] == shown.chosen)
    if shown.clicks is None or shown.clicks.result is None:
        return f"**{info['label']}** is not changed yet: click the box's opposite corner, too."
    names = ", ".join(f"{name} ({probability:.2f})" for name, probability in shown.clicks.result.names[0])
    return f"**{info['label']}** has a new mask. The prompt model names it: {names}."


def _hidden() -> tuple[Any, ...]:
    """The panel and the numbers of an explanation, put away."""
    gr = import_gradio()
    return gr.update(value=None, visible=False), gr.update(visible=False), None


def _mini_note() -> str:
    kinds = {"attributes": lexicon.ATTRIBUTES, "shapes": lexicon.SHAPES, "textures": lexicon.TEXTURES}
    return _MINI_NOTE.format(**{key: ", ".join("|".join(names) for names in kinds[key].values()) for key in kinds})
