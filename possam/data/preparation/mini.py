"""The miniature world, which is drawn, not downloaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from possam.data.miniature.export import export_split
from possam.data.miniature.splits import SPLITS, split_paths
from possam.data.preparation.plan import Report
from possam.data.preparation.preparation import Preparation, Progress

__all__ = ["MINI", "MiniaturePreparation"]


@dataclass(frozen=True, kw_only=True)
class MiniaturePreparation(Preparation):
    """Draws splits of the miniature world (`possam.data.miniature`).

    Attributes:
        scenes: numbers of scenes by split, where not the splits' own.
    """

    scenes: tuple[tuple[str, int], ...] = ()

    def _run(
        self, root: Path, splits: tuple[str, ...], processes: int, progress: Progress | None, overwrite: bool
    ) -> Report:
        chosen = {name: dict(self.scenes).get(name, SPLITS[name].scenes) for name in splits}
        total, before, report = sum(chosen.values()), 0, Report()
        for name, scenes in chosen.items():

            def advance(done: int, _: int, before: int = before) -> None:
                if progress is not None:
                    progress(before + done, total)

            if overwrite:
                split_paths(root, name)["panoptic_json"].unlink(missing_ok=True)
            drawn = export_split(name, root=root, scenes=scenes, processes=processes, progress=advance)
            files = 2 * scenes + 1 + SPLITS[name].image_labels
            report += Report(written=files) if drawn else Report(kept=files)
            before += scenes
            advance(0, 0, before)
        return report


MINI = MiniaturePreparation(
    name="mini",
    description="the miniature world: drawn here, in the COCO panoptic format, in mini/",
    splits=tuple(name for name, split in SPLITS.items() if not split.extra),
    extra_splits=tuple(name for name, split in SPLITS.items() if split.extra),
)
