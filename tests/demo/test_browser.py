"""The demo's pages in a headless browser: what a click there does, and that the page shows what the model says.

Skipped where Gradio, Playwright or a Chromium is not installed. Screenshots stay in the folder that POSSAM_SCREENSHOTS
names.
"""

import io
import os
import re
import shutil
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from possam.demo.page import launch
from possam.demo.prompts import MODES, clear, click, keep, rename, start
from possam.demo.refining import refine
from possam.demo.segmenting import choose, segment
from possam.engine import load_config, prepare_datasets
from possam.predict.predictor import Predictor
from possam.shipped import SAMPLE, SAMPLE_WORDS, shipped_names
from tests.prompted_models import TinyPrompted

gradio = pytest.importorskip("gradio", reason="Gradio is not installed")
playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
BROWSER = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
if not BROWSER:
    pytest.skip("no Chromium is installed; CHROMIUM may name its program", allow_module_level=True)

ON, OUTSIDE, BOX = MODES
OTHER_WORDS = "dotted heart, plain ring, frost: stuff"
TREE = '{"thing": {"heart": ["striped heart", "plain heart"], "flower": {}, "gear": {}}, "snow: stuff": {}}'


@pytest.fixture(scope="module")
def prompter(tmp_path_factory):
    """The shipped model for prompts; where there is none, an untrained one."""
    if "possam-mini-prompt" in shipped_names():
        return Predictor.from_pretrained("possam-mini-prompt", text_cache="")
    cfg = load_config("configs/mini/possam.yaml", ["MODEL.TEXT_CACHE", str(tmp_path_factory.mktemp("text"))])
    prepare_datasets(cfg)
    return Predictor(TinyPrompted.from_config(cfg))


@pytest.fixture(scope="module")
def chromium():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()
    gradio.close_all()


@contextmanager
def opened(chromium, ready, *arguments, **options):
    """A page of its own server; the network behind it is this machine alone."""
    address = launch(*arguments, **options, wait=False)
    page = chromium.new_page(viewport={"width": 1280, "height": 1000})
    page.asked = []
    page.on("request", lambda request: page.asked.append(request.url))
    page.goto(address)
    page.wait_for_selector(ready)
    yield page
    local = ("http://127.0.0.1", "http://localhost", "data:", "blob:")
    assert page.asked and not [url for url in page.asked if not url.startswith(local)]
    page.close()


@pytest.fixture(scope="module")
def page(chromium, predictor):
    with opened(chromium, "#segment", predictor, name="possam-mini") as page:
        yield page


@pytest.fixture(scope="module")
def refining_page(chromium, predictor, prompter):
    with opened(chromium, "#segment", predictor, name="possam-mini", prompter=prompter) as page:
        yield page


@pytest.fixture(scope="module")
def prompt_page(chromium, prompter):
    with opened(chromium, "#prompted", prompter, name="possam-mini-prompt") as page:
        yield page


