import pytest
import torch

from possam.losses.structures import LayerOutput, Target, validate_batch


def make(batch=2, queries=3, classes=4, size=8):
    output = LayerOutput(
        torch.zeros(batch, queries, classes + 1), torch.zeros(batch, queries, 2, 2), torch.zeros(batch, queries)
    )
    targets = [Target(torch.tensor([0, 3]), torch.zeros(2, size, size, dtype=torch.bool)) for _ in range(batch)]
    return output, targets


def test_what_fits_passes():
    output, targets = make()
    validate_batch(output, targets)
    targets[1] = Target(torch.zeros(0, dtype=torch.int64), torch.zeros(0, 8, 8, dtype=torch.bool))
    validate_batch(output, targets)


def test_shapes_that_do_not_fit_are_named():
    output, targets = make()
    with pytest.raises(ValueError, match="targets of 1 images for predictions of 2"):
        validate_batch(output, targets[:1])
    with pytest.raises(ValueError, match="agree in images and queries"):
        validate_batch(output._replace(iou=torch.zeros(2, 2)), targets)
    with pytest.raises(ValueError, match=r"expected class logits B×Q×\(K\+1\)"):
        validate_batch(output._replace(mask_logits=torch.zeros(2, 3, 4)), targets)
    with pytest.raises(ValueError, match=r"target 1 needs labels T and masks T×H×W.*\(1,\) and \(2, 8, 8\)"):
        validate_batch(output, [targets[0], targets[1]._replace(labels=torch.tensor([0]))])
    with pytest.raises(ValueError, match=r"share the padded input size.*\(4, 4\), \(8, 8\)"):
        validate_batch(output, [targets[0], make(size=4)[1][0]])


@pytest.mark.parametrize("label", [-1, 4])
def test_labels_outside_of_the_vocabulary(label):
    output, targets = make()
    wrong = targets[0]._replace(labels=torch.tensor([1, label]))
    with pytest.raises(ValueError, match=r"labels must lie in \[0, 4\)"):
        validate_batch(output, [targets[0], wrong])
