"""Training goes on where a file cannot be read: another image takes the place of its image, up to a limit."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from possam.data.pictures import UnreadableFile
from possam.engine.resume import Draw, SeededSamples
from possam.utils.messages import few

__all__ = ["ReadableSamples", "too_many"]

logger = logging.getLogger(__name__)

# A stream of random numbers of its own, beside those of `possam.engine.resume`.
_REPLACEMENT = 2
# One file in the first ten is a tenth of them, and says nothing about a dataset.
_TOLERATED = 10
_TRIES = 100


def too_many(unreadable: int, images: int, limit: float) -> bool:
    """Whether so many unreadable images of so many are more than a limit (a fraction) allows; 0 allows none."""
    return unreadable > (max(_TOLERATED, limit * images) if limit else 0)


class ReadableSamples(Dataset[Any]):
    """The samples of draws, each with the image drawn, or if that does not decode with another one.

    The other image follows from the seed and the number of the draw alone, so a run goes on exactly, and the number of
    processes changes nothing. Images are counted in each loading process for itself, from its start.
    """

    def __init__(self, samples: SeededSamples, *, limit: float) -> None:
        """
        Args:
            samples: raise `UnreadableFile` for a draw whose image, or a file of its annotation, does not decode.
            limit: fraction of the images drawn that may be unreadable, in [0, 1]; above it training ends, once there
                are more than ten. 0: at the first.
        """
        self.samples, self.limit = samples, limit
        self.drawn = self.unreadable = 0
        self._unnamed: list[str] = []

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, draw: Draw) -> Any:
        """
        Raises:
            ValueError: too many images are unreadable.
        """
        others = np.random.default_rng((draw.seed, _REPLACEMENT, draw.number))
        for _ in range(_TRIES):
            self.drawn += 1
            try:
                return self.samples[draw]
            except UnreadableFile as error:
                self._count(error)
            draw = draw._replace(image=int(others.integers(len(self))))
        raise ValueError(f"{_TRIES} images drawn one after the other cannot be read; fix the files.")

    def _count(self, error: UnreadableFile) -> None:
        self.unreadable += 1
        share = f"{self.unreadable:,} of the {self.drawn:,} images that this loading process has drawn cannot be read"
        if too_many(self.unreadable, self.drawn, self.limit):
            raise ValueError(
                f"{error} So {share}, more than DATALOADER.MAX_UNREADABLE {self.limit:g} allows; fix the files "
                "(DATASETS.CHECK names them before training)."
            ) from error
        self._unnamed.append(str(error))
        # At the 1st, 2nd, 4th, 8th ...: a line an image would drown the log.
        if self.unreadable & (self.unreadable - 1) == 0:
            logger.warning("%s; others take their places. New among them: %s", share, few(self._unnamed))
            self._unnamed.clear()
