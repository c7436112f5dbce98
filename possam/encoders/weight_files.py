"""The official weights of encoders and backbones: where they lie, how large they are, and how to know them again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from possam.utils.files import file_sha256
from possam.utils.messages import did_you_mean

_SAM_URL = "https://dl.fbaipublicfiles.com/segment_anything/"
_TORCHVISION_URL = "https://download.pytorch.org/models/"
# What open_clip and timm look for in a repository, in their order.
_OPEN_CLIP_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
_TIMM_FILES = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True, kw_only=True)
class WeightFile:
    """One file of weights.

    Attributes:
        name: key of `WEIGHTS`.
        filename: what it is called in the folder it is downloaded to.
        model: name for `FrozenSAM.build` (`vit_b`), `FrozenCLIP.build` or `build_backbone`.
        kind: "sam", "clip" or "backbone".
        tag: the pretrained tag of open_clip, timm or torchvision; "" for SAM.
        url: address of a file that is fetched directly; "" for one of a repository.
        repo: Hugging Face repository of a model of open_clip or timm; "" for a file of an address.
        repo_files: what the file may be called in the repository, the first that is there is taken.
        size: bytes, None where only the server knows.
        sha256: hexadecimal, None where only the server knows.
    """

    name: str
    filename: str
    model: str
    kind: str = "clip"
    tag: str = ""
    url: str = ""
    repo: str = ""
    repo_files: tuple[str, ...] = _OPEN_CLIP_FILES
    size: int | None = None
    sha256: str | None = None

    @property
    def source(self) -> str:
        """Address for people."""
        return self.url or f"https://huggingface.co/{self.repo}"


def _sam(size: str, filename: str, size_bytes: int, sha256: str) -> WeightFile:
    # The letters at the end of SAM's file names are the first of the file's md5.
    url = _SAM_URL + filename
    return WeightFile(
        name=f"sam_{size}", filename=filename, kind="sam", model=size, url=url, size=size_bytes, sha256=sha256
    )


def _clip(model: str, tag: str, repo: str) -> WeightFile:
    return WeightFile(name=model, filename=f"{model}.{tag}.safetensors", model=model, tag=tag, repo=repo)


def _resnet(model: str, filename: str, sha256: str) -> WeightFile:
    # The letters at the end of torchvision's file names are the first of the file's sha256.
    tag, url = "IMAGENET1K_V1", _TORCHVISION_URL + filename
    return WeightFile(name=model, filename=filename, kind="backbone", model=model, tag=tag, url=url, sha256=sha256)


def _swin(model: str, tag: str, repo: str) -> WeightFile:
    filename = f"{model}.{tag}.safetensors"
    return WeightFile(
        name=model, filename=filename, kind="backbone", model=model, tag=tag, repo=repo, repo_files=_TIMM_FILES
    )


_FILES = (
    _sam(
        "vit_b",
        "sam_vit_b_01ec64.pth",
        375042383,
        "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
    ),
    _sam(
        "vit_l",
        "sam_vit_l_0b3195.pth",
        1249524607,
        "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
    ),
    _sam(
        "vit_h",
        "sam_vit_h_4b8939.pth",
        2564550879,
        "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
    ),
    # Model, tag and repository as in open_clip's own register of pretrained weights.
    _clip("convnext_base_w", "laion2b_s13b_b82k_augreg", "laion/CLIP-convnext_base_w-laion2B-s13B-b82K-augreg"),
    _clip(
        "convnext_base_w_320",
        "laion_aesthetic_s13b_b82k_augreg",
        "laion/CLIP-convnext_base_w_320-laion_aesthetic-s13B-b82K-augreg",
    ),
    _clip(
        "convnext_large_d_320",
        "laion2b_s29b_b131k_ft_soup",
        "laion/CLIP-convnext_large_d_320.laion2B-s29B-b131K-ft-soup",
    ),
    _clip(
        "convnext_xxlarge", "laion2b_s34b_b82k_augreg_soup", "laion/CLIP-convnext_xxlarge-laion2B-s34B-b82K-augreg-soup"
    ),
    _clip("RN50", "openai", "timm/resnet50_clip.openai"),
    _clip("RN101", "openai", "timm/resnet101_clip.openai"),
    _clip("RN50x4", "openai", "timm/resnet50x4_clip.openai"),
    _clip("RN50x16", "openai", "timm/resnet50x16_clip.openai"),
    _clip("RN50x64", "openai", "timm/resnet50x64_clip.openai"),
    _clip("ViT-B-32", "openai", "timm/vit_base_patch32_clip_224.openai"),
    _clip("ViT-B-16", "openai", "timm/vit_base_patch16_clip_224.openai"),
    _clip("ViT-L-14", "openai", "timm/vit_large_patch14_clip_224.openai"),
    _clip("ViT-L-14-336", "openai", "timm/vit_large_patch14_clip_336.openai"),
    _clip("ViT-H-14", "laion2b_s32b_b79k", "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"),
    _clip("ViT-B-16-SigLIP", "webli", "timm/ViT-B-16-SigLIP"),
    _clip("ViT-B-16-SigLIP-384", "webli", "timm/ViT-B-16-SigLIP-384"),
    _clip("ViT-L-16-SigLIP-384", "webli", "timm/ViT-L-16-SigLIP-384"),
    _clip("ViT-SO400M-14-SigLIP-384", "webli", "timm/ViT-SO400M-14-SigLIP-384"),
    _clip("ViT-B-16-SigLIP2-384", "webli", "timm/ViT-B-16-SigLIP2-384"),
    _clip("ViT-L-16-SigLIP2-384", "webli", "timm/ViT-L-16-SigLIP2-384"),
    _clip("ViT-SO400M-16-SigLIP2-384", "webli", "timm/ViT-SO400M-16-SigLIP2-384"),
    _clip("EVA02-B-16", "merged2b_s8b_b131k", "timm/eva02_base_patch16_clip_224.merged2b_s8b_b131k"),
    _clip("EVA02-L-14", "merged2b_s4b_b131k", "timm/eva02_large_patch14_clip_224.merged2b_s4b_b131k"),
    _clip("EVA02-L-14-336", "merged2b_s6b_b61k", "timm/eva02_large_patch14_clip_336.merged2b_s6b_b61k"),
    _resnet("resnet50", "resnet50-0676ba61.pth", "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a"),
    _resnet("resnet101", "resnet101-63fe2227.pth", "63fe2227b86e8f1f2063f43a75c84d195911b6a0eace650907dd3dc62dd49a0a"),
    _swin("swin_small", "ms_in1k", "timm/swin_small_patch4_window7_224.ms_in1k"),
    _swin("swin_large", "ms_in22k", "timm/swin_large_patch4_window12_384.ms_in22k"),
)

WEIGHTS: dict[str, WeightFile] = {file.name: file for file in _FILES}


def find_weights(name: str) -> WeightFile:
    """The official file called `name` in `WEIGHTS`.

    Raises:
        ValueError: no such name; the valid ones are listed.
    """
    if name not in WEIGHTS:
        raise ValueError(f"unknown weights {name!r}.{did_you_mean(name, WEIGHTS)} Valid names: {', '.join(WEIGHTS)}.")
    return WEIGHTS[name]


def known_file(path: str | Path) -> WeightFile | None:
    """The official file that `path` is named after, whatever its folder; None where the name is no official one."""
    stem = Path(path).stem
    return next((file for file in _FILES if Path(file.filename).stem == stem), None)


def downloaded(model: str, tag: str) -> str:
    """The official file of a pretrained tag in ./weights, where `possam weights download` puts it; else the tag."""
    official = next((file for file in _FILES if tag and (file.model, file.tag) == (model, tag)), None)
    names = [official.filename, str(Path(official.filename).with_suffix(".bin"))] if official else []
    return next((f"weights/{name}" for name in names if (Path("weights") / name).is_file()), tag)


def compare(path: Path, expected: WeightFile) -> str:
    """What tells a file from the expected one: both sizes or both checksums; "" if nothing does.

    The checksum is computed only where the size agrees.
    """
    size = path.stat().st_size
    if expected.size is not None and size != expected.size:
        part = "only a part of it" if size < expected.size else "another file"
        return f"it has {size} bytes, but {expected.name} has {expected.size}: {part}"
    if expected.sha256 is not None and (sha256 := file_sha256(path)) != expected.sha256:
        return f"its sha256 is {sha256}, but that of {expected.name} is {expected.sha256}"
    return ""
