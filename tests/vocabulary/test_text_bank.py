import hashlib
import logging

import pytest
import torch
import torch.nn.functional as F

from possam.vocabulary import VILD_TEMPLATES, ClassEmbeddings, TextBank, Vocabulary

WORDS = Vocabulary.from_names(["sofa, couch", "sky", "cat"])


class CountingEncoder:
    """Turns each sentence into a fixed random vector, not normalised, and counts the sentences."""

    def __init__(self, text_fingerprint="one", embed_dim=16):
        self.text_fingerprint, self.embed_dim, self.sentences = text_fingerprint, embed_dim, 0

    def encode_text(self, texts):
        self.sentences += len(texts)
        return torch.stack([self.vector(text) for text in texts])

    def vector(self, text):
        seed = int(hashlib.sha256((self.text_fingerprint + text).encode()).hexdigest()[:8], 16)
        return 3 * torch.randn(self.embed_dim, generator=torch.Generator().manual_seed(seed))


def bank(directory, encoder=None, **more):
    encoder = encoder or CountingEncoder()
    return TextBank(encoder=encoder, directory=directory, **more), encoder


def test_embedding_is_the_normalised_mean_of_normalised_templates():
    texts, encoder = bank(None)
    got = texts.embed(WORDS)
    for row, name in zip(got.embeddings, WORDS.names, strict=True):
        vectors = [encoder.vector(template.replace("{}", name)) for template in VILD_TEMPLATES]
        mean = sum(vector / vector.norm() for vector in vectors) / len(vectors)
        torch.testing.assert_close(row, mean / mean.norm())
    assert got.embeddings.dtype == torch.float32
    assert got.class_index.tolist() == [0, 0, 1, 2] and got.num_classes == 3


def test_more_sentences_than_one_call_takes_keep_their_order():
    many = Vocabulary.from_names([f"class {index}" for index in range(50)])
    texts, _ = bank(None)
    alone, _ = bank(None)
    torch.testing.assert_close(
        texts.embed(many).embeddings[37], alone.embed(Vocabulary.from_names(["class 37"])).embeddings[0]
    )


def test_a_second_start_does_not_call_the_encoder(tmp_path):
    first, encoder = bank(tmp_path)
    expected = first.embed(WORDS).embeddings
    assert encoder.sentences == 14 * 4
    first.embed(WORDS)
    assert encoder.sentences == 14 * 4
    second, fresh = bank(tmp_path)
    assert torch.equal(second.embed(WORDS).embeddings, expected)
    assert fresh.sentences == 0
    assert [file.suffix for file in tmp_path.iterdir()] == [".safetensors"], "no temporary file stays"


def test_encoder_templates_and_names_each_have_their_own_file(tmp_path):
    bank(tmp_path)[0].embed(WORDS)
    for texts, encoder, words in [
        (*bank(tmp_path, CountingEncoder("two")), WORDS),
        (*bank(tmp_path, templates=("a {}",)), WORDS),
        (*bank(tmp_path), Vocabulary.from_names(["couch, sofa", "sky", "cat"])),
    ]:
        texts.embed(words)
        assert encoder.sentences > 0
    assert len(list(tmp_path.iterdir())) == 4


def test_two_vocabularies_in_either_order(tmp_path):
    other = Vocabulary.from_names(["dog"])
    texts, _ = bank(tmp_path)
    a, b = texts.embed(WORDS), texts.embed(other)
    texts, _ = bank(None)
    assert torch.equal(texts.embed(other).embeddings, b.embeddings)
    assert torch.equal(texts.embed(WORDS).embeddings, a.embeddings)


def _cut(path):
    path.write_bytes(path.read_bytes()[:-20])


def _flip(path):
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(bytes(content))


def _empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [_cut, _flip, _empty])
def test_a_damaged_file_is_computed_again_with_a_warning(tmp_path, caplog, damage):
    first, _ = bank(tmp_path)
    expected = first.embed(WORDS).embeddings
    damage(first.path(WORDS))
    second, encoder = bank(tmp_path)
    with caplog.at_level(logging.WARNING, logger="possam.vocabulary.text_bank"):
        assert torch.equal(second.embed(WORDS).embeddings, expected)
    assert encoder.sentences == 14 * 4
    assert "damaged" in caplog.text
    third, encoder = bank(tmp_path)
    third.embed(WORDS)
    assert encoder.sentences == 0, "the file was repaired"


def _fail(*_, **__):
    raise OSError(28, "No space left on device")


def _block_replace(directory, monkeypatch):
    monkeypatch.setattr("possam.files.os.replace", _fail)


def _block_temporary(directory, monkeypatch):
    monkeypatch.setattr("possam.files.tempfile.mkstemp", _fail)


def _block_folder(directory, monkeypatch):
    directory.rmdir()
    directory.touch()


