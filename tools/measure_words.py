"""Measure how often words that are not in a picture are found, and words that are in it missed.

Scenes of the miniature world are asked for 1, 2, 5 and 30 of the 34 names of its vocabulary B. Half of the words are of
classes that the scene shows and half are not, drawn at random; of an odd number the odd one is either, and where a
scene shows too few classes the others are not in it. The same words are asked for in every setting.

- Segments: a segment that is found is false unless its IoU with an annotated segment of its class is over 0.5; an
  annotated segment of one of the words is missed unless one that is found matches it so. F1 is that of both.
- Images: a word that a scene does not show is a false alarm where it has any segment there; a word that the scene shows
  is missed where it has none.

Without options: today's defaults beside plain competition of the words among themselves. Choose constants on
mini_b_selection, report on mini_b_report.

Examples:
    python tools/measure_words.py --split mini_b_report
    python tools/measure_words.py --thresholds 0.05 0.1 0.2 0.3 0.4 0.5
    python tools/measure_words.py --weights 1 0.5 0.3 0.2 0.1
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import track
from tabulate import tabulate

from possam.data.miniature import Palette, Scene, draw_scene, palette_of
from possam.data.miniature.splits import SPLITS
from possam.predict.background import BACKGROUND_WEIGHT
from possam.predict.predictor import Predictor
from possam.vocabulary import Vocabulary

HEADINGS = ["setting", "words", "F1", "false segments", "missed segments", "false alarms", "missed words"]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Threshold and background of a `Predictor` call, and what background words' scores are multiplied by."""

    name: str
    threshold: float | None = None
    background: bool | None = None
    weight: float = BACKGROUND_WEIGHT


def draw_words(shown: set[int], classes: int, number: int, rng: np.random.Generator) -> list[int]:
    """Class ids, rising: `number` of `classes`, half of them from `shown`."""
    absent = sorted(set(range(classes)) - shown)
    half = number // 2 + (int(rng.integers(2)) if number % 2 else 0)
    half = min(half, len(shown))
    chosen = [*rng.choice(sorted(shown), half, replace=False), *rng.choice(absent, number - half, replace=False)]
    return sorted(int(label) for label in chosen)


def count(
    found: Sequence[tuple[int, NDArray[np.bool_]]],
    annotated: Sequence[tuple[int, NDArray[np.bool_]]],
    words: Sequence[int],
) -> Counter[str]:
    """Count hits and mistakes of one image.

    Args:
        found, annotated: class and mask, H×W, of each segment; annotated ones are of any class.
        words: the classes that were asked for.

    Returns:
        "found", "false", "annotated", "missed" segments; "absent", "alarms", "shown", "missed_words" of the words.
    """
    counts: Counter[str] = Counter(found=len(found), false=0)
    matched = set()
    for label, mask in found:
        hits = {
            place
            for place, (other, true) in enumerate(annotated)
            if other == label and 2 * (mask & true).sum() > (mask | true).sum()
        }
        counts["false"] += not hits
        matched |= hits
    asked = {place for place, (label, _) in enumerate(annotated) if label in words}
    counts.update(annotated=len(asked), missed=len(asked - matched))
    named, shown = {label for label, _ in found}, {label for label, _ in annotated}
    for word in words:
        kind, mistake = ("shown", "missed_words") if word in shown else ("absent", "alarms")
        counts[kind] += 1
        counts[mistake] += (word in shown) != (word in named)
    return counts


def measure(
    predictor: Predictor,
    split: str,
    scenes: int,
    numbers: Sequence[int],
    settings: Sequence[Setting],
    ensemble: str | None = None,
) -> Iterator[list[Any]]:
    """Rows of the table, under `HEADINGS`: shares in percent."""
    vocabulary, seed = Vocabulary.load(SPLITS[split].vocabulary), SPLITS[split].seed
    palette = palette_of(vocabulary.display_names)
    totals: dict[tuple[int, int], Counter[str]] = {}
    for index in track(range(scenes), split, transient=True):
        scene = draw_scene([seed, index], palette)
        annotated = _annotated(scene, palette)
        (proposals,) = predictor.model.propose([{"image": predictor.prepare(scene.image)}])
        for number in numbers:
            rng = np.random.default_rng([number, index])
            words = draw_words({label for label, _ in annotated}, len(vocabulary), number, rng)
            asked = Vocabulary(name="words", categories=tuple(vocabulary.categories[word] for word in words))
            for place, setting in enumerate(settings):
                name = predictor.namer(
                    asked, ensemble=ensemble, threshold=setting.threshold, background=setting.background
                )
                result = name(scene.image, proposals, background_weight=setting.weight)
                found = [(words[info["label_id"]], result.segmentation == info["id"]) for info in result.segments_info]
                totals.setdefault((place, number), Counter()).update(count(found, annotated, words))
    for (place, number), total in totals.items():
        hits = total["found"] - total["false"]
        pairs = [("false", "found"), ("missed", "annotated"), ("alarms", "absent"), ("missed_words", "shown")]
        shares = [100 * total[part] / max(1, total[whole]) for part, whole in pairs]
        yield [settings[place].name, number, 200 * hits / max(1, total["found"] + total["annotated"]), *shares]


def _annotated(scene: Scene, palette: Palette) -> list[tuple[int, NDArray[np.bool_]]]:
    return [(palette.class_of[segment.kind], scene.ids == segment.id) for segment in scene.segments]


def _settings(arguments: argparse.Namespace) -> list[Setting]:
    if arguments.thresholds:
        return [
            Setting(name=f"{name}, threshold {value}", threshold=value, background=used)
            for name, used in (("words alone", False), ("background words", True))
            for value in arguments.thresholds
        ]
    if arguments.weights:
        return [Setting(name=f"weight {value}", weight=value) for value in arguments.weights]
    return [
        Setting(name="words alone", background=False),
        Setting(name="background words"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="possam-mini", help="as of `possam segment` (default: possam-mini)")
    parser.add_argument("--split", choices=["mini_b_selection", "mini_b_report"], default="mini_b_selection")
    parser.add_argument("--scenes", type=int, help="the first so many of the split (default: all)")
    numbers = [1, 2, 5, 30]
    parser.add_argument("--words", type=int, nargs="+", default=numbers, metavar="N", help="default: 1 2 5 30")
    parser.add_argument("--ensemble", help="default: the model's own")
    parser.add_argument("--thresholds", type=float, nargs="+", help="score thresholds to compare")
    parser.add_argument("--weights", type=float, nargs="+", help="weights of background words to compare")
    arguments = parser.parse_args()
    predictor = Predictor.from_pretrained(arguments.model)
    scenes = arguments.scenes or SPLITS[arguments.split].scenes
    settings = _settings(arguments)
    rows = list(measure(predictor, arguments.split, scenes, arguments.words, settings, arguments.ensemble))
    rows.sort(key=lambda row: [setting.name for setting in settings].index(row[0]))
    for setting in settings:
        mean = np.mean([row[2] for row in rows if row[0] == setting.name])
        rows.append([setting.name, "mean", mean, *[None] * 4])
    print(tabulate(rows, headers=HEADINGS, floatfmt=".1f"))


if __name__ == "__main__":
    try:
        main()
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")
