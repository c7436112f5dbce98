"""All checks of one dataset, in order: is it here, are the files complete, do their entries and pixels follow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from multiprocessing import get_all_start_methods, get_context
from pathlib import Path

from possam.data.datasets.spec import DatasetSpec
from possam.data.doctor.annotations import ANNOTATION_CHECKS, AnnotationFile
from possam.data.doctor.contents import Contents, read_annotation_file, summarize
from possam.data.doctor.folders import FOLDER_CHECKS, check_absent, missing_paths
from possam.data.doctor.mistakes import MISTAKE_CHECKS, explain
from possam.data.doctor.pictures import CONTENT_CHECKS, HEADER_CHECKS, Check, Rules, examine_samples
from possam.data.doctor.problem import Problem, gather
from possam.data.doctor.tree import Sample, Tree
from possam.data.images import ImageFinder
from possam.data.root import datasets_root
from possam.utils.processes import end_with_parent
from possam.vocabulary import Vocabulary

__all__ = ["examine", "examine_pictures", "is_there"]

# Samples whose pixels are looked at where not all are.
SPREAD = 20
_CHUNK = 64
# Seconds that a sample of 640×427 takes by its header and by its pixels, and from which on starting processes pays.
_SECONDS = {False: 0.0001, True: 0.01}
_WORTH_PROCESSES = 5.0

Progress = Callable[[int, int], None]


def is_there(spec: DatasetSpec, root: str | Path | None = None) -> str:
    """ "yes", "in part" or "no": whether a dataset's files and folders are there; nothing is opened."""
    tree = Tree(spec=spec, root=datasets_root(root))
    if check_absent(tree):
        return "no"
    return "in part" if missing_paths(tree) else "yes"


def examine(
    spec: DatasetSpec,
    root: str | Path | None = None,
    *,
    full: bool = False,
    processes: int = 1,
    progress: Progress | None = None,
) -> list[Problem]:
    """Look for everything that can be wrong with a dataset's files.

    Existence, counts, annotation files, and of every picture the header and the end are always checked; the pixels
    of 20 images, spread over the dataset, or with `full` of all.

    Args:
        root: the folder of the datasets, as `datasets_root` takes it.
        processes: how many read pictures at a time.
        progress: called with the images that are done and that there are.
    Returns:
        problems of one kind joined; [] where all is well; one of the kind `ABSENT` where the dataset is not here.
    """
    option = f" --root {root}" if root else ""
    tree = Tree(spec=spec, root=datasets_root(root), option=option)
    absent = check_absent(tree)
    if absent:
        return [explain(tree, absent)]
    problems = list(_annotation_problems(tree))
    problems += [problem for check in FOLDER_CHECKS for problem in check(tree)]
    problems += _picture_problems(tree, full=full, processes=processes, progress=progress)
    spread = _spread(tree.samples)
    problems += [problem for check in MISTAKE_CHECKS for problem in check(tree, spread)]
    return [explain(tree, problem) for problem in gather(problems)]


def _annotation_problems(tree: Tree) -> Iterator[Problem]:
    """Check the annotation files one after the other; the first readable one lists the images."""
    spec = tree.spec
    files: list[tuple[str, str, Vocabulary, bool]] = []
    if spec.panoptic:
        files.append(("panoptic", spec.panoptic.json, tree.vocabulary, False))
    if spec.instances:
        files.append(("instances", spec.instances.json, tree.things, spec.instances.federated))
    finder = ImageFinder(root=tree.image_folder, names=spec.image_names, suffix=spec.image_suffix)
    first: Contents | None = None
    for kind, name, vocabulary, federated in files:
        path = tree.root / name
        if not path.exists():
            continue
        content, fault, entries = read_annotation_file(path, kind, spec.image_names, federated)
        if fault:
            yield Problem(
                kind="json",
                where=str(path),
                what=f"{path.name} {fault}",
                fix=tree.fix_wrong,
                details=tuple(entries[:3]),
                count=max(1, len(entries)),
            )
            continue
        file = AnnotationFile(
            path=path,
            kind=kind,
            content=content,
            vocabulary=vocabulary,
            federated=federated,
            images_expected=spec.images,
            fix=tree.fix_wrong,
            fix_count=tree.fix_all,
        )
        for check in ANNOTATION_CHECKS:
            yield from check(file)
        contents = summarize(content, finder, tree.vocabulary)
        if first is None:
            first = contents
        else:
            yield from _disagreement(file, first, contents)
    tree.contents = first


