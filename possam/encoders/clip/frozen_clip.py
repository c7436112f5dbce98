"""The frozen CLIP: dense image features, their projection to CLIP's joint space, and text (METHOD.md 1.5, 1.7).

Shapes: B images, H×W pixels, H_c×W_c cells, D_v width of the dense features, D width of CLIP's joint space, N texts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from possam.encoders.base import DRAWINGS_ONLY, SHIPPED, FeatureMaps, FrozenEncoder, frozen, no_autocast
from possam.encoders.clip.prompts import encode_prompts, prompt_ends
from possam.encoders.clip.tokenizer import OpenClipTokenizer, Tokenizer, tokenize
from possam.encoders.clip.tower import build_tower
from possam.encoders.clip.word_tokenizer import WordTokenizer
from possam.encoders.linear import fast_linear
from possam.encoders.state_dicts import digest_tensors
from possam.encoders.weight_files import known_file

if TYPE_CHECKING:  # importing it takes seconds
    import open_clip

MAX_LOGIT_SCALE = 100.0  # METHOD.md 1.7
TEXT_CHUNK = 256


class FrozenCLIP(FrozenEncoder):
    """An `open_clip` model: image features of every stage, their projection to the joint space, and text.

    Pixels to cells: an H×W image is resized bilinearly to H'×W', the multiples of the tower's stride nearest to
    `input_scale` × (H, W), and nothing is padded. So the dense map always spans exactly the image: cell (i, j) of
    H_c×W_c covers rows [i·H/H_c, (i+1)·H/H_c) and columns [j·W/W_c, (j+1)·W/W_c), and a mask resized to the map
    (with `align_corners=False`) lies where it lay on the image. Images at scale 1 whose sides are multiples of the
    stride are not resampled at all.

    Attributes:
        embed_dim: D. feature_dim: D_v, the channels of the last map, F_clip.
        stride: pixels of the tower's input per cell of F_clip (image pixels × `input_scale`). Keys of the maps are
            strides in pixels of the image, rounded where `input_scale` does not divide the tower's.
        logit_scale: CLIP's own temperature τ, exponentiated, at most 100.
    """

    def __init__(
        self,
        *,
        model: open_clip.CLIP | open_clip.CustomTextCLIP,
        tokenizer: Tokenizer,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        input_scale: float = 1.0,
        name: str = "",
        pool_position: bool = True,
    ) -> None:
        """
        Args:
            model: an `open_clip.CLIP` (or `CustomTextCLIP`) whose image tower is a supported type.
            tokenizer: as open_clip's: (texts, context length) → token ids.
            pixel_mean, pixel_std: three values each, RGB, on the scale 0..1.
            input_scale: side of the tower's input over the side of the image.
            name: what `build` knows the model by; empty for one of one's own.
            pool_position: whether `project` adds the mean position of a ModifiedResNet's attention pool, which the pool
                was trained with (METHOD.md 1.5), or no position (METHOD.md 2.3). Other towers have none.

        Raises:
            ValueError: an unsupported image tower, a scale that is not positive.
        """
        if not input_scale > 0:
            raise ValueError(f"input_scale must be positive, but got {input_scale}")
        super().__init__(
            name=name, pixel_mean=255 * torch.tensor(pixel_mean), pixel_std=255 * torch.tensor(pixel_std)
        )
        self.model = model
        self.input_scale = float(input_scale)
        self._tokenizer = tokenizer
        self.limits = "" if self.reads_any_word else DRAWINGS_ONLY
        self._tower = build_tower(model.visual)
        self._tower.pool_position = pool_position
        self.stride = self._tower.stride
        self.feature_dim = self._tower.feature_dim
        self.context_length = int(model.context_length)
        self._strides = {self._image_stride(stride): stride for stride in self._tower.level_channels}
        self.out_channels = {key: self._tower.level_channels[stride] for key, stride in self._strides.items()}
        self.freeze()
        self.embed_dim = int(self.project(torch.zeros(1, self.feature_dim)).shape[-1])

    @classmethod
    def build(
        cls,
        *,
        name: str,
        weights: str | Path | None = "shipped",
        input_scale: float = 1.0,
        seed: int = 0,
        pixel_statistics: tuple[Sequence[float], Sequence[float]] | None = None,
        pool_position: bool = True,
    ) -> FrozenCLIP:
        """Build by name.

        Args:
            name: an `open_clip` model name such as "convnext_large_d_320", or "mini_strong" / "mini_weak".
            weights: a pretrained tag of open_clip for this model, fetched on first use; a file (.safetensors, .pt,
                .bin: a state dict); "shipped" for the weights that come with this package (miniature models only);
                or None (or "") for random weights. Tags, and files that kept their name since `possam weights
                download`, bring their own activation (OpenAI's QuickGELU) and pixel statistics; for any other file
                of OpenAI's weights choose the model's `-quickgelu` name.
            input_scale: side of the tower's input over the side of the image, on top of the model's own scale, which
                is 1 for open_clip's models and that of pre-training for the miniature ones.
            seed: of random weights; the global random state is left as it was.
            pixel_statistics: mean and deviation, three values each, RGB on the scale 0..1, in place of the model's own.
            pool_position: see `__init__`.

        Raises:
            ValueError: unknown name or tag (the closest valid one is named), missing or unreadable file, a state
                dict that does not fit the model (what it is of is told), an unsupported image tower, or a tag that
                cannot be fetched.
        """
        from possam.encoders.clip.building import load_clip, load_weights

        loaded = load_clip(name=name, weights=weights, seed=seed)
        pixel_mean, pixel_std = pixel_statistics or (loaded.pixel_mean, loaded.pixel_std)
        clip = cls(
            model=loaded.model,
            tokenizer=loaded.tokenizer,
            pixel_mean=pixel_mean,
            pixel_std=pixel_std,
            input_scale=input_scale * loaded.input_scale,
            name=name,
            pool_position=pool_position,
        )
        if loaded.mapped is not None:
            # Digests read the weights into memory. Mapped anew, the text tower stays out of it where its embeddings
            # are on disk.
            _ = clip.fingerprint, clip.text_fingerprint
            load_weights(loaded.model, loaded.mapped, name)
        return clip

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    @property
    def has_attention_pool(self) -> bool:
        """Whether the tower is a ModifiedResNet, whose last map goes through an attention pool (`pool_attentively`)."""
        return self._tower.has_attention_pool

    @property
    def reads_any_word(self) -> bool:
        """Whether words are read by their pieces; the miniature models have a list of words instead."""
        return not isinstance(self._tokenizer, WordTokenizer)

    def unknown_words(self, texts: Iterable[str]) -> list[str]:
        """Words of texts that are not read, each once, in their order; none where any word is."""
        return self._tokenizer.unknown_words(texts) if isinstance(self._tokenizer, WordTokenizer) else []

    @property
    def logit_scale(self) -> float:
        return min(float(self.model.logit_scale.detach().float().exp()), MAX_LOGIT_SCALE)

    @cached_property
    def fingerprint(self) -> str:
        """Hex digest of weights, architecture, pixel statistics and input scale: equal digests give equal features,
        so caches on disk and checkpoints go by it. The weights' file format is no part of it."""
        numbers = {
            "pixel mean": self.pixel_mean,
            "pixel std": self.pixel_std,
            "input scale": torch.tensor(self.input_scale),
        }
        tensors = {**self.model.state_dict(), **numbers}
        return digest_tensors(tensors, "clip", *_choices(self.model))

    @cached_property
    def text_fingerprint(self) -> str:
        """Hex digest of the text tower and the tokenizer alone: equal digests give equal text embeddings, whatever the
        image tower. A tenth of `fingerprint`'s time for a large model."""
        tensors = {
            key: value
            for key, value in self.model.state_dict().items()
            if not key.startswith(("visual.", "logit_scale", "logit_bias"))
        }
        if isinstance(self._tokenizer, OpenClipTokenizer):
            about = self._tokenizer.identity
        else:
            about = str(self._tokenizer(["a photo of a striped star."], self.context_length).tolist())
        text_modules = [module for name, module in self.model.named_children() if name != "visual"]
        choices = sorted({choice for module in text_modules for choice in _choices(module)})
        return digest_tensors(tensors, "clip text", about, *choices)

    @classmethod
    def names(cls) -> list[str]:
        from possam.encoders.clip.building import model_names

        return model_names()

    @classmethod
    def finds_weights(cls, weights: str) -> bool:
        return super().finds_weights(weights) or "/" not in weights  # a tag, which open_clip fetches

    @classmethod
    def check_weights(cls, *, key: str, name: str, weights: str) -> None:
        official = known_file(weights) if weights else None
        import open_clip

        tags = open_clip.list_pretrained_tags_by_model(name)
        tag = official.tag if official is not None else weights
        if official is not None and official.model != name.removesuffix("-quickgelu"):
            raise ValueError(f"{key}.WEIGHTS {weights!r} are those of {official.model}, not of {key}.NAME {name!r}.")
        if tag not in tags and weights not in ("", SHIPPED) and not Path(weights).is_file():
            raise ValueError(
                f"{key}.WEIGHTS {weights!r} is neither a file nor a tag that open_clip knows for "
                f"{key}.NAME {name!r}; its tags: {', '.join(tags) or 'none'}."
            )

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "input_scale": self.input_scale}

    def _image_stride(self, stride: int) -> int:
        """Stride in pixels of the image of a map with this stride in pixels of the tower's input."""
        return max(1, round(stride / self.input_scale))

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """Size in pixels at which an image of `height`×`width` enters the tower; a multiple of the stride."""
        sides = (max(1, round(side * self.input_scale / self.stride)) * self.stride for side in (height, width))
        rows, columns = sides
        return rows, columns

    @frozen
    def forward(self, images: Tensor, *, strides: Sequence[int] | None = None) -> FeatureMaps:
        """B×3×H×W float RGB in 0..255, any H and W → maps of the stages; the last is F_clip, B×D_v×H_c×W_c, the dense
        features before CLIP's last pooling. Vision transformers have that one alone.

        Raises:
            ValueError: `images` is not B×3×H×W, or a stride that no stage has.
        """
        wanted = self.check_input(images, strides)
        size = self.input_size(*images.shape[-2:])
        if size != tuple(images.shape[-2:]):
            images = F.interpolate(images.float(), size=size, mode="bilinear", align_corners=False, antialias=True)
        normalized = (images - self.pixel_mean) / self.pixel_std
        with fast_linear():
            levels = self._tower.levels(normalized.to(self._weight_dtype), [self._strides[key] for key in wanted])
        return {key: levels[self._strides[key]] for key in wanted}

    @torch.no_grad()
    def project(self, pooled: Tensor) -> Tensor:
        """…×D_v dense features averaged over a mask → …×D float32 unit vectors in CLIP's joint space."""
        if pooled.shape[-1] != self.feature_dim:
            raise ValueError(f"pooled must be …×{self.feature_dim}, but got shape {tuple(pooled.shape)}")
        with no_autocast(pooled.device):
            flat = pooled.reshape(-1, self.feature_dim).to(self._weight_dtype)
            embedded = F.normalize(self._tower.project(flat).float(), dim=-1)
        return embedded.reshape(*pooled.shape[:-1], -1)

    @property
    def native_size(self) -> tuple[int, int]:
        """(height, width) in pixels of the images that the tower was made for."""
        size = self.model.visual.image_size
        height, width = (size, size) if isinstance(size, int) else size
        return height, width

    def resize_to_native(self, images: Tensor) -> Tensor:
        """B×3×H×W RGB in [0, 255] of any size → B×3×H'×W' float32 of `native_size`, bicubic and antialiased."""
        resized = F.interpolate(
            images.float(), size=self.native_size, mode="bicubic", align_corners=False, antialias=True
        )
        return resized.clamp(0, 255)

    @torch.no_grad()
    def embed_images(self, images: Tensor) -> Tensor:
        """CLIP's own embeddings of whole images: B×3×H×W float RGB in 0..255, resized to `native_size` → B×D float32
        unit vectors."""
        if tuple(images.shape[-2:]) != self.native_size:
            images = self.resize_to_native(images)
        normalized = (images - self.pixel_mean) / self.pixel_std
        with no_autocast(images.device), fast_linear():
            embedded = self.model.encode_image(normalized.to(self._weight_dtype))
        return F.normalize(embedded.float(), dim=-1)

    def check_texts(self, texts: Sequence[str]) -> None:
        """Raise ValueError, as `encode_text` does, where a text is longer than CLIP's context; nothing is encoded."""
        tokenize(self._tokenizer, list(texts), self.context_length)

    @torch.no_grad()
    def pool_attentively(self, features: Tensor, mask_logits: Tensor) -> tuple[Tensor, Tensor]:
        """Embed masks by the tower's own attention pool, each over its cells alone (a ModifiedResNet has one).

        Args:
            features: B×D_v×H_c×W_c, F_clip.
            mask_logits: B×Q×h×w, positive inside; resized bilinearly to F_clip.

        Returns:
            B×Q×D float32 unit vectors, and B×Q bool, True for a mask without a cell, whose vector means nothing.

        Raises:
            ValueError: the tower has no attention pool.
        """
        if mask_logits.shape[-2:] != features.shape[-2:]:
            mask_logits = F.interpolate(mask_logits, size=features.shape[-2:], mode="bilinear", align_corners=False)
        inside = mask_logits > 0
        empty = ~inside.flatten(2).any(-1)
        with no_autocast(features.device):
            embedded = self._tower.attend(features.to(self._weight_dtype), inside)
        return F.normalize(embedded.float(), dim=-1), empty

    @torch.no_grad()
    def pool_boxes(self, features: Tensor, boxes: Sequence[Tensor]) -> Tensor:
        """Embed boxes by RoIAlign of F_clip to the size of the tower's attention pool, and that pool as it is.

        Args:
            features: B×D_v×H_c×W_c, F_clip.
            boxes: for each of the B images N×4 float XYXY in pixels of the image that was encoded.

        Returns:
            (ΣN)×D float32 unit vectors, the boxes of the first image first. An empty box's means nothing.

        Raises:
            ValueError: the tower has no attention pool.
        """
        from torchvision.ops import roi_align

        images = [box.new_full((len(box), 1), index) for index, box in enumerate(boxes)]
        rois = torch.cat([torch.cat(images), torch.cat(list(boxes))], dim=1).to(features)
        side, scale = self._tower.pool_side, self.input_scale / self.stride
        with no_autocast(features.device):
            cells = roi_align(features, rois, side, spatial_scale=scale, sampling_ratio=0, aligned=True)
            embedded = self._tower.pool(cells.to(self._weight_dtype))
        return F.normalize(embedded.float(), dim=-1)

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """N texts → N×D float32 unit rows on the model's device, by open_clip's own `encode_text` (`encode_prompts`).

        Raises:
            ValueError: no text, or a text longer than CLIP's context (it would silently lose its end, often the name).
        """
        if isinstance(texts, str) or not texts:
            raise ValueError(f"texts must be a non-empty sequence of strings, but got {texts!r}")
        tokens = tokenize(self._tokenizer, list(texts), self.context_length)
        ends = prompt_ends(self.model, tokens)
        # Prompts of like length together, so that few positions are padding.
        order = torch.arange(len(tokens)) if ends is None else ends.argsort(stable=True)
        rows = []
        with no_autocast(self.device), fast_linear():
            for chunk in tokens[order].split(TEXT_CHUNK):
                rows.append(F.normalize(encode_prompts(self.model, chunk.to(self.device)).float(), dim=-1))
        return torch.cat(rows)[order.argsort()]

    @property
    def _weight_dtype(self) -> torch.dtype:
        return next(self.model.visual.parameters()).dtype


def _choices(model: nn.Module) -> list[str]:
    """What of an architecture its parameters' names and shapes do not tell: activations and numbers of heads.

    timm's towers are left out: their name settles both, and how they print changes from one timm to the next.
    """
    modules = [module for name, module in model.named_modules() if ".trunk." not in f".{name}."]
    activations = {repr(module) for module in modules if "GELU" in type(module).__name__}
    heads = {f"{module.num_heads} heads" for module in modules if isinstance(module, nn.MultiheadAttention)}
    return sorted(activations | heads)