def shoot(page, name):
    if folder := os.environ.get("POSSAM_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def say(page, words):
    page.locator("#words textarea").fill(words)
    page.click("#segment")


def toast(page, text):
    message = page.locator(".toast-body", has_text=text).first
    message.wait_for(timeout=20_000)
    while page.locator(".toast-close").count():  # messages hide what is below them; they may go by themselves meanwhile
        page.evaluate("document.querySelectorAll('.toast-close').forEach(button => button.click())")
        page.wait_for_timeout(300)


def click_at(page, element, x, y):
    """Click the pixel (x, y) of the picture as the server sent it, or what is next to it where it is shown smaller."""
    image = page.locator(f"{element} img")
    image.scroll_into_view_if_needed()
    left, top, scale = image.evaluate(
        """img => {
            const box = img.getBoundingClientRect();
            const scale = Math.min(box.width / img.naturalWidth, box.height / img.naturalHeight, 1);
            const [width, height] = [scale * img.naturalWidth, scale * img.naturalHeight];
            return [box.left + (box.width - width) / 2, box.top + (box.height - height) / 2, scale];
        }"""
    )
    page.mouse.click(round(left + x * scale), round(top + y * scale))
    return scale


def shows(page, element, picture):
    """Wait until the page shows exactly this picture."""
    for _ in range(80):
        image = page.locator(f"{element} img")
        if image.count():
            content = page.request.get(image.get_attribute("src")).body()
            if np.array_equal(np.asarray(Image.open(io.BytesIO(content)).convert("RGB")), picture):
                return
        page.wait_for_timeout(250)
    raise AssertionError(f"{element} does not show the picture that is expected")


def cells(page, element):
    """The texts of a list, row by row."""
    rows = []
    while page.locator(f"{element} [data-testid=cell-{len(rows)}-0]").count():
        row = [page.locator(f"{element} [data-testid=cell-{len(rows)}-{column}]") for column in range(3)]
        rows.append([cell.inner_text().strip() for cell in row])
    return rows


def test_from_the_example_to_the_reason_of_a_name(page, predictor, place_of):
    shoot(page, "whole_0_empty")
    say(page, "snow")
    toast(page, "There is no picture")
    page.locator("tr", has_text="striped heart").first.click()
    page.wait_for_selector("#image img")
    say(page, "")
    toast(page, "There is no word to look for")
    say(page, "dog")
    toast(page, "does not know 'dog'")
    page.locator("#words textarea").fill(SAMPLE_WORDS)
    page.locator("#words textarea").press("Enter")
    shown = segment(predictor, str(SAMPLE), SAMPLE_WORDS)
    shows(page, "#overlay", shown.picture)
    with page.expect_download() as download:
        page.locator("#overlay a[download]").click()
    assert download.value.suggested_filename == "sample-segments.png"
    shoot(page, "whole_1_segments")
    click_at(page, "#overlay", *place_of(shown, "striped heart"))
    page.locator("#panel img[alt*='striped heart']").wait_for(timeout=20_000)
    reason = shown.segmentation.explain(shown.rows[[row[1] for row in shown.rows].index("striped heart")][0]).reason
    assert page.locator("#note").inner_text() == f"{reason} More below."
    shoot(page, "whole_2_reason")
    row = [row[1] for row in shown.rows].index("snow")
    page.get_by_test_id(f"cell-{row}-1").click()
    page.locator("#panel img[alt*='snow']").wait_for(timeout=20_000)
    page.click("#numbers button")
    page.locator("#numbers", has_text="confidence").wait_for()
    page.click("#numbers button")


def test_a_tree_is_loaded_and_its_levels_are_shown(page, predictor, tmp_path, place_of):
    page.click("#options button")
    (tmp_path / "bad.json").write_text('{"thing": ["heart"], "shape": ["heart"]}')
    page.locator("#options input[type=file]").set_input_files(tmp_path / "bad.json")
    toast(page, "below two parents, 'thing' and 'shape'")
    (tmp_path / "tree.json").write_text(TREE)
    page.locator("#options input[type=file]").set_input_files(tmp_path / "tree.json")
    page.wait_for_function("text => document.querySelector('#words textarea').value == text", arg=TREE)
    page.click("#segment")
    shown = segment(predictor, str(SAMPLE), TREE)
    shows(page, "#overlay", shown.picture)
    click_at(page, "#overlay", *place_of(shown, "striped heart"))
    levels = re.compile(r"Level by level: thing \d\.\d\d → heart \d\.\d\d → striped heart")
    page.locator("#note", has_text=levels).wait_for(timeout=20_000)
    shoot(page, "whole_3_tree")
    page.locator("#stop_below input[type=number]").fill("1")
    page.click("#segment")
    sure = segment(predictor, str(SAMPLE), TREE, stop_below=1.0)
    shows(page, "#overlay", sure.picture)
    shoot(page, "whole_4_tree_sure")
    say(page, '{"thing": {"heart": ["striped heart"]')
    toast(page, "the tree is not valid JSON")


def test_a_file_that_is_no_picture_is_named_without_the_servers_paths(page, tmp_path):
    (tmp_path / "notes.png").write_text("no picture")
    page.reload()
    page.wait_for_selector("#segment")
    page.locator("#image input[type=file]").set_input_files(tmp_path / "notes.png")
    page.wait_for_selector("#image img")
    say(page, "snow")
    message = page.locator(".toast-body", has_text="notes.png cannot be read as an image").first
    message.wait_for(timeout=20_000)
    assert "/" not in message.inner_text()


def give(page, path):
    page.reload()
    page.wait_for_selector("#prompted")
    page.locator("#image input[type=file]").set_input_files(path)
    page.wait_for_selector("#prompted img")


def test_clicks_a_box_other_words_and_kept_masks(prompt_page, prompter):
    page = prompt_page
    shoot(page, "prompt_0_empty")
    give(page, SAMPLE)
    encodings = []
    encode = prompter.model.prepare_image
    prompter.model.prepare_image = lambda *arguments: encodings.append(1) or encode(*arguments)
    try:
        expected = start(prompter, str(SAMPLE))
        shows(page, "#prompted", expected.picture)
        encodings.clear()
        page.locator("#names textarea").fill(SAMPLE_WORDS)
        for number, (x, y, mode) in enumerate(((190, 190, ON), (330, 330, OUTSIDE))):
            page.locator("#mode").get_by_label(mode).click()
            click_at(page, "#prompted", x, y)
            expected = click(prompter, expected, x, y, mode, SAMPLE_WORDS)
            shows(page, "#prompted", expected.picture)
            shoot(page, f"prompt_{number + 1}_click")
        assert cells(page, "#masks") == expected.rows and expected.result is not None
        page.click("#keep")
        expected = keep(expected)
        shows(page, "#prompted", expected.picture)
        page.locator("#mode").get_by_label(BOX).click()
        for x, y in ((440, 460), (240, 170)):
            click_at(page, "#prompted", x, y)
            expected = click(prompter, expected, x, y, BOX, SAMPLE_WORDS)
            shows(page, "#prompted", expected.picture)
        shoot(page, "prompt_3_box")
        assert cells(page, "#masks") == expected.rows and len(expected.rows) == 2
        page.locator("#names textarea").fill(OTHER_WORDS)
        page.locator("#names textarea").blur()
        renamed = rename(prompter, expected, OTHER_WORDS)
        shows(page, "#prompted", renamed.picture)
        shoot(page, "prompt_4_words")
        assert cells(page, "#masks") == renamed.rows and np.array_equal(renamed.masks.masks, expected.masks.masks)
        assert not encodings
        page.click("#clear")
        shows(page, "#prompted", clear(renamed).picture)
        assert cells(page, "#masks") == renamed.rows[:1]
        page.click("#restart")
        shows(page, "#prompted", start(prompter, str(SAMPLE)).picture)
        page.click("#keep")
        toast(page, "There is no mask to keep")
    finally:
        prompter.model.prepare_image = encode


@pytest.mark.parametrize(("width", "size"), [(1280, (1500, 1000)), (420, (700, 1100)), (420, (90, 60))])
def test_a_click_is_the_place_in_the_picture_however_large_it_is_shown(prompt_page, prompter, tmp_path, width, size):
    page = prompt_page
    page.set_viewport_size({"width": width, "height": 900})
    picture = Image.open(SAMPLE).convert("RGB").resize(size)
    picture.save(tmp_path / "a.png")
    give(page, tmp_path / "a.png")
    expected = start(prompter, tmp_path / "a.png")
    shows(page, "#prompted", expected.picture)
    height, wide = expected.picture.shape[:2]
    scale = click_at(page, "#prompted", round(0.75 * wide), round(0.25 * height))
    page.locator("#masks [data-testid=cell-0-2]", has_text="(").wait_for(timeout=20_000)
    content = page.request.get(page.locator("#prompted img").get_attribute("src")).body()
    shown = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"), dtype=int)
    green = np.abs(shown - (40, 200, 60)).sum(axis=2) < 12
    rows, columns = np.nonzero(green[: height // 2, wide // 2 :])
    assert abs(np.median(columns) + wide // 2 - 0.75 * wide) <= 2 / scale
    assert abs(np.median(rows) - 0.25 * height) <= 2 / scale
    shoot(page, f"prompt_5_shown_{width}_{size[0]}")
    page.set_viewport_size({"width": 1280, "height": 1000})


def test_a_segment_is_refined_by_clicks(refining_page, predictor, prompter, place_of):
    page = refining_page
    page.locator("tr", has_text="striped heart").first.click()
    page.wait_for_selector("#image img")
    page.click("#segment")
    expected = segment(predictor, str(SAMPLE), SAMPLE_WORDS)
    shows(page, "#overlay", expected.picture)
    page.locator("#mode").get_by_label(ON).click()
    click_at(page, "#overlay", 300, 300)
    toast(page, "There is no segment to refine")
    page.locator("#mode").get_by_label("chooses a segment").click()
    x, y = place_of(expected, "striped heart")
    click_at(page, "#overlay", x, y)
    page.locator("#panel img[alt*='striped heart']").wait_for(timeout=20_000)
    shoot(page, "refine_1_chosen")
    before = choose(expected, int(expected.segmentation.segmentation[y // 4, x // 4]))
    expected = before
    for number, (place, mode) in enumerate((((x, y), ON), ((390, 380), OUTSIDE))):
        page.locator("#mode").get_by_label(mode).click()
        click_at(page, "#overlay", *place)
        expected = refine(prompter, expected, *place, mode)
        shows(page, "#overlay", expected.picture)
        shoot(page, f"refine_{number + 2}_click")
    assert "has a new mask" in page.locator("#note").inner_text()
    page.click("#undo")
    shows(page, "#overlay", before.picture)
    page.locator("#panel img[alt*='striped heart']").wait_for(timeout=20_000)
    shoot(page, "refine_4_undone")
