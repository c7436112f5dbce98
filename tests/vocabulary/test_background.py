"""Which training classes compete beside a vocabulary."""

import torch
import torch.nn.functional as F

from possam.vocabulary import ClassEmbeddings, TextBank, Vocabulary
from possam.vocabulary.background import background_classes, with_background
from tests.vocabulary.test_text_bank import CountingEncoder

TRAIN = Vocabulary.from_names(["person, child", "striped star", "hot dog", "car", "sky", "starfish"])


def embeddings(vocabulary, vectors):
    return ClassEmbeddings(
        embeddings=F.normalize(torch.tensor(vectors), dim=-1),
        class_index=torch.tensor(vocabulary.name_class),
        num_classes=len(vocabulary),
    )


def chosen(*names, near=()):
    """Names of the background beside `names`, of which the training names in `near` are 0.95 close to the first."""
    vocabulary = Vocabulary.from_names(names)
    size = len(TRAIN.names) + len(vocabulary.names)
    basis = torch.eye(size)
    text = embeddings(vocabulary, basis[len(TRAIN.names) :].tolist())
    first = basis[len(TRAIN.names)]
    closeness = {True: 0.95, False: 0.89}
    rows = []
    for name, own in zip(TRAIN.names, basis, strict=False):
        cosine = closeness[name in near]
        rows.append((cosine * first + (1 - cosine**2) ** 0.5 * own).tolist())
    ids = background_classes(vocabulary, text, TRAIN, embeddings(TRAIN, rows))
    return [TRAIN.display_names[class_id] for class_id in ids]


def test_names_of_the_vocabulary_are_left_out_whatever_their_case():
    assert chosen("zebra") == list(TRAIN.display_names)
    assert chosen("Car", "SKY ") == ["person", "striped star", "hot dog", "starfish"]


def test_a_class_goes_with_any_of_its_names():
    assert "person" not in chosen("child")


def test_other_words_for_the_same_are_left_out():
    assert chosen("automobile", near=["car"]) == ["person", "striped star", "hot dog", "sky", "starfish"]
    assert chosen("kid", near=["child"]) == ["striped star", "hot dog", "car", "sky", "starfish"]


def test_kinds_of_a_word_are_left_out_and_what_it_is_a_kind_of_competes():
    assert "striped star" not in chosen("star") and "starfish" in chosen("star")
    assert "hot dog" not in chosen("zebra", "dog") and "car" in chosen("police car")


def test_background_classes_come_last_with_ids_of_their_own():
    vocabulary = Vocabulary.from_names(["cat", "grass, lawn"], isthing=[True, False], name="mine")
    joined = with_background(vocabulary, TRAIN, [4, 0])
    assert joined.display_names == ("cat", "grass", "sky", "person") and joined.name == "mine"
    assert joined.categories[:2] == vocabulary.categories and joined.isthing == (True, False, True, True)
    assert len({category.dataset_id for category in joined.categories}) == 4


def test_joined_text_is_that_of_the_joined_vocabulary_and_asks_for_nothing_new():
    encoder = CountingEncoder()
    bank = TextBank(encoder=encoder, directory=None)
    vocabulary = Vocabulary.from_names(["cat", "grass, lawn"])
    text, train_text = bank.embed(vocabulary), bank.embed(TRAIN)
    before = encoder.sentences
    joined = text.join(train_text.select([4, 0]))
    assert encoder.sentences == before
    expected = bank.embed(with_background(vocabulary, TRAIN, [4, 0]))
    torch.testing.assert_close(joined.embeddings, expected.embeddings)
    assert torch.equal(joined.class_index, expected.class_index) and joined.num_classes == expected.num_classes
