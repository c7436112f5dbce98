import pytest
import torch


@pytest.mark.parametrize(
    "field",
    ["query_embeddings", "clip_embeddings", "query_logits", "clip_logits", "clip_empty", "exact_seen"],
)
def test_a_field_of_the_wrong_shape_is_named(make_inputs, field):
    with pytest.raises(ValueError, match=f"{field} must be of shape"):
        make_inputs(**{field: torch.zeros(3, 2)})
