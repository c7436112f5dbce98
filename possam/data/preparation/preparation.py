"""A preparation: what is offered by name, and how it is run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from possam.data.preparation.plan import Need, Plan, Report, require
from possam.data.preparation.runner import run_plans
from possam.utils.messages import did_you_mean

__all__ = ["FilePreparation", "Preparation"]

Progress = Callable[[int, int], object]


@dataclass(frozen=True, kw_only=True)
class Preparation(ABC):
    """Makes the files that this project reads of those that a dataset's authors offer.

    Attributes:
        name: key of `PREPARATIONS`.
        description: one line for a person.
        splits: what `run` prepares where nothing is said.
        extra_splits: what it prepares only if it is requested by name.
    """

    name: str
    description: str
    splits: tuple[str, ...] = ("train", "val")
    extra_splits: tuple[str, ...] = ()

    def run(
        self,
        root: Path,
        *,
        processes: int = 1,
        progress: Progress | None = None,
        splits: Sequence[str] | None = None,
        overwrite: bool = False,
    ) -> Report:
        """Prepare under the datasets' root; what is there and whole is left alone.

        Args:
            root: folder of the datasets.
            processes: worker processes; 1 works in this one.
            progress: called with (images done, images in all) after every image.
            splits: some of `splits` and `extra_splits`; None is all of `splits`.
            overwrite: make anew what is there, as after another project's preparation.

        Raises:
            FileNotFoundError: official files are missing; says where to get them. Nothing has been done.
            ValueError: an unknown split, no process, a disk that is too small, or wrong official files, by name.
        """
        chosen, known = tuple(self.splits if splits is None else splits), (*self.splits, *self.extra_splits)
        for split in chosen:
            if split not in known:
                hint = did_you_mean(split, known)
                raise ValueError(f"{self.name} has no split {split!r}; its splits are {list(known)}.{hint}")
        if processes < 1:
            raise ValueError(f"processes must be at least 1, got {processes}")
        return self._run(Path(root), chosen, processes, progress, overwrite)

    @abstractmethod
    def _run(
        self, root: Path, splits: tuple[str, ...], processes: int, progress: Progress | None, overwrite: bool
    ) -> Report: ...


@dataclass(frozen=True, kw_only=True)
class FilePreparation(Preparation):
    """One that works image by image.

    Attributes:
        needs: official files of a split.
        plans: the work on a split, after its needs are there.
    """

    needs: Callable[[str], Sequence[Need]]
    plans: Callable[[Path, str], Sequence[Plan]]

    def _run(
        self, root: Path, splits: tuple[str, ...], processes: int, progress: Progress | None, overwrite: bool
    ) -> Report:
        require(root, {split: self.needs(split) for split in splits})
        plans = [plan for split in splits for plan in self.plans(root, split)]
        return run_plans(plans, processes=processes, progress=progress, overwrite=overwrite)