def _disagreement(file: AnnotationFile, first: Contents, second: Contents) -> Iterator[Problem]:
    """The dataset's two annotation files are about the same images, of the same sizes."""
    sizes = {entry.path.name: entry.size for entry in first.images.values()}
    others = {entry.path.name: entry.size for entry in second.images.values()}
    lacking = sorted(sizes.keys() - others.keys())
    if lacking:
        yield file.problem("references", "lacks images of the panoptic JSON", lacking)
    different = sorted(name for name in sizes.keys() & others.keys() if sizes[name] != others[name])
    if different:
        yield file.problem("sizes", "gives images other sizes than the panoptic JSON", different)


def _picture_problems(
    tree: Tree, *, full: bool, processes: int, progress: Progress | None
) -> list[Problem]:
    rules = Rules(
        semantic=tree.spec.semantic,
        classes=len(tree.vocabulary),
        fix_all=tree.fix_all,
        fix_wrong=tree.fix_wrong,
    )
    spread = _spread(tree.samples)
    chosen = {id(sample) for sample in spread}
    headers = [sample for sample in tree.samples if id(sample) not in chosen]
    every = (*HEADER_CHECKS, *CONTENT_CHECKS)
    parts = [(tree.samples, every)] if full else [(headers, HEADER_CHECKS), (spread, every)]
    seconds = sum(len(samples) * _SECONDS[checks is every] for samples, checks in parts)
    return examine_pictures(parts, rules, processes=processes if seconds > _WORTH_PROCESSES else 1, progress=progress)


def examine_pictures(
    parts: Sequence[tuple[list[Sample], tuple[Check, ...]]],
    rules: Rules,
    *,
    processes: int,
    progress: Progress | None = None,
) -> list[Problem]:
    """Run on the samples of each part its checks.

    Args:
        processes: how many read pictures at a time.
        progress: called with the samples that are done and that there are.
    """
    total = sum(len(samples) for samples, _ in parts)
    chunks = [
        (samples[start : start + _CHUNK], checks)
        for samples, checks in parts
        for start in range(0, len(samples), _CHUNK)
    ]
    problems: list[Problem] = []
    done = 0
    for (samples, _), found in zip(chunks, _run(chunks, rules, processes), strict=True):
        problems += found
        done += len(samples)
        if progress:
            progress(done, total)
    return problems


def _run(
    chunks: list[tuple[list[Sample], tuple[Check, ...]]], rules: Rules, processes: int
) -> Iterator[list[Problem]]:
    if processes <= 1:
        for samples, checks in chunks:
            yield examine_samples(samples, rules, checks)
        return
    # Not "fork": the parent may draw a progress bar from a thread. A fork server imports once for all workers.
    method = "forkserver" if "forkserver" in get_all_start_methods() else "spawn"
    context = get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(["possam.data.doctor"])
    with ProcessPoolExecutor(processes, mp_context=context, initializer=end_with_parent) as pool:
        yield from pool.map(
            examine_samples, [part for part, _ in chunks], repeat(rules), [checks for _, checks in chunks]
        )


def _spread(samples: list[Sample]) -> list[Sample]:
    if len(samples) <= SPREAD:
        return samples
    return [samples[round(i * (len(samples) - 1) / (SPREAD - 1))] for i in range(SPREAD)]
