"""Prediction on batches of images in tables, for engines such as Ray Data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from possam.utils.messages import did_you_mean

if TYPE_CHECKING:
    from possam.predict.predictor import Names, Predictor
    from possam.predict.segmentation import Segmentation

__all__ = ["BatchPredictor"]

_LISTS = {
    "rles": "string",
    "names": "string",
    "category_ids": "int64",
    "isthing": "bool",
    "scores": "float64",
    "areas": "int64",
}
_OPTIONS = ("ensemble", "threshold", "background")
_COLUMNS = ("height", "width", *_LISTS, "error")


class BatchPredictor:
    """A model and a vocabulary, for `ray.data.Dataset.map_batches` with batch_format="numpy".

    It is pickled without the model, which is loaded at the first call, once in each worker. Give Ray the class itself
    and its arguments as fn_constructor_args and fn_constructor_kwargs, so that an actor keeps the model for all its
    batches (docs/tutorials/many_images.md).

    A batch is a dict of arrays with a row an image. The column of images is replaced by these; the lists have an entry
    a segment, and are typed arrays of Arrow, also where they are empty:

    - ``height``, ``width``: of the image, in pixels; 0 where it was not read;
    - ``rles``: masks as the counts of COCO's compressed run lengths, in ASCII
      (``pycocotools.mask.decode({"size": [height, width], "counts": rle})``);
    - ``names``, ``category_ids``, ``isthing``: display name, id in the vocabulary's dataset, and whether it is a thing;
    - ``scores``: float64 in [0, 1]; ``areas``: int64, in pixels;
    - ``error``: why there is nothing of this image, or "".
    """

    def __init__(
        self,
        model: str | Path,
        vocabulary: Names,
        *,
        image_column: str = "image",
        batch_size: int = 1,
        options: Mapping[str, Any] | None = None,
        load: Mapping[str, Any] | None = None,
    ) -> None:
        """
        Args:
            model: as `Predictor.from_pretrained` takes it; every worker must find it there.
            vocabulary: as calling a `Predictor`.
            image_column: of arrays H×W×3 uint8 RGB or H×W uint8 gray, or of bytes of files that Pillow reads.
            batch_size: how many images of a batch, of equal size once padded, go through the network at a time; see
                `segment_files`.
            options: arguments of calling the predictor: "ensemble", "threshold" and "background".
            load: further arguments of `Predictor.from_pretrained`, such as {"device": "cuda"}.

        Raises:
            ValueError: `batch_size` is less than 1, or there is no such option.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}, but at least 1 image goes through the network at a time.")
        for option in options or {}:
            if option not in _OPTIONS:
                raise ValueError(
                    f"options has {option!r}, but takes {', '.join(_OPTIONS)}.{did_you_mean(option, _OPTIONS)}"
                )
        self.model = model
        self.vocabulary = vocabulary
        self.image_column = image_column
        self.batch_size = batch_size
        self.options = dict(options or {})
        self.load = dict(load or {})
        self._predictor: Predictor | None = None
        self._name: Callable[..., Segmentation] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_predictor": None, "_name": None}

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Segment the images of a batch.

        Returns:
            The batch's columns but that of the images, and those that the class describes.

        Raises:
            FileNotFoundError, ValueError: the model or the vocabulary cannot be used, there is no column of images, or
                a column has the name of one that is to be added. An image that cannot be read is no error.
            ImportError: PyArrow is not installed.
        """
        if self.image_column not in batch:
            raise ValueError(
                f"there is no column {self.image_column!r} of images among {', '.join(batch)}; give image_column."
            )
        others = {name: values for name, values in batch.items() if name != self.image_column}
        if taken := sorted(set(others) & set(_COLUMNS)):
            raise ValueError(f"the columns {', '.join(taken)} have names of columns to be added; rename them first.")
        return others | _columns(self._segment(batch[self.image_column]))

    def _segment(self, images: Sequence[Any]) -> list[dict[str, Any]]:
        """A row of results for each image."""
        from possam.models.batch import padded_size
        from possam.predict.pipeline import by_size

        predictor, name = self._loaded()
        read = [_read(image) for image in images]
        rows = [_row(error=image) if isinstance(image, str) else {} for image in read]
        inputs = ((place, predictor.prepare(image)) for place, image in enumerate(read) if not isinstance(image, str))
        for group in by_size(inputs, lambda x: padded_size([x[1]], predictor.model.pad_to, (0, 0)), self.batch_size):
            proposed = predictor.model.propose([{"image": image} for _, image in group])
            for (place, _), proposals in zip(group, proposed, strict=True):
                image = read[place]
                assert not isinstance(image, str)
                rows[place] = _row(name(image, proposals))
        return rows

    def _loaded(self) -> tuple[Predictor, Callable[..., Segmentation]]:
        """The predictor, and what names its masks (`Predictor.namer`)."""
        if self._predictor is None or self._name is None:
            from possam.predict.predictor import Predictor

            predictor = Predictor.from_pretrained(self.model, **self.load)
            self._name = predictor.namer(self.vocabulary, **self.options)
            self._predictor = predictor
        return self._predictor, self._name


def _read(image: Any) -> NDArray[np.uint8] | str:
    """H×W×3 uint8 RGB, or why there is none."""
    from possam.data.pictures import to_rgb

    try:
        return to_rgb(image if isinstance(image, bytes) else np.asarray(image))
    except ValueError as error:
        return str(error)


def _row(result: Segmentation | None = None, error: str = "") -> dict[str, Any]:
    from possam.data.run_lengths import encode_mask

    if result is None:
        return {"height": 0, "width": 0, **{name: [] for name in _LISTS}, "error": error}
    height, width = result.segmentation.shape
    infos, categories = result.segments_info, result.vocabulary.categories
    return {
        "height": height,
        "width": width,
        "rles": [encode_mask(result.segmentation == info["id"])["counts"] for info in infos],
        "names": [info["label"] for info in infos],
        "category_ids": [categories[info["label_id"]].dataset_id for info in infos],
        "isthing": [bool(info["isthing"]) for info in infos],
        "scores": [info["score"] for info in infos],
        "areas": [info["area"] for info in infos],
        "error": error,
    }


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Columns of Arrow's types, which cannot be inferred from empty lists."""
    try:
        import pyarrow
    except ImportError as error:
        raise ImportError("BatchPredictor needs PyArrow, which is not installed; pip install 'possam[ray]'.") from error
    columns: dict[str, Any] = {
        name: [pyarrow.array(row[name], type=kind) for row in rows] for name, kind in _LISTS.items()
    }
    sizes = {name: np.array([row[name] for row in rows], dtype=np.int64) for name in ("height", "width")}
    return {**sizes, **columns, "error": np.array([row["error"] for row in rows], dtype=object)}