def _block_parent(directory, monkeypatch):
    directory.rmdir()
    directory.parent.rmdir()
    directory.parent.touch()


def _block_file(directory, monkeypatch):
    bank(directory)[0].path(WORDS).mkdir()


@pytest.mark.parametrize("block", [_block_replace, _block_temporary, _block_folder, _block_parent, _block_file])
def test_a_folder_that_cannot_be_used_is_a_warning_that_names_the_setting(tmp_path, monkeypatch, caplog, block):
    expected = bank(None)[0].embed(WORDS).embeddings
    directory = tmp_path / "cache" / "text"
    directory.mkdir(parents=True)
    block(directory, monkeypatch)
    texts, _ = bank(directory)
    assert torch.equal(texts.embed(WORDS).embeddings, expected)
    texts.embed(Vocabulary.from_names(["dog"]))
    assert caplog.text.count("MODEL.TEXT_CACHE") == 1 and "text_cache" in caplog.text and str(directory) in caplog.text
    assert not [path for path in tmp_path.rglob("*") if path.suffix == ".tmp"]


def test_a_file_that_cannot_be_read_is_a_warning(tmp_path, monkeypatch, caplog):
    expected = bank(tmp_path)[0].embed(WORDS).embeddings
    monkeypatch.setattr("possam.vocabulary.text_bank.safe_open", _fail)
    assert torch.equal(bank(tmp_path)[0].embed(WORDS).embeddings, expected)
    assert "cannot be read" in caplog.text and "MODEL.TEXT_CACHE" in caplog.text


def test_an_encoder_of_another_width_or_with_broken_weights_is_refused(tmp_path):
    encoder = CountingEncoder()
    encoder.vector = lambda _: torch.zeros(3)
    with pytest.raises(ValueError, match=r"returned \(56, 3\) for 56 sentences"):
        bank(tmp_path, encoder)[0].embed(WORDS)
    encoder.vector = lambda _: torch.full((16,), float("nan"))
    with pytest.raises(ValueError, match="not finite"):
        bank(tmp_path, encoder)[0].embed(WORDS)
    assert list(tmp_path.iterdir()) == []


def test_class_logits_are_the_best_cosine_among_a_class_names():
    torch.manual_seed(0)
    rows = F.normalize(torch.randn(5, 8), dim=-1)
    text = ClassEmbeddings(embeddings=rows, class_index=torch.tensor([2, 0, 1, 0, 2]), num_classes=3)
    x = torch.randn(4, 6, 8, requires_grad=True)
    logits = text.logits(x, 50.0)
    assert logits.shape == (4, 6, 3)
    for b in range(4):
        for q in range(6):
            cosine = [float(x[b, q].detach() @ row / x[b, q].detach().norm()) for row in rows]
            expected = [max(cosine[1], cosine[3]), cosine[2], max(cosine[0], cosine[4])]
            torch.testing.assert_close(logits[b, q], 50 * torch.tensor(expected), atol=1e-4, rtol=1e-4)
    logits.sum().backward()
    assert x.grad.isfinite().all() and x.grad.abs().sum() > 0


def test_class_logits_are_float32_under_autocast_and_zero_for_a_zero_vector():
    text = ClassEmbeddings(embeddings=torch.eye(4), class_index=torch.arange(4), num_classes=4)
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = text.logits(x, 100.0)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, text.logits(x, 100.0))
    assert text.logits(torch.zeros(2, 4), 100.0).abs().sum() == 0
    with pytest.raises(ValueError, match="width 4"):
        text.logits(torch.zeros(2, 5), 1.0)


@pytest.mark.parametrize("index", [[0, 0, 0], [0, 1, 3], [0, 1]])
def test_class_embeddings_need_every_class_named(index):
    with pytest.raises(ValueError, match="class_index"):
        ClassEmbeddings(embeddings=torch.eye(3), class_index=torch.tensor(index), num_classes=2)


def test_moving_to_the_same_device_is_free():
    text = ClassEmbeddings(embeddings=torch.eye(3), class_index=torch.arange(3), num_classes=3)
    assert text.to("cpu") is text


def test_names_are_checked_without_encoding_unless_their_embeddings_are_there(tmp_path):
    class Strict(CountingEncoder):
        def check_texts(self, texts):
            if long := [text for text in texts if "sofa" in text]:
                raise ValueError(f"too long: {long[0]}")

    for directory in (None, tmp_path):
        texts, encoder = bank(directory, Strict())
        with pytest.raises(ValueError, match="too long: a photo of a sofa"):
            texts.check(WORDS)
        texts.check(Vocabulary.from_names(["sky"]))
        assert encoder.sentences == 0
        texts.embed(WORDS)
        texts.check(WORDS)
    again, _ = bank(tmp_path, Strict())
    again.check(WORDS)
