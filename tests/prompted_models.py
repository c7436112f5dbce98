"""Systems that take prompts, for tests: SAM's own decoder over the miniature encoders, and squares around prompts."""

import torch
from segment_anything.modeling import MaskDecoder, PromptEncoder, TwoWayTransformer
from torch import nn

from possam.classifiers import CosineClassifier
from possam.encoders import FrozenCLIP, FrozenSAM
from possam.models import PromptedSegmenter
from possam.models.batch import padded_target
from possam.models.parts import shared_arguments


class TinyPrompted(PromptedSegmenter):
    """SAM's prompt encoder and mask decoder, untrained, over the frozen encoders of the miniature world."""

    def __init__(self, *, sam, clip, side, **shared):
        super().__init__(**shared)
        self.sam, self.clip = sam, clip
        self.classifier = CosineClassifier(embed_dim=clip.embed_dim)
        self.reads = {"sam": (sam.final_stride,), "clip": (clip.final_stride,)}
        channels, cells = sam.out_channels[sam.final_stride], side // sam.final_stride
        self.prompt_encoder = PromptEncoder(channels, (cells, cells), (side, side), 4)
        self.mask_decoder = MaskDecoder(
            transformer_dim=channels, transformer=TwoWayTransformer(2, channels, 4, 64), num_multimask_outputs=3
        )
        self.encoded = self.prepared = 0

    @classmethod
    def from_config(cls, cfg):
        sam = FrozenSAM.build(name=cfg.MODEL.SAM.NAME, weights=cfg.MODEL.SAM.WEIGHTS)
        clip = FrozenCLIP.build(name=cfg.MODEL.CLIP.NAME, weights=cfg.MODEL.CLIP.WEIGHTS)
        return cls(sam=sam, clip=clip, side=cfg.INPUT.IMAGE_SIZE, **shared_arguments(cfg, clip)).eval()

    def encode(self, images, **options):
        self.encoded += 1
        return super().encode(images, **options)

    def prepare(self, features):
        self.prepared += 1
        return features | {"sam": {stride: maps * 2 for stride, maps in features["sam"].items()}}

    def predict_masks(self, features, prompts=None):
        logits, iou = self.decode_prompts(features["sam"][self.sam.final_stride], prompts)
        clip, empty = self.embed_masks_by_clip(logits, features)
        return {
            "mask_logits": logits,
            "query_embeddings": nn.functional.normalize(torch.ones_like(clip), dim=-1),
            "clip_embeddings": clip,
            "clip_empty": empty,
            "iou": iou,
        }

    def losses(self, batched_inputs):
        """Binary cross-entropy of the masks of all prompts."""
        features, padded = self._features(batched_inputs)
        prepared, losses = self.prepare(features)["sam"][self.sam.final_stride], []
        for place, inputs in enumerate(batched_inputs):
            logits, _ = self.decode_prompts(prepared[place : place + 1], inputs["prompts"])
            full = nn.functional.interpolate(logits, padded, mode="bilinear")[0]
            wanted = padded_target(inputs, padded, self.device).masks.float()
            losses.append(nn.functional.binary_cross_entropy_with_logits(full, wanted))
        return {"loss_mask": torch.stack(losses).mean()}

    def decode_prompts(self, embedding, prompts):
        """Each prompt by itself, as segment_anything takes it."""
        masks, ious = [], []
        for place in range(len(prompts)):
            wanted = prompts.labels[place] >= 0
            points = (prompts.points[place][wanted][None], prompts.labels[place][wanted][None])
            box = prompts.boxes[place][None] if prompts.has_box[place] else None
            sparse, dense = self.prompt_encoder(points if wanted.any() else None, box, None)
            mask, iou = self.mask_decoder(
                embedding, self.prompt_encoder.get_dense_pe(), sparse, dense, multimask_output=False
            )
            masks.append(mask[0])
            ious.append(iou[0])
        return torch.cat(masks)[None], torch.cat(ious)[None].clamp(0, 1)


class Squares(TinyPrompted):
    """The mask of a point is the cell of a grid of `cell` pixels that it is in; its logits fall off towards the border,
    and its IoU and its stability depend on the cell. That of a box is the box."""

    cell = 32

    def decode_prompts(self, embedding, prompts):
        side = 4 * embedding.shape[-1]
        step = self.prompt_encoder.input_image_size[0] / side
        rows, columns = torch.meshgrid(*[(torch.arange(side) + 0.5) * step] * 2, indexing="ij")
        logits, ious = [], []
        for place in range(len(prompts)):
            if prompts.has_box[place]:
                x0, y0, x1, y1 = prompts.boxes[place].tolist()
                number = 0
            else:
                x, y = prompts.points[place, 0].tolist()
                across, down = int(x // self.cell), int(y // self.cell)
                number = 4 * down + across
                x0, y0 = across * self.cell, down * self.cell
                # Of the points of a cell, some see a part of it: another mask, that overlaps.
                x1, y1 = x0 + self.cell * (0.6 if x % 3 < 1 else 0.9 if x % 3 < 2 else 1), y0 + self.cell
            distance = torch.minimum(torch.minimum(columns - x0, x1 - columns), torch.minimum(rows - y0, y1 - rows))
            logits.append((distance / step * (0.3 + number)).clamp(-20, 20))
            ious.append(0.7 + 0.3 * ((7 * number + int(x0 + x1)) % 10) / 10)
        return torch.stack(logits)[None], torch.tensor(ious)[None]
