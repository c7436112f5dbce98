"""Registration of datasets in the COCO panoptic format: a JSON, a folder of images, one of RGB id PNGs."""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from possam.d2.data import DatasetCatalog, MetadataCatalog
from possam.data.id_maps import MAX_ID
from possam.files import read_json
from possam.messages import did_you_mean, few
from possam.vocabulary import Vocabulary

__all__ = ["CONFIG_KEYS", "load_panoptic", "register_from_config", "register_panoptic"]

LABEL_DIVISOR = 1000
IGNORE_LABEL = 255
CONFIG_KEYS = ("name", "image_root", "panoptic_root", "panoptic_json", "vocabulary")


def register_panoptic(
    name: str,
    *,
    image_root: str | Path,
    panoptic_root: str | Path,
    panoptic_json: str | Path,
    vocabulary: Vocabulary | None = None,
    prepare: str = "",
) -> None:
    """Make a panoptic dataset known to the catalogs under `name`.

    The JSON is read and validated (`load_panoptic`) whenever the dataset is loaded, so a dataset with its own
    `vocabulary` may be registered before its files are there. Registering the same dataset again is harmless.

    Args:
        name: name in ``DatasetCatalog`` and ``MetadataCatalog``.
        image_root: folder to which the JSON's ``images[].file_name`` are relative.
        panoptic_root: folder to which the JSON's ``annotations[].file_name`` are relative.
        panoptic_json: the annotation file.
        vocabulary: the classes; their `dataset_id` are the JSON's category ids. None: the JSON's own
            ``categories``, which are then read now.
        prepare: what to do for the files, said where they are missing when the dataset is loaded.

    Raises:
        ValueError: another dataset has this name already; or the JSON's categories are unusable.
        FileNotFoundError: `vocabulary` is None and there is no JSON.
    """
    if vocabulary is None:
        content = read_json(panoptic_json)
        _require(content, ("categories",), f"{panoptic_json}")
        vocabulary = Vocabulary.from_coco_categories(content["categories"], name)
    places = {
        "image_root": str(image_root),
        "panoptic_root": str(panoptic_root),
        "panoptic_json": str(panoptic_json),
    }
    if name in DatasetCatalog.list():
        _check_same(name, {**places, "vocabulary": vocabulary})
        return
    chosen = vocabulary

    def load() -> list[dict[str, Any]]:
        if prepare and not Path(panoptic_json).is_file():
            raise FileNotFoundError(f"{name} is not prepared: {panoptic_json} does not exist. {prepare}")
        return load_panoptic(**places, vocabulary=chosen)

    DatasetCatalog.register(name, load)
    contiguous = vocabulary.contiguous_id
    isthing = vocabulary.isthing
    MetadataCatalog.get(name).set(
        **places,
        vocabulary=vocabulary,
        # One list of classes serves both names: a contiguous id indexes either of them.
        thing_classes=list(vocabulary.display_names),
        stuff_classes=list(vocabulary.display_names),
        thing_dataset_id_to_contiguous_id={k: v for k, v in contiguous.items() if isthing[v]},
        stuff_dataset_id_to_contiguous_id={k: v for k, v in contiguous.items() if not isthing[v]},
        label_divisor=LABEL_DIVISOR,
        ignore_label=IGNORE_LABEL,
        evaluator_type="possam_panoptic",
    )


