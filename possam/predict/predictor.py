"""Segment images with any list of names, and prompts in an image that is encoded once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, overload

import numpy as np
import torch
from numpy.typing import NDArray

from possam.data import build_resize
from possam.data.pictures import Picture, to_rgb
from possam.models import MaskProposals, OpenVocabularySegmenter
from possam.models.prediction import needs_prompts, no_prompts
from possam.predict.background import check_options, choose_background
from possam.predict.limits import warn_of
from possam.predict.naming import name_masks
from possam.predict.prompted_result import PromptedResult
from possam.predict.prompting import EncodedImage, EverythingOptions, parse_prompts
from possam.predict.segmentation import Segmentation, check_tasks
from possam.vocabulary import Hierarchy, Vocabulary
from possam.vocabulary.words import read_words

__all__ = ["Names", "Predictor"]

Names: TypeAlias = Vocabulary | Hierarchy | str | Path | Sequence[str]
"""What a `Predictor` takes as a vocabulary."""


class Predictor:
    """Predict masks and names in images with a trained model.

    Text embeddings and the mask proposals of the last images are kept, so that another vocabulary on the same image
    costs only its text and the merging. Several threads may call one predictor.

    `set_image` encodes an image for the calls after it: `prompt` and `everything` of a system that takes prompts,
    `segment` of the others. Threads share the image that is set; to prompt several images at a time, keep what
    `encode` returns for each.
    """

    def __init__(self, model: OpenVocabularySegmenter, *, keep_images: int = 4, max_names: int = 30_000) -> None:
        """
        Args:
            model: trained; it is put in eval mode.
            keep_images: number of images whose mask proposals are kept (65 MB each at full size); 0 for none.
            max_names: longest list of names to accept. Each name is embedded once, in 14 sentences: 21,000 names take
                hours on one CPU thread with a large CLIP; embedding resumes (docs/tutorials/own_vocabulary.md).

        Raises:
            ValueError: `model` is no model, such as the name of one, or `keep_images` is negative.
        """
        if not isinstance(model, OpenVocabularySegmenter):
            wanted = repr(str(model)) if isinstance(model, str | Path) else "name or folder"
            raise ValueError(
                f"Predictor takes a model, but got {model!r:.100} ({type(model).__name__}); "
                f"use Predictor.from_pretrained({wanted}) to load one."
            )
        if keep_images < 0:
            raise ValueError(f"keep_images is {keep_images}, but must be at least 0.")
        self.model = model.eval()
        self.keep_images = keep_images
        self.max_names = max_names
        # Oldest first; replaced, never changed, as other threads may read it.
        self._seen: dict[bytes, MaskProposals] = {}
        self._doubted = False
        self._image: EncodedImage | NDArray[np.uint8] | None = None  # replaced likewise

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        revision: str | None = None,
        weights: Mapping[str, str | Path] | None = None,
        device: str | torch.device | None = None,
        cache_dir: str | Path | None = None,
        text_cache: str | Path | None = None,
        token: str | bool | None = None,
    ) -> Predictor:
        """Load a model by the name of one that comes with the package, a folder, or a repository of the hub.

        Args:
            source: "possam-mini" or, for prompts, "possam-mini-prompt", which are in the package, or as of
                `OpenVocabularySegmenter.from_pretrained`, as are the other arguments and what is raised.
        """
        from possam.shipped import pretrained_folder

        if not isinstance(source, str | Path):
            raise ValueError(
                f"from_pretrained takes the name or the folder of a model, but got a {type(source).__name__}; "
                "a model that is loaded already is given to Predictor itself."
            )
        model = OpenVocabularySegmenter.from_pretrained(
            pretrained_folder(source),
            revision=revision,
            weights=weights,
            device=device,
            cache_dir=cache_dir,
            text_cache=text_cache,
            token=token,
        )
        return cls(model)

    @overload
    def __call__(
        self,
        images: Picture,
        vocabulary: Names,
        *,
        ensemble: str | None = None,
        tasks: Sequence[str] = (),
        threshold: float | None = None,
        background: bool | None = None,
    ) -> Segmentation: ...

    @overload
    def __call__(
        self,
        images: list[Picture] | tuple[Picture, ...],
        vocabulary: Names,
        *,
        ensemble: str | None = None,
        tasks: Sequence[str] = (),
        threshold: float | None = None,
        background: bool | None = None,
    ) -> list[Segmentation]: ...

    def __call__(
        self,
        images: Picture | list[Picture] | tuple[Picture, ...],
        vocabulary: Names,
        *,
        ensemble: str | None = None,
        tasks: Sequence[str] = (),
        threshold: float | None = None,
        background: bool | None = None,
    ) -> Segmentation | list[Segmentation]:
        """Segment one image, or several together.

        Args:
            images: a path; an http or https address; the bytes of a file, or a file opened for reading bytes; a PIL
                image; an H×W×3 uint8 RGB or H×W uint8 gray array; or a torch tensor, 3×H×W or 1×H×W, uint8 or float in
                [0, 1]. Or a list of them, which goes through the network as one batch. Channels are RGB: an array of
                OpenCV is BGR, which cannot be seen in it, so pass ``image[..., ::-1]``. More in
                `possam.data.pictures.to_rgb`.
            vocabulary: what to look for: a list of words (`possam.vocabulary.words.read_words`: "dog", "sofa, couch",
                "sky: stuff") or a text of them ("dog, sofa|couch, sky: stuff"), a dataset's table by its name
                ("ade20k_150"), a vocabulary's JSON file, or a Vocabulary. Or a Hierarchy: a segment is then named level
                by level, and gets the deepest name that is sure (`Hierarchy.classify`).
            ensemble: how the trained classifier and CLIP are combined ("mase", "geometric", "ldp", "clip" …);
                by default the model's own way. Its constants are those of MODEL.ENSEMBLE in the model's configuration.
            tasks: what the result has beside the panoptic segmentation: "semantic", "instance" or both.
            threshold: score in [0, 1] above which a mask is kept; by default the model's own
                (MODEL.MASK_FORMER.TEST.OBJECT_MASK_THRESHOLD).
            background: whether the names of the model's training compete beside the words, so that a word that is not
                in the image finds nothing; what they win is dropped (`possam.vocabulary.background`). By default they
                do for words, and not for a dataset's table, which names everything itself, nor for a Hierarchy.

        Returns:
            A Segmentation, or a list of them for a list of images.

        Raises:
            FileNotFoundError, ValueError: an image or the vocabulary cannot be used; the message says what to do.
        """
        check_tasks(tasks)
        name = self.namer(vocabulary, ensemble=ensemble, tasks=tasks, threshold=threshold, background=background)
        several = isinstance(images, list | tuple)
        pictures = list(images) if isinstance(images, list | tuple) else [images]
        arrays = [to_rgb(picture) for picture in pictures]
        proposed = self._propose(arrays)
        results = [
            name(array, proposals, file_name=_file_name(picture))
            for picture, array, proposals in zip(pictures, arrays, proposed, strict=True)
        ]
        return results if several else results[0]

    def prepare(self, image: NDArray[np.uint8]) -> torch.Tensor:
        """The network's input, 3×h×w uint8 RGB, of an image H×W×3 uint8 RGB. Any thread may call."""
        return torch.tensor(self._fit(image)).permute(2, 0, 1)

    def namer(
        self,
        vocabulary: Names,
        *,
        ensemble: str | None = None,
        tasks: Sequence[str] = (),
        threshold: float | None = None,
        background: bool | None = None,
    ) -> Callable[..., Segmentation]:
        """Check a vocabulary and options once, for any number of images.

        Args:
            vocabulary, ensemble, tasks, threshold, background: as calling the predictor.

        Returns:
            A function that names and merges what the model proposed for ``prepare(image)``: its arguments are `image`,
            H×W×3 uint8 RGB, and `proposals`. Any thread may call it.

        Raises:
            ValueError: as calling the predictor.
        """
        checked = self.check(vocabulary, ensemble, threshold=threshold, background=background)
        if self.model.takes_prompts:
            raise ValueError(needs_prompts(self.model))
        names = vocabulary if isinstance(vocabulary, Hierarchy) else checked
        beside = choose_background(self.model, names, background)
        options: dict[str, Any] = {"ensemble": ensemble, "tasks": tasks, "threshold": threshold, "background": beside}
        return partial(name_masks, self.model, names=names, **options)

    def check(
        self,
        vocabulary: Names,
        ensemble: str | None = None,
        progress: Callable[[int, int], None] | None = None,
        *,
        threshold: float | None = None,
        background: bool | None = None,
    ) -> Vocabulary:
        """Check, before any image, that a vocabulary and options can be used, and embed its text.

        Args:
            ensemble, threshold, background: as calling the predictor.
            progress: called with how many of more than 256 names are embedded, and how many there are.

        Returns:
            The vocabulary; of a hierarchy, all its nodes.

        Raises:
            ValueError: as calling the predictor.
        """
        check_options(threshold, background)
        self.model.find_ensemble(ensemble)
        chosen = vocabulary.vocabulary if isinstance(vocabulary, Hierarchy) else vocabulary
        if not isinstance(chosen, Vocabulary):
            chosen = read_words(chosen)
        if len(chosen.names) > self.max_names:
            raise ValueError(
                f"the vocabulary has {len(chosen.names)} names, but at most {self.max_names} are taken; split it, or "
                "make the Predictor with a larger max_names if you mean it."
            )
        self.model.text_bank.embed(chosen, progress)
        return chosen

    def encode(self, image: Picture) -> EncodedImage:
        """Encode an image once for any number of prompts.

        Args:
            image: as for calling the predictor.

        Raises:
            ValueError: the model takes no prompts.
            FileNotFoundError, ValueError: the image cannot be read.
        """
        pixels = to_rgb(image)
        self._warn(pixels)
        return EncodedImage(self.model, pixels, file_name=_file_name(image))

    def set_image(self, image: Picture) -> None:
        """Encode an image for the calls of `prompt`, `everything` and `segment` after this.

        Raises:
            FileNotFoundError, ValueError: the image cannot be read.
        """
        self.reset_image()  # a failure leaves none, rather than the one before
        if self.model.takes_prompts:
            self._image = self.encode(image)
        else:
            pixels = to_rgb(image)
            self._propose([pixels])
            self._image = pixels

    def reset_image(self) -> None:
        """Forget the image that was set."""
        self._image = None

    def prompt(
        self,
        *,
        points: Any = None,
        labels: Any = None,
        boxes: Any = None,
        classes: Vocabulary | str | Path | Sequence[str] | None = None,
        ensemble: str | None = None,
    ) -> PromptedResult:
        """The masks of points and boxes of the image that was set, with their names.

        Args:
            points: P×2 numbers (x, y), the points of one object in pixels of the image as it was given, or N×P×2 for N
                objects.
            labels: P or N×P: 1 for a point on the object (the default), 0 for one outside it, -1 for none.
            boxes: 4 numbers x0, y0, x1, y1 in pixels, or N×4. With points, they are those of the same N objects.
            classes: the names to choose from, as calling the predictor; by default those of the training.
            ensemble: as calling the predictor.

        Raises:
            ValueError: no image is set, the model takes no prompts, or points, boxes or names cannot be used.
        """
        image = self._encoded("prompt")
        prompts = parse_prompts(points, labels, boxes)
        return image.prompt(prompts, self._names(classes, ensemble), ensemble=ensemble)

    def everything(
        self,
        classes: Vocabulary | str | Path | Sequence[str] | None = None,
        options: EverythingOptions | None = None,
        *,
        ensemble: str | None = None,
        threshold: float | None = None,
        background: bool | None = None,
    ) -> PromptedResult:
        """Segment and name everything in the image that was set, from a grid of points (`EncodedImage.everything`).

        Args:
            classes, ensemble: see `prompt`.
            options: which masks are kept.
            threshold, background: as calling the predictor, but by default there is neither.

        Raises:
            ValueError: as `prompt`.
        """
        image = self._encoded("everything")
        return image.everything(
            self._names(classes, ensemble), options, ensemble=ensemble, threshold=threshold, background=background
        )

    def segment(
        self,
        classes: Vocabulary | str | Path | Sequence[str],
        *,
        ensemble: str | None = None,
        tasks: Sequence[str] = (),
        threshold: float | None = None,
        background: bool | None = None,
    ) -> Segmentation:
        """Segment the image that was set, as calling the predictor.

        Raises:
            ValueError: no image is set, the model needs prompts, or the names cannot be used.
        """
        image = self._image
        if image is None:
            raise ValueError("there is no image; call set_image before segment.")
        if isinstance(image, EncodedImage):
            raise ValueError(needs_prompts(self.model))
        return self(
            image, classes, ensemble=ensemble, tasks=tasks, threshold=threshold, background=background
        )

    def _encoded(self, caller: str) -> EncodedImage:
        image = self._image
        if not self.model.takes_prompts:
            raise ValueError(no_prompts(self.model))
        if not isinstance(image, EncodedImage):
            raise ValueError(f"there is no image; call set_image before {caller}.")
        return image

    def _names(
        self, classes: Vocabulary | str | Path | Sequence[str] | None, ensemble: str | None
    ) -> Vocabulary:
        if isinstance(classes, Hierarchy):
            raise ValueError("a hierarchy names the segments of whole images; with prompts, give a list of classes.")
        return self.check(self.model.train_vocabulary if classes is None else classes, ensemble)

    @torch.no_grad()
    def _propose(self, images: Sequence[NDArray[np.uint8]]) -> list[MaskProposals]:
        keys = [hashlib.sha256(f"{image.shape}".encode() + image.tobytes()).digest() for image in images]
        seen = self._seen
        found = {key: seen[key] for key in keys if key in seen}
        new = {key: image for key, image in zip(keys, images, strict=True) if key not in found}
        if new:
            inputs = [{"image": self.prepare(image)} for image in new.values()]
            found |= dict(zip(new, self.model.propose(inputs), strict=True))
        recent = [*((key, seen) for key, seen in self._seen.items() if key not in found), *found.items()]
        self._seen = dict(recent[max(0, len(recent) - self.keep_images) :])
        return [found[key] for key in keys]

    def _fit(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The image at the network's size, as in the evaluation."""
        self._warn(image)
        resize = build_resize(self.model.image_size, self.model.shortest_edge)
        return resize.get_transform(image).apply_image(image)

    def _warn(self, image: NDArray[np.uint8]) -> None:
        self._doubted = self._doubted or warn_of(self.model, image)  # said once


def _file_name(picture: Picture) -> str:
    return str(picture) if isinstance(picture, str | Path) else ""
