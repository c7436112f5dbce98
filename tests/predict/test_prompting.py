"""Points and boxes through the predictor, on an image that is encoded once."""

import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as mask_coder

from possam.cli import main
from possam.data.miniature import palette_of
from possam.data.miniature.world import draw_scene
from possam.engine import load_config, prepare_datasets
from possam.inference.prompted import point_grid, stability_scores
from possam.layers.prompts import Prompts
from possam.models import model_specs
from possam.predict import prompting
from possam.predict.background import choose_background, score_words
from possam.predict.predictor import Predictor
from possam.predict.prompted_result import PromptedResult
from possam.predict.prompting import EverythingOptions, parse_prompts
from possam.vocabulary import Hierarchy, Vocabulary
from possam.vocabulary.background import with_background
from possam.vocabulary.words import read_words
from tests.prompted_models import Squares, TinyPrompted

WORDS = ["striped star", "framed circle", "lawn, grass: stuff", "sea: stuff", "tile: stuff", "dotted heart"]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prompting")
    places = {"OUTPUT_DIR": "run", "MODEL.TEXT_CACHE": "text", "INPUT.FEATURE_FOLDER": "features"}
    settings = [part for key, name in places.items() for part in (key, str(folder / name))]
    cfg = load_config("configs/mini/possam.yaml", settings)
    prepare_datasets(cfg)
    return cfg


@pytest.fixture(scope="module")
def tiny(config):
    torch.manual_seed(0)
    return TinyPrompted.from_config(config)


@pytest.fixture(scope="module")
def squares(config):
    return Squares.from_config(config)


@pytest.fixture(scope="module")
def scene():
    return draw_scene([3, 14], palette_of(Vocabulary.load("mini_b").display_names)).image[:100]


@pytest.fixture(scope="module")
def photo(scene):
    return np.repeat(np.repeat(scene, 2, 0), 2, 1)  # twice the network's size: 200×256


def same(first, second):
    return all(
        np.array_equal(getattr(first, name), getattr(second, name))
        for name in ("masks", "boxes", "iou", "label_ids", "scores", "probabilities")
    )


def test_one_encoding_serves_any_number_of_prompts_and_words(tiny, photo):
    predictor = Predictor(tiny)
    before = tiny.encoded, tiny.prepared
    predictor.set_image(photo)
    point = predictor.prompt(points=[[60, 80]], classes=WORDS)
    box = predictor.prompt(boxes=[20, 30, 150, 190], classes="star, sea")
    both = predictor.prompt(points=[[[60, 80]], [[9, 7]]], classes=WORDS)
    assert (tiny.encoded, tiny.prepared) == (before[0] + 1, before[1] + 1)
    assert len(point) == len(box) == 1 and len(both) == 2 and point.masks.shape == (1, 200, 256)
    assert np.array_equal(both.masks[0], point.masks[0]) and both.labels[0] == point.labels[0]
    assert box.label_ids.shape == (1, 2) and point.label_ids.shape == (1, 5)
    assert {name for name, _ in box.names[0]} == {"star", "sea"}
    predictor.set_image(photo[::-1])
    assert tiny.encoded == before[0] + 2 and not same(predictor.prompt(points=[[60, 80]], classes=WORDS), point)


def test_it_is_what_the_model_gives_for_the_prompt_at_its_own_size(tiny, photo):
    predictor = Predictor(tiny)
    predictor.set_image(photo)
    result = predictor.prompt(points=[[60, 80], [200, 20]], labels=[1, 0], boxes=[20, 30, 150, 190], classes=WORDS)
    vocabulary = read_words(WORDS)
    inputs = {
        "image": torch.tensor(predictor._fit(photo)).permute(2, 0, 1),
        "vocabulary": vocabulary,
        "height": 200,
        "width": 256,
        "prompts": Prompts(points=[[[30, 40], [100, 10]]], labels=[[1, 0]], boxes=[[10, 15, 75, 95]]),
    }
    (output,) = tiny([inputs])
    for name, key in (("masks", "masks"), ("label_ids", "classes"), ("scores", "scores"), ("iou", "iou")):
        assert np.array_equal(getattr(result, name), output["prompted"][key].numpy()), name
    assert result.prompts.points.tolist() == [[[60, 80], [200, 20]]] and result.labels[0] in vocabulary.display_names
    rows, columns = np.nonzero(result.masks[0])
    assert result.boxes[0].tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_a_negative_point_changes_the_mask(tiny, photo):
    predictor = Predictor(tiny)
    predictor.set_image(photo)
    one = predictor.prompt(points=[[60, 80]])
    assert not np.array_equal(one.masks, predictor.prompt(points=[[60, 80], [90, 80]], labels=[1, 0]).masks)
    assert np.array_equal(one.masks, predictor.prompt(points=[[60, 80], [0, 0]], labels=[1, -1]).masks)
    assert one.vocabulary == tiny.train_vocabulary  # the default


