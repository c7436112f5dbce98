"""The README of a saved model: what it is, how to load it, what it was trained on, how well it does."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tabulate import tabulate

from possam.vocabulary import Vocabulary

Results = Mapping[str, Mapping[str, Any]]
"""By dataset, what its evaluation found: {dataset: {task: {metric: per cent}}}, as in results.json."""

_METRICS = {
    "PQ": ("panoptic_seg", "PQ"),
    "PQ seen": ("panoptic_seg", "PQ_seen"),
    "PQ unseen": ("panoptic_seg", "PQ_unseen"),
    "SQ": ("panoptic_seg", "SQ"),
    "RQ": ("panoptic_seg", "RQ"),
    "mIoU": ("sem_seg", "mIoU"),
    "AP": ("segm", "AP"),
}
_NAMES_SHOWN = 200

_CARD = """\
---
library_name: possam
pipeline_tag: image-segmentation
tags: [open-vocabulary-segmentation, panoptic-segmentation]
---

# {title}

{architecture} of the Python package `possam`, for open-vocabulary panoptic segmentation: an image and any list of names
go in, a mask and a name for every pixel come out.

## Use

```python
from possam import Predictor

predictor = Predictor.from_pretrained("{source}")
result = predictor("photo.jpg", {names})
print(result.labels, result.segmentation.shape)
```

## What is in here

`model.safetensors` holds the {count:,} trained parameters alone. The frozen encoders come from their own files, named
by `config.yaml` or by `weights` of `from_pretrained`, and must be these:

{encoders}

## Training vocabulary

`vocabulary.json`, {vocabulary_name}: {things} kinds of things and {stuff} of stuff. {classes}
"""


def model_card(
    *,
    title: str,
    source: str,
    architecture: str,
    parameters: int,
    frozen: Mapping[str, Mapping[str, Any]],
    weights: Mapping[str, str],
    vocabulary: Vocabulary,
    results: Results | None = None,
) -> str:
    """Markdown with the front matter that the Hugging Face hub reads.

    Args:
        source: what `from_pretrained` is given: a folder's name or a repository.
        architecture: the model's class.
        parameters: number of trained parameters.
        frozen: the encoders, as `describe_frozen` gives them; weights: by the same keys, where their weights come from.
        vocabulary: the training vocabulary.
        results: what was measured, if anything was.

    Raises:
        ValueError: `results` are not {dataset: {task: {metric: number}}} with a metric of this project.
    """
    rows = [
        [role.upper(), entry["name"], f"`{entry['fingerprint']}`", f"`{weights.get(role) or 'random'}`"]
        for role, entry in frozen.items()
    ]
    names = vocabulary.display_names
    example = [0, len(names) - 1] if len(names) > 1 else [0]
    text = _CARD.format(
        title=title,
        source=source,
        architecture=architecture,
        names=[names[index] + ("" if vocabulary.isthing[index] else ": stuff") for index in example],
        count=parameters,
        encoders=_table(rows, ["encoder", "name", "fingerprint", "weights"]),
        vocabulary_name=vocabulary.name,
        things=sum(vocabulary.isthing),
        stuff=len(vocabulary) - sum(vocabulary.isthing),
        classes=", ".join(names[:_NAMES_SHOWN]) + (" …" if len(names) > _NAMES_SHOWN else "."),
    )
    return text if not results else f"{text}\n## Results\n\n{_results_table(results)}\n"


def _results_table(results: Results) -> str:
    found = {
        dataset: {
            heading: report[task][metric]
            for heading, (task, metric) in _METRICS.items()
            if isinstance(report, Mapping) and metric in (report.get(task) or {})
        }
        for dataset, report in results.items()
    }
    empty = [dataset for dataset, metrics in found.items() if not metrics]
    if empty:
        raise ValueError(
            f"The results of {empty[0]!r} have none of {', '.join(_METRICS)}; expected the content of its "
            "results.json, {task: {metric: number}}."
        )
    headings = [heading for heading in _METRICS if any(heading in metrics for metrics in found.values())]
    rows = [[dataset, *(_number(metrics.get(heading)) for heading in headings)] for dataset, metrics in found.items()]
    return _table(rows, ["dataset", *headings])


def _number(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.1f}"


def _table(rows: list[list[str]], headers: list[str]) -> str:
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)
