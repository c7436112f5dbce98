import hashlib
import logging

import pytest
import torch
import torch.nn.functional as F

from possam.vocabulary import VILD_TEMPLATES, ClassEmbeddings, TextBank, Vocabulary

WORDS = Vocabulary.from_names(["sofa, couch", "sky", "cat"])


class CountingEncoder:
    """Turns each sentence into a fixed random vector, not normalized, and counts the sentences."""

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


def test_embedding_is_the_normalized_mean_of_normalized_templates():
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
    monkeypatch.setattr("possam.utils.files.os.replace", _fail)


def _block_temporary(directory, monkeypatch):
    monkeypatch.setattr("possam.utils.files.tempfile.mkstemp", _fail)


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


# ---------------------------------------------------------------- thousands of names

MANY = Vocabulary.from_names([f"class {index}" for index in range(700)])  # shards of 256, 256 and 188 names
SHORT = ("a {}", "the {}", "one {} more")  # 256 sentences are no whole number of names


class CheckingEncoder(CountingEncoder):
    """Fails at one text, either when it is checked or when it is encoded."""

    def __init__(self, *, too_long=None, broken=None):
        super().__init__()
        self.too_long, self.broken, self.longest_call = too_long, broken, 0

    def check_texts(self, texts):
        self.longest_call = max(self.longest_call, len(texts))
        if self.too_long in texts:
            raise ValueError(f"text is longer than CLIP's context: {self.too_long!r}")

    def encode_text(self, texts):
        self.longest_call = max(self.longest_call, len(texts))
        if self.broken in texts:
            raise KeyboardInterrupt
        return super().encode_text(texts)


@pytest.fixture(scope="module")
def whole():
    """The embeddings of MANY computed in one go."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("possam.vocabulary.text_bank._NAMES_PER_SHARD", 1000)
        return bank(None, templates=SHORT)[0].embed(MANY).embeddings


def test_shards_change_nothing_and_bound_what_is_held(tmp_path, whole):
    texts, encoder = bank(tmp_path, CheckingEncoder(), templates=SHORT)
    steps = []
    assert torch.equal(texts.embed(MANY, lambda *step: steps.append(step)).embeddings, whole)
    assert encoder.longest_call == 256 * 3 and encoder.sentences == 700 * 3
    assert steps[-1] == (700, 700) and len(steps) == 3 and [*steps] == sorted(steps)
    assert [path.name for path in tmp_path.iterdir()] == [texts.path(MANY).name], "shards are removed at the end"
    again, encoder = bank(tmp_path, CheckingEncoder(), templates=SHORT)
    assert torch.equal(again.embed(MANY).embeddings, whole) and encoder.sentences == 0


def interrupted(tmp_path, patch, after):
    """A folder in which `after` shards are done."""
    made = []

    def order(self, shards):
        shards.sort(key=lambda shard: shard.start)

    patch.setattr("random.Random.shuffle", order)
    texts, encoder = bank(tmp_path, CheckingEncoder(broken=f"a class {256 * after + 5}"), templates=SHORT)
    with pytest.raises(KeyboardInterrupt):
        texts.embed(MANY, lambda *step: made.append(step))
    assert len(made) == after
    return texts


def test_interrupted_work_is_continued(tmp_path, monkeypatch, whole):
    first = interrupted(tmp_path, monkeypatch, 2)
    assert not first.path(MANY).exists() and len(list(tmp_path.rglob("*.safetensors"))) == 2
    texts, encoder = bank(tmp_path, CheckingEncoder(), templates=SHORT)
    assert torch.equal(texts.embed(MANY).embeddings, whole)
    assert encoder.sentences == 188 * 3
    assert list(tmp_path.iterdir()) == [texts.path(MANY)]


def test_a_damaged_shard_is_computed_again(tmp_path, monkeypatch, caplog, whole):
    interrupted(tmp_path, monkeypatch, 2)
    _flip(sorted(tmp_path.rglob("*.safetensors"))[0])
    texts, encoder = bank(tmp_path, CheckingEncoder(), templates=SHORT)
    assert torch.equal(texts.embed(MANY).embeddings, whole)
    assert encoder.sentences == (256 + 188) * 3 and "damaged" in caplog.text


def test_another_process_may_finish_first(tmp_path, monkeypatch, whole):
    """Between two shards of this process another one writes the whole file and removes the shards."""
    interrupted(tmp_path, monkeypatch, 1)
    texts, encoder = bank(tmp_path, CheckingEncoder(), templates=SHORT)

    def finish(done, total):
        if done == 512:
            assert torch.equal(bank(tmp_path, CheckingEncoder(), templates=SHORT)[0].embed(MANY).embeddings, whole)

    assert torch.equal(texts.embed(MANY, finish).embeddings, whole)
    assert encoder.sentences == 256 * 3 and list(tmp_path.iterdir()) == [texts.path(MANY)]


def test_many_names_are_checked_before_any_is_encoded(tmp_path):
    texts, encoder = bank(tmp_path, CheckingEncoder(too_long="the class 699"), templates=SHORT)
    with pytest.raises(ValueError, match="'the class 699'"):
        texts.embed(MANY)
    assert encoder.sentences == 0 and encoder.longest_call == 256 * 3 and list(tmp_path.iterdir()) == []


def test_many_names_without_a_folder_that_can_be_written(tmp_path, monkeypatch, caplog, whole):
    monkeypatch.setattr("possam.utils.files.os.replace", _fail)
    texts, _ = bank(tmp_path / "text", CheckingEncoder(), templates=SHORT)
    assert torch.equal(texts.embed(MANY).embeddings, whole)
    assert caplog.text.count("MODEL.TEXT_CACHE") == 1


def test_the_nearest_name_in_bounded_memory(monkeypatch):
    torch.manual_seed(3)
    text = ClassEmbeddings(
        embeddings=F.normalize(torch.randn(50, 8), dim=-1), class_index=torch.arange(50), num_classes=50
    )
    x = torch.randn(37, 8)
    expected = (F.normalize(x, dim=-1) @ text.embeddings.T).amax(dim=1)
    made = []
    cosine = ClassEmbeddings.cosine
    monkeypatch.setattr(ClassEmbeddings, "cosine", lambda self, x: made.append(cosine(self, x)) or made[-1])
    assert torch.equal(text.nearest(x), expected) and len(made) == 1
    made.clear()
    monkeypatch.setattr("possam.vocabulary.text_bank._ELEMENTS", 500)
    torch.testing.assert_close(text.nearest(x), expected)
    assert len(made) == 4 and max(matrix.numel() for matrix in made) <= 500


def test_parts_have_the_names_of_their_classes():
    index = torch.tensor([2, 0, 1, 0, 2, 3, 4])
    text = ClassEmbeddings(embeddings=F.normalize(torch.randn(7, 4), dim=-1), class_index=index, num_classes=5)
    x = torch.randn(3, 4)
    parts = list(text.parts(2))
    assert [classes for classes, _ in parts] == [slice(0, 2), slice(2, 4), slice(4, 5)]
    torch.testing.assert_close(torch.cat([part.logits(x, 2.0) for _, part in parts], dim=1), text.logits(x, 2.0))