def test_a_result_is_plain_data(tiny, photo, tmp_path):
    predictor = Predictor(tiny)
    predictor.set_image(photo)
    result = predictor.prompt(points=[[[60, 80], [9, 9]], [[20, 30], [0, 0]]], labels=[[1, 0], [1, -1]], classes=WORDS)
    copy = pickle.loads(pickle.dumps(result))
    assert isinstance(copy, PromptedResult) and same(copy, result) and copy.names == result.names
    assert copy == result and hash(copy) == hash(result) and {result: 1}[copy] == 1
    assert result not in (replace(result, iou=result.iou + 1), replace(result, file_name="b"), "text")
    assert repr(result).startswith("PromptedResult(") and "200" in repr(result) and "\n" not in repr(result)
    assert result._repr_png_().startswith(b"\x89PNG")
    assert sum(p for _, p in result.names[0]) <= 1 + 1e-6
    first, second = result.to_coco(image_id="a")
    assert np.array_equal(mask_coder.decode(first["segmentation"]) > 0, result.masks[0])
    assert first["image_id"] == "a" and first["area"] == result.masks[0].sum() and first["label"] == result.labels[0]
    assert first["points"] == [[60, 80, 1], [9, 9, 0]] and second["points"] == [[20, 30, 1]] and first["box"] is None
    picture = result.plot(tmp_path / "deep" / "p.png")
    assert (tmp_path / "deep" / "p.png").exists()
    scale = picture.width // 256
    drawn, plain = np.asarray(picture), np.asarray(result.plot(prompts=False))
    y, x = int(scale * 80.5), int(scale * 60.5)
    assert tuple(drawn[y, x]) == (40, 200, 60) and not np.array_equal(drawn, plain)


def test_mistakes_are_named(tiny, mini_model, photo):
    predictor = Predictor(tiny)
    for call in (lambda: predictor.prompt(points=[[1, 2]]), predictor.everything, lambda: predictor.segment(WORDS)):
        with pytest.raises(ValueError, match="there is no image; call set_image before"):
            call()
    predictor.set_image(photo)
    for given, message in (
        ({}, "need points or boxes"),
        ({"points": [[60, 200]]}, "inside the image of 256×200 pixels"),
        ({"points": [[1, 2], [3]]}, "points must be numbers in equally long lists"),
        ({"points": "1, 2"}, "points must be numbers"),
        ({"points": [[1, 2]], "labels": [0.5]}, r"but got \[0.5\]"),
        ({"points": [[1, 2]], "boxes": [[0, 0, 9, 9]] * 2}, "expected points N×P×2"),
        ({"points": [[1, 2]], "classes": []}, "no class|no word|at least one"),
        ({"points": [[1, 2]], "ensemble": "mase2"}, "unknown ensemble 'mase2'"),
    ):
        with pytest.raises(ValueError, match=message):
            predictor.prompt(**given)
    with pytest.raises(ValueError, match="TinyPrompted needs prompts: after set_image use prompt with points"):
        predictor.segment(WORDS)
    with pytest.raises(ValueError, match="TinyPrompted needs prompts"):
        predictor(photo, WORDS)
    with pytest.raises(ValueError, match="options must be EverythingOptions"):
        predictor.everything(WORDS, {"side": 3})
    with pytest.raises(ValueError, match="a hierarchy names the segments of whole images"):
        predictor.prompt(points=[[1, 2]], classes=Hierarchy.from_tree({"animal": {"cat": {}}}))
    predictor.reset_image()
    with pytest.raises(ValueError, match="there is no image"):
        predictor.prompt(points=[[1, 2]])
    with pytest.raises(FileNotFoundError):
        predictor.set_image("none.jpg")
    assert parse_prompts(torch.tensor([[1.0, 2.0]], requires_grad=True)).points.tolist() == [[[1, 2]]]
    finder = Predictor(mini_model)
    for call in (lambda: finder.prompt(points=[[1, 2]]), finder.everything, lambda: finder.encode(photo)):
        with pytest.raises(ValueError, match="PosSAM takes no prompts"):
            call()


def test_a_system_without_prompts_segments_the_image_that_is_set(mini_model, scene):
    mini_model.postprocessor.object_threshold = 0.0
    predictor = Predictor(mini_model)
    predictor.set_image(scene)
    assert predictor.segment(WORDS) == predictor(scene, WORDS) and predictor.segment(WORDS).segments_info


