"""The README of a saved model: what it is, how to load it, what it was trained on, how well it does."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tabulate import tabulate

from possam.vocabulary import Vocabulary

Results = Mapping[str, Mapping[str, float | None]]
"""By dataset, metrics in percent by their headings: {dataset: {"PQ": 12.3}}; `possam.evaluation.headline_metrics` makes
such of the content of a results.json. None and NaN say that there is no number."""

_NAMES_SHOWN = 200

_CARD = """\
---
library_name: possam
pipeline_tag: {pipeline}
{license_line}tags: [open-vocabulary-segmentation, {tag}]
---

# {title}

{architecture} of the Python package `possam`, {purpose}

## Use

```python
from possam import Predictor

predictor = Predictor.from_pretrained("{source}")
{use}
```

## What is in here

`model.safetensors` holds the {count:,} trained parameters alone. The frozen encoders come from their own files, named
by `config.yaml` or by `weights` of `from_pretrained`, and must be these:

{encoders}

## Training data

{data}

Training vocabulary (`vocabulary.json`), {vocabulary_name}: {things} kinds of things and {stuff} of stuff. {classes}

## Results

{results}

## Limits

{limits}Names outside of the training vocabulary rest on the frozen CLIP, whose mistakes and biases they share. A score
orders the segments of a picture; it is no probability that a segment is right.

## License

{license}
"""

_EVERYTHING = {
    "pipeline": "image-segmentation",
    "tag": "panoptic-segmentation",
    "purpose": "for open-vocabulary panoptic segmentation: an image and any list of names\n"
    "go in, a mask and a name for every pixel come out.",
    "use": """result = predictor("{image}", {names})
print(result.labels, result.segmentation.shape)""",
}
_PROMPTED = {
    "pipeline": "mask-generation",
    "tag": "promptable-segmentation",
    "purpose": "for promptable open-vocabulary segmentation: an image, points or\n"
    "boxes and any list of names go in, a mask and a name for every prompt come out.",
    "use": """predictor.set_image("{image}")
result = predictor.prompt(points=[[64, 48]], classes={names})
print(result.labels, result.iou, result.masks.shape)""",
}


def model_card(
    *,
    title: str,
    source: str,
    architecture: str,
    parameters: int,
    frozen: Mapping[str, Mapping[str, Any]],
    weights: Mapping[str, str],
    vocabulary: Vocabulary,
    data: Sequence[str] = (),
    prompts: bool = False,
    results: Results | None = None,
    limits: str = "",
    license: str = "",
) -> str:
    """Markdown with the front matter that the Hugging Face hub reads.

    Args:
        source: what `from_pretrained` is given: a folder's name or a repository.
        architecture: the model's class.
        parameters: number of trained parameters.
        frozen: the encoders, as `describe_frozen` gives them; weights: by the same keys, where their weights come from.
        vocabulary: the training vocabulary.
        prompts: whether the model makes masks of prompts.
        data: names of the datasets of the training.
        results: what was measured, if anything was.
        limits: a sentence on the images that the model cannot read.
        license: of the parameters, as the hub calls it, such as "apache-2.0".

    Raises:
        ValueError: `results` are not {dataset: {heading: number}}, or there are none of a dataset.
    """
    rows = [
        [role.upper(), entry["name"], f"`{entry['fingerprint']}`", f"`{weights.get(role) or 'random'}`"]
        for role, entry in frozen.items()
    ]
    names = vocabulary.display_names
    example = [0, len(names) - 1] if len(names) > 1 else [0]
    words = [names[index] + ("" if vocabulary.isthing[index] else ": stuff") for index in example]
    kind = _PROMPTED if prompts else _EVERYTHING
    image = "drawing.png" if limits else "photo.jpg"
    return _CARD.format(
        **kind | {"use": kind["use"].format(image=image, names=words)},
        title=title,
        source=source,
        architecture=architecture,
        count=parameters,
        encoders=_table(rows, ["encoder", "name", "fingerprint", "weights"]),
        vocabulary_name=vocabulary.name,
        things=sum(vocabulary.isthing),
        stuff=len(vocabulary) - sum(vocabulary.isthing),
        classes=", ".join(names[:_NAMES_SHOWN]) + (" …" if len(names) > _NAMES_SHOWN else "."),
        data=f"Trained on {', '.join(data)}." if data else "No dataset is recorded.",
        results=f"In percent:\n\n{_results_table(results)}" if results else "No evaluation is recorded.",
        limits=f"{limits}\n" if limits else "",
        license_line=f"license: {license}\n" if license else "",
        license=(
            f"The parameters in this folder: {license}. The frozen encoders and the data have licenses of their own."
            if license
            else "None is stated for the parameters in this folder; the frozen encoders and the data have their own."
        ),
    )


def _results_table(results: Results) -> str:
    for dataset, metrics in results.items():
        if not isinstance(metrics, Mapping) or not metrics or not all(map(_is_number, metrics.values())):
            raise ValueError(
                f"The results of {dataset!r} must be numbers by the names of metrics, such as {{'PQ': 12.3}}, but are "
                f"{metrics!r:.80}; possam.evaluation.headline_metrics makes them of the content of a results.json."
            )
    headings = list(dict.fromkeys(heading for metrics in results.values() for heading in metrics))
    rows = [[dataset, *(_number(metrics.get(heading)) for heading in headings)] for dataset, metrics in results.items()]
    return _table(rows, ["dataset", *headings])


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _number(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.1f}"


def _table(rows: list[list[str]], headers: list[str]) -> str:
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)
