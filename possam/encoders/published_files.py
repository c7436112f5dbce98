"""Files of parameters that other projects publish: where they lie, and what to know of them.

They are listed without importing PyTorch; what makes models of them is in possam/models/converters/.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PUBLISHED", "PublishedFile", "published_files"]


@dataclass(frozen=True, kw_only=True)
class PublishedFile:
    """A file of published parameters.

    Attributes:
        name: key for `possam weights`.
        url: page where it is fetched by hand.
        filename: what it is called there; "" where that is not known.
        repo: Hugging Face repository that has it; "" for a file that cannot be downloaded by a program.
        note: what to know before using it, such as its license; "" for nothing.
        train_vocabulary: what it was trained on, where that differs between files of one kind; else "".
    """

    name: str
    url: str
    filename: str = ""
    repo: str = ""
    note: str = ""
    train_vocabulary: str = ""


def published_files() -> dict[str, PublishedFile]:
    """All of `PUBLISHED` by their names."""
    return {file.name: file for files in PUBLISHED.values() for file in files}


def _drive(clip: str, drive_id: str, filename: str = "") -> PublishedFile:
    url = f"https://drive.google.com/file/d/{drive_id}"
    return PublishedFile(name=f"fcclip_{clip}", url=url, filename=filename)


_NOTE = "code under S-Lab License 1.0, non-commercial; the weights' card states no license"
_REPO, _DEMO = "HarborYuan/ovsam_models", "spaces/HarborYuan/ovsam"


def _hub(name: str, filename: str, train_vocabulary: str = "", *, repo: str = _REPO) -> PublishedFile:
    """A file of the authors' repository of weights or, without `repo`, of their demo."""
    return PublishedFile(
        name=f"ovsam_{name}",
        url=f"https://huggingface.co/{repo or _DEMO}",
        filename=filename,
        repo=repo,
        note=_NOTE,
        train_vocabulary=train_vocabulary,
    )


PUBLISHED = {
    "fcclip": (
        _drive("RN50", "1tcB-8FNON-LwckXQbUyKcBA2G7TU65Zh", "fcclip_cocopan_r50.pth"),
        _drive("RN101", "1P0mdgftReWzVbPQ0O0CSBfW3krHhTOj0"),
        _drive("RN50x4", "1nUpUsNUE22eOV9skxv9IyIkmCbg5jrIF"),
        _drive("RN50x16", "1rJu2UwwtI0VLDl9CyB8Mkgw9qHlnX70W"),
        _drive("RN50x64", "1rvfFVp5p3PZQsHp2NGVEBeYYcqgVVaZX"),
        _drive("convnext_large_d_320", "1-91PIns86vyNaL3CzMmDD39zKGnPMtvj", "fcclip_cocopan.pth"),
    ),
    "ovsam": (
        _hub("sam2clip", "sam2clip_vith_rn50x16.pth"),
        _hub("coco", "clip2sam_coco_rn50x16.pth", "coco_48_17_base"),
        _hub("lvis", "clip2sam_lvis_rn50x16.pth", "lvis_866_337_base"),
        _hub("demo", "ovsam_R50x16_lvisnorare.pth", "lvis_866_337_base", repo=""),
    ),
}
"""By converter, in possam/models/converters/."""