def test_threads_prompt_images_of_their_own(tiny, photo):
    predictor = Predictor(tiny)
    images = [predictor.encode(image) for image in (photo, photo[::-1].copy())]
    prompts, words = parse_prompts([[60, 80]]), read_words(WORDS)
    alone = [image.prompt(prompts, words) for image in images]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda number: images[number % 2].prompt(prompts, words), range(8)))
    assert all(same(result, alone[number % 2]) for number, result in enumerate(together))


def test_many_prompts_are_run_in_chunks(squares, scene, monkeypatch):
    seen = []
    decode = Squares.decode_prompts
    monkeypatch.setattr(Squares, "prompts_at_once", 100)
    monkeypatch.setattr(Squares, "decode_prompts", lambda *a: seen.append(len(a[2])) or decode(*a))
    predictor = Predictor(squares)
    predictor.set_image(scene[:50, :50])
    points = np.random.default_rng(0).integers(0, 50, (250, 1, 2))
    result = predictor.prompt(points=points, classes=WORDS)
    assert seen == [100, 100, 50] and len(result) == 250
    for place in (0, 120, 249):
        alone = predictor.prompt(points=points[place], classes=WORDS)
        assert np.array_equal(result.masks[place], alone.masks[0]) and result.labels[place] == alone.labels[0]


def brute_force(predictor, image, options):
    """Everything, prompt by prompt, at the size of the network and of the decoder."""
    height, width = image.shape[:2]
    fitted = torch.tensor(predictor._fit(image)).permute(2, 0, 1)
    scale = fitted.shape[-1] / width
    encoded = predictor.model.encode([fitted])
    features = {role: {stride: maps[0] for stride, maps in levels.items()} for role, levels in encoded.items()}
    candidates = []
    for row in range(options.side):
        for column in range(options.side):
            x, y = (column + 0.5) / options.side * width, (row + 0.5) / options.side * height
            prompts = Prompts(points=[[[scale * x, scale * y]]])
            (found,) = predictor.model.propose([{"image": fitted, "features": features, "prompts": prompts}])
            padded = torch.nn.functional.interpolate(found.mask_logits[None], found.padded_size, mode="bilinear")
            logits = padded[0, 0, : found.image_size[0], : found.image_size[1]]
            offset = options.stability_offset
            stability = ((logits > offset).sum() / (logits > -offset).sum().clamp(min=1)).item()
            iou = found.iou.item()
            if iou >= options.iou_threshold and stability >= options.stability_threshold:
                cells = found.mask_logits[0, : found.image_size[0] // 2] > 0  # of 2 pixels
                candidates.append((-iou, -stability, len(candidates), (x, y), cells))
    kept = []
    for *_, point, cells in sorted(candidates, key=lambda one: one[:3]):
        overlaps = [(cells & other).sum() / (cells | other).sum() for _, other in kept]
        if cells.any() and all(overlap <= options.overlap_threshold for overlap in overlaps):
            kept.append((point, cells))
    return [point for point, _ in kept], len(candidates)


def test_everything_is_what_brute_force_finds(squares, photo, monkeypatch):
    monkeypatch.setattr(Squares, "prompts_at_once", 50)
    predictor = Predictor(squares)
    predictor.set_image(photo)
    options = EverythingOptions(side=12, iou_threshold=0.8, stability_threshold=0.6)
    result = predictor.everything(WORDS, options)
    points, candidates = brute_force(predictor, photo, options)
    assert np.allclose(result.prompts.points[:, 0].numpy(), points) and 3 < len(points) < candidates < 144
    assert result.masks.shape == (len(points), 200, 256) and (np.diff(result.iou) <= 0).all()
    assert (result.iou >= 0.8).all() and set(result.labels) <= set(read_words(WORDS).display_names)
    direct = predictor.prompt(points=result.prompts.points, classes=WORDS)
    assert same(direct, result)
    fewer = predictor.everything(WORDS, EverythingOptions(side=12, iou_threshold=0.8, stability_threshold=0.8))
    assert 0 < len(fewer) < len(result)


def test_everything_drops_what_no_word_names(squares, photo, monkeypatch):
    monkeypatch.setattr(Squares, "prompts_at_once", 10)
    predictor, words = Predictor(squares), read_words(WORDS)
    image, options = predictor.encode(photo), EverythingOptions(side=9, iou_threshold=0.0, stability_threshold=0.0)
    joined = with_background(words, squares.train_vocabulary, choose_background(squares, words, True))
    monkeypatch.setattr(prompting, "score_words", partial(score_words, weight=1.0))
    every = image.everything(joined, options)
    named = every.label_ids[:, 0] < len(words)
    result = image.everything(words, options, background=True)
    assert 0 < len(result) < len(every) and np.array_equal(result.masks, every.masks[named])
    assert torch.equal(result.prompts.points, every.prompts.points[torch.tensor(named)])
    assert np.allclose(result.scores[:, 0], every.scores[named, 0]) and result.vocabulary == words
    least = float(np.median(result.scores[:, 0]))
    surer = image.everything(words, options, background=True, threshold=least)
    assert np.array_equal(surer.masks, result.masks[result.scores[:, 0] > least])
    with pytest.raises(ValueError, match=r"threshold must be a number in \[0, 1\]"):
        image.everything(words, options, threshold=2.0)


def test_nothing_may_be_found(squares, scene):
    predictor = Predictor(squares)
    predictor.set_image(scene)
    result = predictor.everything(WORDS, EverythingOptions(side=2, iou_threshold=1.0))
    assert len(result) == 0 and result.masks.shape == (0, 100, 128) and result.to_coco() == result.labels == []
    assert result.plot().size[0] >= 128
    image, grid = predictor.encode(scene), point_grid(2, (100, 128))[:, None]
    proposed = image._propose(Prompts(points=grid))
    iou, stability = (float(s.max()) for s in (proposed.iou, stability_scores(image._masks(proposed), offset=1.0)))
    assert result.nothing.startswith(f"No mask has a predicted IoU of at least 1; the best has {iou:.3f}: lower iou")
    # What is kept is compared in float32; so a threshold above the best by less keeps it, and there is no reason.
    best = predictor.everything(WORDS, EverythingOptions(side=2, iou_threshold=iou + 1e-12, stability_threshold=0.0))
    assert len(best) and best.nothing == ""
    options = {"side": 2, "iou_threshold": 0.0}
    unstable = predictor.everything(WORDS, EverythingOptions(stability_threshold=1.0, **options)).nothing
    assert f"has a stability of at least 1; the best has {stability:.3f}: lower stability_threshold (--sta" in unstable
    every = EverythingOptions(stability_threshold=0.0, **options)
    found, dropped = predictor.everything(WORDS, every), predictor.everything(WORDS, every, threshold=1.0)
    assert len(found) and found.nothing == "" and not len(dropped)
    assert dropped.nothing.startswith(f"All {len(found)} masks that were found are dropped")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"side": 0}, "at least 1 point a side"),
        ({"side": 2.5}, "a whole number, but got side=2.5"),
        ({"side": "3"}, "got side='3'"),
        ({"iou_threshold": "0.5"}, "iou_threshold must be in"),
        ({"stability_offset": float("nan")}, "at least 0, but is nan"),
        ({"iou_threshold": 1.1}, r"iou_threshold must be in \[0, 1\], but is 1.1"),
        ({"stability_offset": -1.0}, "stability_offset must be a finite number, at least 0"),
    ],
)
def test_options_out_of_range_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        EverythingOptions(**options)


