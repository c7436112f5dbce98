"""What all evaluators share: one result an image, gathered from all processes, each image once."""

import logging
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from possam.d2.evaluation import DatasetEvaluator
from possam.d2.utils import comm
from possam.evaluation.ground_truth import GroundTruth
from possam.evaluation.groups import class_groups
from possam.evaluation.image_counts import ImageCounts
from possam.vocabulary import Vocabulary

__all__ = ["PerImageEvaluator"]

logger = logging.getLogger(__name__)


class PerImageEvaluator(DatasetEvaluator):  # type: ignore[misc]
    """Base of evaluators whose result is made of one small result an image.

    Results do not depend on how images were spread over processes: they are put in the dataset's order, and
    an image that came twice counts once. `evaluate` gives the result on the main process, None on the others.

    Attributes:
        image_ids: the images that the last result is of, in the dataset's order, on the main process.
        image_counts: the last result's counts of each image, on the main process; None for metrics other than panoptic
            quality.
    """

    def __init__(
        self,
        dataset_name: str,
        *,
        train_vocabulary: Vocabulary | None = None,
        output_dir: str | Path | None = None,
        ground_truth: GroundTruth | None = None,
    ) -> None:
        """
        Args:
            dataset_name: a registered dataset (see `GroundTruth`); its own vocabulary scores it.
            train_vocabulary: what the model was trained on, to score seen and unseen classes apart, or None.
            output_dir: where to write predictions and tables, for evaluators that write any, or None for nowhere.
            ground_truth: the same dataset, already read, to be shared by several evaluators.
        """
        self.ground_truth = ground_truth if ground_truth is not None else GroundTruth(dataset_name)
        if self.ground_truth.name != dataset_name:
            raise ValueError(f"ground truth of {self.ground_truth.name!r} was given for {dataset_name!r}.")
        self.output_dir = Path(output_dir) if output_dir is not None else None
        self.vocabulary = self.ground_truth.vocabulary
        self.groups = class_groups(self.vocabulary, train_vocabulary, self.ground_truth.class_split)
        self.reset()

    @abstractmethod
    def score_image(self, image_id: Any, output: Mapping[str, Any]) -> Any:
        """The result of one image, small and of plain types, since it travels between processes."""

    @abstractmethod
    def summarize(self, results: Sequence[Any]) -> dict[str, dict[str, float]]:
        """The metrics, from the results of all images, in the dataset's order."""

    def reset(self) -> None:
        self._results: dict[Any, Any] = {}
        self.image_ids: tuple[Any, ...] = ()
        self.image_counts: ImageCounts | None = None

    def process(self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]) -> None:
        for sample, output in zip(inputs, outputs, strict=True):
            image_id = sample["image_id"]
            if image_id not in self._results:
                self._results[image_id] = self.score_image(image_id, output)

    def evaluate(self) -> dict[str, dict[str, float]] | None:
        comm.synchronize()
        gathered = comm.gather(self._results, dst=0)
        if not comm.is_main_process():
            return None
        results = {image_id: result for part in gathered for image_id, result in part.items()}
        missing = [image_id for image_id in self.ground_truth.records if image_id not in results]
        if missing:
            logger.warning(
                f"{type(self).__name__}: {len(missing)} of {len(self.ground_truth.records)} images of "
                f"{self.ground_truth.name!r} were not predicted (first: {missing[:5]}); "
                "the result is of the rest."
            )
        self.image_ids = tuple(image_id for image_id in self.ground_truth.records if image_id in results)
        return self.summarize([results[image_id] for image_id in self.image_ids])

    def output_of(self, image_id: Any, output: Mapping[str, Any], key: str) -> Any:
        """``output[key]``. Raises ValueError where the model did not give it."""
        if key not in output:
            raise ValueError(
                f"{type(self).__name__} needs {key!r} in the model's output of image {image_id!r}, "
                f"but there are {sorted(output)}; switch the task on in the model, or off in the evaluation."
            )
        return output[key]

    def check_size(self, image_id: Any, what: str, size: Sequence[int]) -> None:
        """Raises ValueError where a prediction's (height, width) is not that of the image on disk."""
        height, width = self.ground_truth.size(image_id)
        if tuple(size) != (height, width):
            raise ValueError(
                f"{what} of image {image_id!r} has height×width {size[0]}×{size[1]}, but "
                f"{self.ground_truth.record(image_id)['file_name']} has {height}×{width}; "
                "predictions must be at the size of the image on disk."
            )
