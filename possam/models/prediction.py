"""What a network says of an image, before it is known which ensemble names it.

Shapes: Q queries, K classes; h×w = H/4×W/4 of the padded input.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from possam.classifiers import MaskEvidence
from possam.inference import restore_masks
from possam.vocabulary import Vocabulary


@dataclass
class Prediction:
    """What the network says of one image before an ensemble turns it into scores.

    Attributes:
        mask_logits: Q×h×w float32, stride 4 of the padded input.
        evidence: everything the ensembles read (METHOD.md 1.9).
        vocabulary: the K classes the evidence is about.
        padded_size, image_size, output_size: (height, width) in pixels of the padded network input, of the image
            within it, and of the segmentation to return.
    """

    mask_logits: Tensor
    evidence: MaskEvidence
    vocabulary: Vocabulary
    padded_size: tuple[int, int]
    image_size: tuple[int, int]
    output_size: tuple[int, int]

    def masks(self) -> Tensor:
        """Mask logits at `output_size`, Q×H×W float32."""
        return restore_masks(
            self.mask_logits,
            padded_size=self.padded_size,
            image_size=self.image_size,
            output_size=self.output_size,
        )
