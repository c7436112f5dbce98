"""The page says what the files say, needs nothing but itself, and is sound HTML whatever the names are."""

import base64
import io
import json
import re
from html.parser import HTMLParser
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from possam.d2.data import DatasetCatalog
from possam.report import write_report
from possam.vocabulary import Vocabulary

VOID = {"br", "col", "img", "meta"}
MISNAMED, RIGHT, MISSED = 4, 6, 2


class Reader(HTMLParser):
    """Checks that every element is closed where it should be, and keeps what a page consists of."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.cells, self.ids, self.row = [], [], [], [], None
        self.headings, self.text = [], ""

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append((tag, attributes))
        if "id" in attributes:
            self.ids.append(attributes["id"])
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.row = []
            self.cells.append(self.row)
        if tag in ("td", "th") and self.row is not None:
            self.row.append("")

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, (tag, self.getpos())

    def handle_data(self, data):
        if "script" in self.open or "style" in self.open:
            return
        self.text += data
        if self.row is not None and {"td", "th"} & set(self.open):
            self.row[-1] += data
        if self.open and self.open[-1] in ("h2", "h3", "h4"):
            self.headings.append(data)


@pytest.fixture
def page(evaluation):
    path = write_report(evaluation, progress=False)
    assert path == evaluation / "report.html"
    return path.read_text(encoding="utf-8")


@pytest.fixture
def read(page):
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


def row(reader, *start):
    found = [cells for cells in reader.cells if tuple(cells[: len(start)]) == start]
    assert found, (start, reader.cells)
    return found[0]


def test_it_is_sound_html_with_every_name_escaped(evaluation, page, read):
    assert page.startswith('<!DOCTYPE html>\n<html lang="en"><head>')
    assert "<b>dog</b>" not in page and "cat &amp; &lt;b&gt;dog&lt;/b&gt;" in page
    assert "<output>" not in page
    assert len(read.ids) == len(set(read.ids))
    links = {attributes["href"] for tag, attributes in read.tags if tag == "a"}
    inside = {link for link in links if link.startswith("#")}
    assert inside and {link[1:] for link in inside} <= set(read.ids)
    assert len(links - inside) == 4 * 3 and all((evaluation / link).is_file() for link in links - inside)


def test_it_needs_nothing_else(page, read):
    assert "http" not in page and "@import" not in page and "url(" not in page
    for tag, attributes in read.tags:
        assert tag not in ("link", "iframe", "object", "base")
        if tag == "script":
            assert "src" not in attributes
        if tag == "img":
            assert attributes["src"].startswith("data:image/") and attributes["alt"]
        assert not any(name.startswith("on") for name in attributes)


def test_the_numbers_are_those_of_the_files(evaluation, read):
    results = json.loads((evaluation / "results.json").read_text())["panoptic_seg"]
    cells = row(read, "PQ panoptic quality")
    assert cells[1:] == [f"{results[key]:.1f}" for key in ("PQ", "PQ_th", "PQ_st", "PQ_seen", "PQ_unseen")]
    assert row(read, "ldp")[1:3] == ["50.0", "50.0"]
    classes = json.loads((evaluation / "panoptic_quality.json").read_text())["classes"]
    for wanted, kind, known in zip(
        classes, ("thing", "thing", "stuff", "stuff"), ("seen", "unseen", "seen", "unseen"), strict=True
    ):
        cells = row(read, wanted["name"], kind, known)
        assert cells[3] == ("" if wanted["PQ"] is None else f"{wanted['PQ']:.1f}")
        assert cells[7:10] == [str(wanted[key]) for key in ("TP", "FP", "FN")]
    # One rank correlation, that of results.json, wherever the page has one.
    assert row(read, "rank correlation, Spearman’s ρ") == ["rank correlation, Spearman’s ρ", "0.456"]
    assert "0.46" in read.text and "spearman_segments" in read.text
    assert "9.9" in row(read, "torch") and "c0ffee" in row(read, "commit")


def test_masks_and_names_are_told_apart(read):
    assert row(read, "all")[2:] == ["50.0 %", "33.3 %", "16.7 %", "12"]
    assert row(read, "unseen")[2:] == ["50.0 %", "50.0 %", "0.0 %", "4"]
    assert row(read, "stuff")[2:] == ["50.0 %", "0.0 %", "50.0 %", "4"]
    cat = "cat & <b>dog</b>"
    assert row(read, cat, "bus unseen")[2:5:2] == ["2", "50 %"]
    assert row(read, "bus unseen", cat)[2:5:2] == ["2", "50 %"]
    matrix = [cells for cells in read.cells if cells[:1] == [cat] and len(cells) == 3]
    assert matrix == [[cat, "50", "50"]]


def test_the_worst_image_is_the_worst_and_the_best_the_best(page, read):
    order = re.findall(r"PQ ([\d.]+) · image (\d+)", page)
    images = [int(image) for _, image in order]
    assert images == [14, 13, 11, 12]
    assert float(order[0][0]) == 0 and float(order[2][0]) == max(float(quality) for quality, _ in order)
    worst = read.headings.index("Worst")
    assert read.headings[worst + 1].endswith("image 14") and read.headings[worst + 3] == "Best"
    assert "not found: road" in read.text and "bus named cat & <b>dog</b>" in read.text


def test_pictures_show_the_images(evaluation, page):
    from possam.report.source import EvaluationFolder

    sources = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    panels = [np.asarray(Image.open(io.BytesIO(base64.b64decode(source)))) for source in sources]
    first = next(panel for panel in panels if panel.shape == (320, 480, 3))
    image = EvaluationFolder(evaluation).image(14)
    small = np.asarray(Image.fromarray(first).resize((60, 40), Image.Resampling.BOX)).astype(float)
    assert np.corrcoef(small.ravel(), image.astype(float).ravel())[0, 1] > 0.9
    assert len(panels) == 4 * 3 + 4


def test_calibration(read):
    # Predicted boxes are 18 of 20 columns wide and lie 2 rows in void: every true IoU is 0.9.
    assert row(read, "segments") == ["segments", "10"]
    assert row(read, "calibration error")[1] == "0.140"  # (4·|0.9−0.9| + 4·|0.6−0.9| + 2·|0.8−0.9|) / 10
    assert row(read, "predicted − true, mean")[1] == "−0.140"
    assert sum(tag == "circle" and attributes["class"] == "dot" for tag, attributes in read.tags) == 10


def test_links_lead_to_files_whatever_their_names_and_wherever_the_page_is(evaluation, tmp_path):
    name = "Straße #1 50% a&b.png"
    content = json.loads((evaluation / "panoptic.json").read_text())
    annotation = next(each for each in content["annotations"] if each["image_id"] == 14)
    (evaluation / "panoptic" / annotation["file_name"]).rename(evaluation / "panoptic" / name)
    annotation["file_name"] = name
    (evaluation / "panoptic.json").write_text(json.dumps(content))
    drawn = evaluation / "pictures" / "unseen-things-ü 1.png"
    drawn.parent.mkdir()
    drawn.write_bytes(b"")
    for output in (None, tmp_path / "a page" / "of mine.html"):
        page = write_report(evaluation, output=output, progress=False)
        reader = Reader()
        reader.feed(page.read_text(encoding="utf-8"))
        links = [attributes["href"] for tag, attributes in reader.tags if tag == "a"]
        found = {(page.parent / unquote(link)).resolve() for link in links if not link.startswith("#")}
        assert len(found) == 4 * 3 + 1 and all(path.is_file() for path in found)
        assert {(evaluation / "panoptic" / name).resolve(), drawn.resolve()} < found
        assert all(re.fullmatch(r"[\w./~%-]+|#[a-z]+", link, re.ASCII) for link in links)
        assert f"image: 14.pngannotation: 14.pngprediction: {name}" in reader.text and drawn.name in reader.text


BOOTSTRAP = {
    "resamples": 1000,
    "level": 0.95,
    "seed": 0,
    "intervals": {"mase": {"PQ": [20.04, 61.0], "PQ_unseen": [None, None]}, "ldp": {"PQ": [48.0, 52.0]}},
    "best": {"PQ": "ldp", "PQ_seen": "ldp", "PQ_th": "ldp"},
    "differences": {
        "ldp": {},
        "mase": {"PQ": [-8.33, -20.0, 1.04], "PQ_seen": [-3.0, -4.0, -1.0], "PQ_th": [None, None, None]},
    },
}


def write_results(evaluation, **changes):
    content = json.loads((evaluation / "results.json").read_text()) | changes
    (evaluation / "results.json").write_text(json.dumps(content))
    return content


def test_intervals_and_differences_to_the_best_ensemble(evaluation):
    results = write_results(evaluation, bootstrap=BOOTSTRAP)["panoptic_seg"]
    page = write_report(evaluation, progress=False).read_text(encoding="utf-8")
    reader = Reader()
    reader.feed(page)
    quality = f"{results['PQ']:.1f} [20.0, 61.0]"
    unseen = f"{results['PQ_unseen']:.1f}"
    assert row(reader, "PQ panoptic quality")[1::4] == [quality, unseen]
    assert row(reader, "mase this page")[1:4:2] == [quality, unseen] and row(reader, "ldp")[1] == "50.0 [48.0, 52.0]"
    assert f"PQ [20.0, 61.0]{results['PQ_seen']:.1f}PQ seen" in reader.text
    assert "In brackets: 95 % intervals by the percentile bootstrap over images, 1000 resamples." in reader.text
    table = [cells for cells in reader.cells if cells[0] in ("ldp", "mase")][-2:]
    assert table == [["ldp", "best", "best", "best"], ["mase", "−8.3 [−20.0, 1.0]includes 0", "−3.0 [−4.0, −1.0]", ""]]
    assert "these images do not show that the best one is better" in reader.text


def test_the_best_is_bold_and_not_the_pages_own_ensemble(evaluation):
    own = {"PQ": 50.02, "PQ_seen": 40.0, "PQ_unseen": 70.0, "SQ": None}
    other = {"PQ": 49.98, "PQ_seen": 60.0, "PQ_unseen": 69.0, "SQ": 5.0}
    write_results(evaluation, compare={"mase": own, "ldp": other, "clip": dict.fromkeys(own)})
    page = write_report(evaluation, progress=False).read_text(encoding="utf-8")
    rows = re.findall(r"<tr><th[^>]*>(mase|ldp|clip)(<span[^>]*> this page</span>)?</th>(.*?)</tr>", page)
    assert [(name, bool(mark)) for name, mark, _ in rows] == [("mase", True), ("ldp", False), ("clip", False)]
    # What ties as far as it is shown is bold alike.
    bold = {name: re.findall(r"<td[^>]*><b>([\d.]+)</b>", cells) for name, _, cells in rows}
    assert bold == {"mase": ["50.0", "70.0"], "ldp": ["50.0", "60.0", "5.0"], "clip": []}
    assert "Differences to the best" not in page and "In brackets" not in page


def test_without_a_score_of_the_iou_head_there_is_no_rank_correlation(evaluation):
    write_results(evaluation, iou_head=None)
    page = write_report(evaluation, progress=False).read_text(encoding="utf-8")
    assert "Spearman" not in page and "spearman" not in page and "calibration error" in page


def test_fewer_images(evaluation, tmp_path):
    path = write_report(evaluation, output=tmp_path / "new" / "page.html", images=1, progress=False)
    page = path.read_text(encoding="utf-8")
    assert [int(image) for image in re.findall(r"· image (\d+)", page)] == [14, 11]
    assert not (evaluation / "report.html").exists()


def test_predictions_without_iou_and_of_another_annotation(evaluation, caplog):
    content = json.loads((evaluation / "panoptic.json").read_text())
    for annotation in content["annotations"]:
        for info in annotation["segments_info"]:
            del info["iou"]
            info["category_id"] = 102
    (evaluation / "panoptic.json").write_text(json.dumps(content))
    page = write_report(evaluation, progress=False).read_text(encoding="utf-8")
    assert "do not say what IoU was expected" in page
    assert "One of them has changed since; evaluate again." in page
    assert "One of them has changed" in caplog.text


def test_results_alone(evaluation):
    """A dataset without panoptic annotations leaves nothing but results.json."""
    for name in ("panoptic.json", "panoptic_quality.json"):
        (evaluation / name).unlink()
    results = {"sem_seg": {"mIoU": 12.34, "mIoU_seen": 20.0}, "dataset": None, "provenance": None}
    (evaluation / "results.json").write_text(json.dumps(results))
    page = write_report(evaluation, progress=False).read_text(encoding="utf-8")
    reader = Reader()
    reader.feed(page)
    assert row(reader, "mIoU mean IoU of pixels")[1:] == ["12.3", "20.0"]
    assert "Confusions" not in page and "4 classes" in page and "did not write what made it" in page


def test_ensembles_are_compared_on_the_first_task(evaluation):
    labels = {"mIoU": 12.34, "mIoU_seen": 20.0}
    results = {"panoptic_sem_seg": labels, "sem_seg": {"mIoU": 30.0}, "compare": {"mase": labels, "ldp": {"mIoU": 5.0}}}
    for tasks in (["panoptic_semantic", "semantic"], ["a task of another version"]):
        about = {"name": "street", "tasks": tasks}
        (evaluation / "results.json").write_text(json.dumps(results | {"dataset": about}))
        page = Reader()
        page.feed(write_report(evaluation, progress=False).read_text(encoding="utf-8"))
        heading = "mIoU (panoptic)" if tasks[0] == "panoptic_semantic" else "mIoU"
        assert row(page, "ensemble") == ["ensemble", heading, f"{heading} seen"]
        assert row(page, "ldp") == ["ldp", "5.0", ""]
        assert row(page, "mIoU (panoptic) mean IoU of pixels of the panoptic segments")[1:] == ["12.3", "20.0"]


def test_the_training_vocabulary_can_be_given(evaluation):
    everything = Vocabulary.from_names(["bus"], name="all")
    page = write_report(evaluation, train_vocabulary=everything, progress=False).read_text(encoding="utf-8")
    assert "4 classes, 1 of them seen in training" in page


def test_errors(evaluation, tmp_path):
    with pytest.raises(FileNotFoundError, match="has no results.json; give a folder OUTPUT_DIR/evaluation"):
        write_report(tmp_path)
    with pytest.raises(ValueError, match="unknown dataset 'strait'"):
        write_report(evaluation, dataset="strait")
    assert "mini_b_report" in DatasetCatalog.list()
    content = json.loads((evaluation / "panoptic_quality.json").read_text())
    content["classes"] = content["classes"][:2]
    (evaluation / "panoptic_quality.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="has 2 classes that are not those of the dataset 'street'"):
        write_report(evaluation, progress=False)
    (evaluation / "panoptic" / "12.png").unlink()
    with pytest.raises(FileNotFoundError, match="12.png does not exist"):
        write_report(evaluation, progress=False)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("panoptic.json", lambda c: c["annotations"][0].update(segments_info=None), r"segments_info must be a list"),
        ("panoptic.json", lambda c: c["annotations"][0]["segments_info"][0].pop("id"), r"keys \['id'\] are missing"),
        ("panoptic.json", lambda c: c["annotations"][0]["segments_info"][0].update(iou="1"), r"image 11: iou of segm"),
        ("panoptic.json", lambda c: c["annotations"][0]["segments_info"][0].update(category_id=7), r"ids \[7\] are"),
        ("panoptic.json", lambda c: c.pop("annotations"), r"keys \['annotations'\] are missing"),
        ("panoptic_quality.json", lambda c: c.pop("classes"), r"keys \['classes'\] are missing"),
        ("panoptic_quality.json", lambda c: c["classes"][1].update(TP="3"), r"classes\[1\] has values that are not"),
        ("panoptic_quality.json", lambda c: c["classes"].insert(0, None), r"classes\[0\]: expected an object"),
        ("results.json", lambda c: c.update(dataset=[1]), r"dataset must be an object, but is \[1\]"),
        ("results.json", lambda c: c.update(bootstrap=[1]), r"bootstrap must be an object, but is \[1\]"),
        ("results.json", lambda c: c.update(bootstrap={"best": {}}), r"keys \['resamples', 'intervals'\] are missing"),
        (
            "results.json",
            lambda c: c.update(bootstrap={"resamples": 2, "intervals": [1]}),
            r"bootstrap.intervals must be an object, but is \[1\]",
        ),
        (
            "results.json",
            lambda c: c.update(bootstrap={"resamples": 2, "intervals": {"ldp": [1]}}),
            r"ldp in bootstrap.intervals must be an object",
        ),
        (
            "results.json",
            lambda c: c.update(bootstrap={"resamples": 2, "intervals": {}, "best": "ldp"}),
            r"bootstrap.best must be an object",
        ),
        (
            "results.json",
            lambda c: c.update(bootstrap={"resamples": 2, "intervals": {"ldp": {"PQ": [1]}}}),
            r"PQ of ldp in bootstrap.intervals must be 2 numbers, but is \[1\]",
        ),
    ],
)
def test_damaged_files_are_named(evaluation, name, change, message):
    content = json.loads((evaluation / name).read_text())
    change(content)
    (evaluation / name).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"/{name}.*{message}"):
        write_report(evaluation, progress=False)