def register_from_config(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Register the datasets of a config's list (``DATASETS.PANOPTIC``) and return their names.

    Args:
        entries: mappings with the keys `CONFIG_KEYS`; ``vocabulary`` is the name of a shipped table, the
            path of a vocabulary JSON, or empty or absent for the categories of the dataset's own JSON.

    Raises:
        ValueError: an entry is not a mapping, lacks a key, or has one that is not known.
    """
    names = []
    for position, entry in enumerate(entries):
        where = f"DATASETS.PANOPTIC[{position}]"
        if not isinstance(entry, Mapping):
            raise ValueError(f"{where} must be a mapping of {list(CONFIG_KEYS)}, but got {entry!r}.")
        for key in entry:
            if key not in CONFIG_KEYS:
                hint = did_you_mean(key, CONFIG_KEYS)
                raise ValueError(f"{where} has the unknown key {key!r}; valid: {list(CONFIG_KEYS)}.{hint}")
        missing = [key for key in CONFIG_KEYS if key != "vocabulary" and not entry.get(key)]
        if missing:
            raise ValueError(f"{where} ({entry.get('name', 'no name')}) lacks {missing}; add them.")
        vocabulary = Vocabulary.load(entry["vocabulary"]) if entry.get("vocabulary") else None
        places = {key: entry[key] for key in ("image_root", "panoptic_root", "panoptic_json")}
        register_panoptic(entry["name"], **places, vocabulary=vocabulary)
        names.append(entry["name"])
    return names


def load_panoptic(
    *,
    image_root: str | Path | None,
    panoptic_root: str | Path,
    panoptic_json: str | Path,
    vocabulary: Vocabulary,
) -> list[dict[str, Any]]:
    """Read and validate an annotation file.

    Args:
        image_root: folder of the images, or None where the images are not needed and may be absent.
        panoptic_root, panoptic_json, vocabulary: see `register_panoptic`.
    Returns:
        one dict an annotated image, in the JSON's order: ``file_name``, ``image_id``, ``height``, ``width``,
        ``pan_seg_file_name`` and ``segments_info``, whose entries keep all that the JSON says, with
        ``category_id`` contiguous (a position in `vocabulary`), ``isthing`` and ``iscrowd`` as bools.

    Raises:
        FileNotFoundError: the JSON, images or PNGs are not there; names the first of them.
        ValueError: keys are missing, ids are duplicate, out of range or refer to nothing; names them.
    """
    source = str(panoptic_json)
    content = read_json(panoptic_json)
    _require(content, ("images", "annotations"), source)
    for position, image in enumerate(content["images"]):
        _require(image, ("id", "file_name", "height", "width"), f"{source}: images[{position}]")
    for position, annotation in enumerate(content["annotations"]):
        _require(annotation, ("image_id", "file_name", "segments_info"), f"{source}: annotations[{position}]")
    _unique((image["id"] for image in content["images"]), f"{source}: image ids")
    _unique((a["image_id"] for a in content["annotations"]), f"{source}: annotated image ids")
    _unique((a["file_name"] for a in content["annotations"]), f"{source}: PNG names of annotations")
    images = {image["id"]: image for image in content["images"]}
    absent = [a["image_id"] for a in content["annotations"] if a["image_id"] not in images]
    if absent:
        raise ValueError(
            f"{source}: annotations name the image ids {few(absent)}, which are not among its images; "
            "add the images or remove the annotations."
        )
    records = [
        _record(
            annotation,
            images[annotation["image_id"]],
            Path(image_root or ""),
            Path(panoptic_root),
            vocabulary,
            source,
        )
        for annotation in content["annotations"]
    ]
    if image_root is not None:
        _check_files((record["file_name"] for record in records), f"images of {source}", "image_root")
    _check_files(
        (record["pan_seg_file_name"] for record in records), f"panoptic PNGs of {source}", "panoptic_root"
    )
    return records


def _record(
    annotation: Mapping[str, Any],
    image: Mapping[str, Any],
    image_root: Path,
    panoptic_root: Path,
    vocabulary: Vocabulary,
    source: str,
) -> dict[str, Any]:
    where = f"{source}: image {annotation['image_id']}"
    return {
        "file_name": str(image_root / image["file_name"]),
        "image_id": annotation["image_id"],
        "height": int(image["height"]),
        "width": int(image["width"]),
        "pan_seg_file_name": str(panoptic_root / annotation["file_name"]),
        "segments_info": _segments(annotation["segments_info"], vocabulary, where),
    }


def _segments(
    segments: Sequence[Mapping[str, Any]], vocabulary: Vocabulary, where: str
) -> list[dict[str, Any]]:
    for segment in segments:
        _require(segment, ("id", "category_id", "iscrowd"), f"{where}: segment {segment.get('id', '?')}")
    _unique((segment["id"] for segment in segments), f"{where}: segment ids")
    outside = [s["id"] for s in segments if not (isinstance(s["id"], int) and 0 < s["id"] <= MAX_ID)]
    if outside:
        raise ValueError(f"{where}: segment ids {few(outside)} are not integers in [1, {MAX_ID}].")
    contiguous = vocabulary.contiguous_id
    unknown = sorted({s["category_id"] for s in segments} - contiguous.keys())
    if unknown:
        raise ValueError(
            f"{where}: category ids {few(unknown)} are not in the vocabulary {vocabulary.name!r} "
            f"({len(vocabulary)} classes); give this dataset's own, or none for the JSON's categories."
        )
    result = []
    for segment in segments:
        category = contiguous[segment["category_id"]]
        flags = {"isthing": bool(vocabulary.isthing[category]), "iscrowd": bool(segment["iscrowd"])}
        result.append({**segment, "category_id": category, **flags})
    return result


def _require(content: Any, keys: Sequence[str], where: str) -> None:
    if not isinstance(content, Mapping):
        raise ValueError(f"{where}: expected an object with the keys {list(keys)}, but got {content!r:.80}.")
    missing = [key for key in keys if key not in content]
    if missing:
        raise ValueError(
            f"{where}: the keys {missing} are missing (found {sorted(content)[:12]}); "
            "the file must be in the COCO panoptic format."
        )


def _unique(values: Iterable[Hashable], what: str) -> None:
    repeated = [value for value, count in Counter(values).items() if count > 1]
    if repeated:
        raise ValueError(f"{what} must be distinct, but {few(repeated)} occur more than once.")


def _check_files(paths: Iterable[str], what: str, setting: str) -> None:
    # One listing a folder, because a question a file is slow for 118,000 files on a network disk.
    listings: dict[Path, set[str]] = {}
    missing = []
    for path in map(Path, paths):
        if path.parent not in listings:
            listings[path.parent] = {p.name for p in path.parent.iterdir()} if path.parent.is_dir() else set()
        if path.name not in listings[path.parent]:
            missing.append(str(path))
    if missing:
        raise FileNotFoundError(f"{len(missing)} {what} are missing: {few(missing, 3)}; check {setting}.")


def _check_same(name: str, wanted: Mapping[str, Any]) -> None:
    metadata = MetadataCatalog.get(name)
    different = [key for key, value in wanted.items() if getattr(metadata, key, None) != value]
    if different:
        raise ValueError(
            f"dataset {name!r} is registered already with another {different[0]}; choose another name "
            f"(got {wanted[different[0]]!r:.200})."
        )
