"""Batches whose images have different vocabularies and kinds of annotation."""

import pytest
import torch

from possam.d2.structures import Instances
from possam.models.supervision import class_logits, covered_cells
from possam.vocabulary import Vocabulary

A = Vocabulary.load("mini_a")
ORDER = [(7 * place) % len(A) for place in range(len(A))]
SHUFFLED = Vocabulary(name="shuffled", categories=tuple(A.categories[place] for place in ORDER))
WORDS = {name: Vocabulary.from_names([f"{name} {i}" for i in range(n)], name=name) for name, n in (("x", 2), ("y", 4))}
TEXT = {name: torch.randn(len(words), 8, generator=torch.Generator().manual_seed(1)) for name, words in WORDS.items()}


def classify(embeddings, text):
    return torch.cat([embeddings @ text.T, embeddings.sum(-1, keepdim=True)], dim=-1)


def embed(vocabulary):
    return TEXT[vocabulary.name]


def test_every_image_is_classified_in_its_own_vocabulary():
    embeddings = torch.randn(3, 5, 2, 8, requires_grad=True)
    names = ["y", "x", "x", "y", "x"]
    logits = class_logits(classify, embed, embeddings, [WORDS[name] for name in names])
    assert logits.shape == (3, 5, 2, 5)
    for image, name in enumerate(names):
        alone = classify(embeddings[:, image], TEXT[name])
        classes = alone.shape[-1] - 1
        torch.testing.assert_close(logits[:, image, :, :classes], alone[..., :-1])
        torch.testing.assert_close(logits[:, image, :, -1], alone[..., -1])
        probability = logits[:, image].softmax(-1)
        assert (probability[..., classes:-1] == 0).all()
        torch.testing.assert_close(probability[..., -1], alone.softmax(-1)[..., -1])
    logits.softmax(-1)[..., 0].sum().backward()
    assert embeddings.grad.isfinite().all()


def test_one_vocabulary_needs_no_padding():
    embeddings = torch.randn(1, 2, 3, 8)
    renamed = Vocabulary(name="x", categories=WORDS["x"].categories, source="another")
    logits = class_logits(classify, embed, embeddings, [WORDS["x"], renamed])
    assert torch.equal(logits, classify(embeddings, TEXT["x"]))


def test_cells_that_an_image_covers():
    inside = torch.zeros(32, 64)
    inside[:22, :49] = 1
    expected = inside.view(8, 4, 16, 4).mean((1, 3))
    torch.testing.assert_close(covered_cells((22, 49), (32, 64), (8, 16)), expected)


def masked_input(number, vocabulary=A):
    torch.manual_seed(number)
    masks = torch.rand(3, 128, 128) > 0.5
    instances = Instances((128, 128), gt_masks=masks, gt_classes=torch.tensor([1, 4, 6]))
    if vocabulary is SHUFFLED:
        instances.gt_classes = torch.tensor([ORDER.index(place) for place in (1, 4, 6)])
    return {"image": torch.randint(256, (3, 128, 128)).byte(), "vocabulary": vocabulary, "instances": instances}


def labeled_input(number, labels=(0, 20)):
    torch.manual_seed(number)
    words = Vocabulary.load("mini_b")
    return {"image": torch.randint(256, (3, 96, 128)).byte(), "vocabulary": words, "labels": torch.tensor(labels)}


@pytest.fixture
def losses_of(mini_model):
    mini_model.train()

    def losses(*batch):
        mini_model.zero_grad()
        torch.manual_seed(3)
        found = mini_model(list(batch))
        sum(found.values()).backward()
        return found, {name: x.grad.clone() for name, x in mini_model.named_parameters() if x.requires_grad}

    return losses


def test_vocabularies_of_a_batch_and_images_without_masks(losses_of):
    expected, wanted = losses_of(masked_input(0), masked_input(1))
    assert not {"loss_match", "loss_sum"} & expected.keys()
    # The same classes in another order: groups of their own, with the losses of one.
    grouped, gradients = losses_of(masked_input(0), masked_input(1, SHUFFLED))
    torch.testing.assert_close(grouped, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradients, wanted, rtol=1e-3, atol=1e-4)
    # Images with labels only change no loss of those with masks, and have their own.
    mixed, gradients = losses_of(masked_input(0), masked_input(1), labeled_input(2), labeled_input(3))
    for name, loss in expected.items():
        torch.testing.assert_close(mixed[name], loss, rtol=1e-4, atol=1e-4)
    alone, of_labels = losses_of(labeled_input(2), labeled_input(3))
    for name, loss in alone.items():
        torch.testing.assert_close(loss, mixed[name] if name in ("loss_match", "loss_sum") else torch.tensor(0.0))
    for name, gradient in gradients.items():
        both = wanted[name] + of_labels[name]
        torch.testing.assert_close(gradient, both, rtol=1e-3, atol=1e-4 * max(1, both.abs().max().item()))


def test_inputs_that_teach_nothing(mini_model):
    mini_model.train()
    with pytest.raises(ValueError, match="has neither masks nor labels; leave it out"):
        mini_model([masked_input(0), labeled_input(1, ())])
    with pytest.raises(ValueError, match=r"has the classes \[34\], but its vocabulary 'mini_b' has 0 to 33"):
        mini_model([masked_input(0), labeled_input(1, (34,))])
    with pytest.raises(ValueError, match="needs 'instances' with masks, or 'labels'"):
        mini_model([{"image": torch.zeros(3, 8, 8), "vocabulary": A}])
