import pytest
import torch


@pytest.mark.parametrize(
    "field",
    ["ldp_embeddings", "clip_embeddings", "ldp_logits", "clip_logits", "clip_empty", "exact_seen"],
)
def test_a_field_of_the_wrong_shape_is_named(make_evidence, field):
    with pytest.raises(ValueError, match=f"{field} must be of shape"):
        make_evidence(**{field: torch.zeros(3, 2)})