@pytest.fixture
def loaded(squares, monkeypatch):
    """What the command loads, whatever the model's name."""
    monkeypatch.setattr(Predictor, "from_pretrained", lambda *_, **__: Predictor(squares))
    return Predictor(squares)


def read(folder):
    content = json.loads((folder / "instances.json").read_text())
    return content, [mask_coder.decode(annotation["segmentation"]) > 0 for annotation in content["annotations"]]


def test_the_command_takes_the_points_of_one_object(loaded, tiny, photo, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Predictor, "from_pretrained", lambda *_, **__: Predictor(tiny))
    Image.fromarray(photo).save(tmp_path / "a.png")
    words = ["--classes", ", ".join(WORDS), "--output", str(tmp_path / "out")]
    points = ["--point", "60,80", "--point", "200,20:-", "--box", "20,30,150,190"]
    assert main(["segment", str(tmp_path / "a.png"), *points, *words]) == 0
    content, (mask,) = read(tmp_path / "out")
    (annotation,) = content["annotations"]
    assert annotation["points"] == [[60, 80, 1], [200, 20, 0]] and annotation["box"] == [20, 30, 150, 190]
    predictor = Predictor(tiny)
    predictor.set_image(photo)
    expected = predictor.prompt(points=[[60, 80], [200, 20]], labels=[1, 0], boxes=[20, 30, 150, 190], classes=WORDS)
    assert np.array_equal(mask, expected.masks[0]) and annotation["label"] == expected.labels[0]
    assert content["images"] == [{"id": "a", "file_name": str(tmp_path / "a.png"), "height": 200, "width": 256}]
    assert len(content["categories"]) == len(WORDS) + 1 and (tmp_path / "out" / "overlay" / "a.jpg").exists()
    assert not (tmp_path / "out" / "panoptic").exists() and "1 image;" in capsys.readouterr().out


