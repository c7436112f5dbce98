import pytest
import torch

from possam.losses.structures import LayerOutput, Target, validate_batch


def make(batch=2, queries=3, classes=4, size=8):
    output = LayerOutput(
        torch.zeros(batch, queries, classes + 1),
        torch.zeros(batch, queries, 6),
        torch.zeros(batch, queries),
    )
    targets = [Target(torch.tensor([0, 3]), torch.zeros(2, size, size, dtype=torch.bool)) for _ in range(batch)]
    return output, targets, torch.zeros(batch, 6, 2, 2)


def test_what_fits_passes():
    output, targets, features = make()
    validate_batch(output, targets, features)
    targets[1] = Target(torch.zeros(0, dtype=torch.int64), torch.zeros(0, 8, 8, dtype=torch.bool))
    validate_batch(output, targets, features)


def test_shapes_that_do_not_fit_are_named():
    output, targets, features = make()
    with pytest.raises(ValueError, match="targets of 1 images for predictions of 2"):
        validate_batch(output, targets[:1], features)
    with pytest.raises(ValueError, match="agree in images and queries"):
        validate_batch(output._replace(iou=torch.zeros(2, 2)), targets, features)
    with pytest.raises(ValueError, match=r"expected class logits B×Q×\(K\+1\)"):
        validate_batch(output._replace(mask_embeddings=torch.zeros(2, 3)), targets, features)
    with pytest.raises(ValueError, match=r"mask features B×M×h×w, but got.*\(6, 2, 2\)"):
        validate_batch(output, targets, features[0])
    for wrong in (torch.zeros(2, 5, 2, 2), torch.zeros(1, 6, 2, 2)):
        with pytest.raises(ValueError, match=r"agree in images and channels.*\(2, 3, 6\)"):
            validate_batch(output, targets, wrong)
    with pytest.raises(ValueError, match=r"target 1 needs labels T and masks T×H×W.*\(1,\) and \(2, 8, 8\)"):
        validate_batch(output, [targets[0], targets[1]._replace(labels=torch.tensor([0]))], features)
    with pytest.raises(ValueError, match=r"share the padded input size.*\(4, 4\), \(8, 8\)"):
        validate_batch(output, [targets[0], make(size=4)[1][0]], features)


@pytest.mark.parametrize("label", [-1, 4])
def test_labels_outside_of_the_vocabulary(label):
    output, targets, features = make()
    wrong = targets[0]._replace(labels=torch.tensor([1, label]))
    with pytest.raises(ValueError, match=r"labels must lie in \[0, 4\)"):
        validate_batch(output, [targets[0], wrong], features)