def test_the_command_takes_boxes_of_several_objects(loaded, photo, tmp_path):
    Image.fromarray(photo).save(tmp_path / "a.png")
    boxes = ["--box", "20,30,150,190", "--box", "8,8,64,40"]
    assert main(["segment", str(tmp_path / "a.png"), *boxes, "--output", str(tmp_path / "out")]) == 0
    content, masks = read(tmp_path / "out")
    assert [annotation["box"] for annotation in content["annotations"]] == [[20, 30, 150, 190], [8, 8, 64, 40]]
    assert len(content["categories"]) == len(loaded.model.train_vocabulary)
    rows, columns = np.nonzero(masks[1])
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (8, 8, 64, 40)


def test_the_command_segments_everything_in_many_files(loaded, photo, tmp_path):
    (tmp_path / "in").mkdir()
    for name, image in (("a", photo), ("b", photo[:, :100])):
        Image.fromarray(image).save(tmp_path / "in" / f"{name}.png")
    (tmp_path / "in" / "c.png").write_text("no picture")
    arguments = ["--everything", "--grid", "9", "--output", str(tmp_path / "out")]
    assert main(["segment", str(tmp_path / "in"), *arguments]) == 1
    content, masks = read(tmp_path / "out")
    loaded.set_image(photo)
    expected = loaded.everything(options=EverythingOptions(side=9))
    own = [mask for mask, a in zip(masks, content["annotations"], strict=True) if a["image_id"] == "a"]
    assert len(expected) and np.array_equal(np.stack(own), expected.masks)
    assert [image["id"] for image in content["images"]] == ["a", "b"]


def test_the_command_says_why_everything_kept_nothing(loaded, photo, tmp_path, capsys):
    Image.fromarray(photo).save(tmp_path / "a.png")
    command = ["segment", str(tmp_path / "a.png"), "--everything", "--grid", "3", "--output", str(tmp_path / "out")]
    assert main([*command, "--iou-threshold", "1"]) == 0
    printed = capsys.readouterr().out
    assert "a: nothing found" in printed and "a: No mask has a predicted IoU of at least 1; the best has 0." in printed
    assert "(--iou-threshold)" in printed and not read(tmp_path / "out")[1]
    assert main([*command, "--iou-threshold", "0", "--stability-threshold", "0", "--overwrite"]) == 0
    options = EverythingOptions(side=3, iou_threshold=0, stability_threshold=0)
    loaded.set_image(photo)
    assert len(read(tmp_path / "out")[1]) == len(loaded.everything(options=options)) > 0
    assert "No mask" not in capsys.readouterr().out


def test_the_command_names_mistakes_of_place(loaded, photo, tmp_path, capsys):
    for name in ("a", "b"):
        Image.fromarray(photo).save(tmp_path / f"{name}.png")
    output = ["--output", str(tmp_path / "out")]
    assert main(["segment", str(tmp_path), "--point", "5,6", *output]) == 1
    assert "places in one picture, but got 2 files" in capsys.readouterr().err
    encoded = loaded.model.encoded
    assert main(["segment", str(tmp_path / "a.png"), "--point", "256,6", *output]) == 1
    assert loaded.model.encoded == encoded  # found before that
    assert "a.png: points (x, y) must be inside the image of 256×200 pixels" in capsys.readouterr().err
    assert main(["segment", str(tmp_path / "a.png"), "--classes", "sea", "--output", str(tmp_path / "none")]) == 1
    assert "error: Squares needs prompts" in capsys.readouterr().err and not (tmp_path / "none").exists()
    for negative in (["--point", "-5,10"], ["--box", "-.5,3,9,9"]):
        assert main(["segment", str(tmp_path / "a.png"), *negative, *output]) == 1
        assert f"{negative[0]} is '{negative[1]}', outside the image" in capsys.readouterr().err
    assert main(["segment", str(tmp_path / "a.png"), "--point", "5,6", "--threshold", "0.5", *output]) == 1
    assert "--point and --box always get a mask and a name" in capsys.readouterr().err
    (tmp_path / "clip.mp4").write_bytes(b"")
    assert main(["segment", str(tmp_path / "clip.mp4"), "--point", "5,6", *output]) == 1
    assert "but got the video" in capsys.readouterr().err


def test_the_systems_of_the_package_are_those_that_find_masks_or_take_prompts():
    assert all(spec.prompts == spec.model.takes_prompts for spec in model_specs())
