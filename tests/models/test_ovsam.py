"""Open-Vocabulary SAM equals its published forward; what it names, and what it trains."""

import pytest
import torch
from torch.nn import functional as F

from possam.classifiers import FixedCosineClassifier, RoIEmbedding
from possam.classifiers.ensembles.geometric import Geometric
from possam.d2.structures import Instances
from possam.decoders import PromptedDecoder, PromptEncoder
from possam.encoders.sam import PIXEL_MEAN, PIXEL_STD
from possam.layers.prompts import Prompts
from possam.layers.segment_masks import RepeatedMasks
from possam.losses import PromptedCriterion
from possam.models import OVSAM
from possam.models.converters.ovsam import rename
from possam.necks import SAM2CLIP, TopDownPyramid
from possam.vocabulary import TextBank, Vocabulary
from tests.encoders.tiny_clips import frozen
from tests.reference import ovsam as reference

VOCABULARY = Vocabulary.from_names(["cat, kitty", "dog", "red car"])
OTHERS = Vocabulary.from_names(["dog", "tree", "blue sky, sky"])
CHANNELS, EMBED_DIM = (32, 64, 128, 256), 16
SIZES = {"width": 24, "heads": 2, "grid": 8, "window": 5, "blocks": 2, "out": 32}
SIZE = (96, 128)


def published_state():
    student = reference.random_state(reference.student_shapes(channels=CHANNELS, **SIZES), scale=0.2)
    head = reference.head_shapes(channels=CHANNELS, width=32, embed_dim=EMBED_DIM, hidden=48)
    return {**student, **reference.random_state(head, seed=1, scale=0.2)}


def build(*, masks=1, classifier=None, label_token=True, **options):
    """Over a tiny ModifiedResNet, whose attention pool has 3×3 cells, with images padded to 128×128."""
    torch.manual_seed(0)
    clip = frozen({"layers": [1, 1, 1, 1], "width": 8, "head_width": 64, "image_size": 96}, embed_dim=EMBED_DIM)
    clip.pixel_mean.copy_(torch.tensor(PIXEL_MEAN).view(1, 3, 1, 1))
    clip.pixel_std.copy_(torch.tensor(PIXEL_STD).view(1, 3, 1, 1))
    neck = {"width": 24, "heads": 2, "grid": 8, "window": 5, "layers": 2, "out_channels": 32}
    options = {"class_embedding": "roi", "prompt_boxes": False, **options}
    return OVSAM(
        clip=clip,
        sam2clip=SAM2CLIP(in_channels=clip.out_channels, **neck),
        prompt_encoder=PromptEncoder(channels=32),
        mask_decoder=PromptedDecoder(
            embed_dim=EMBED_DIM, channels=32, heads=4, dim_feedforward=48, masks=masks, iou_head=masks > 1,
            label_token=label_token,
        ),
        pyramid=TopDownPyramid(in_channels=clip.out_channels, channels=32),
        roi_embedding=RoIEmbedding(channels=32, embed_dim=EMBED_DIM, cells=4),
        classifier=classifier or FixedCosineClassifier(embed_dim=EMBED_DIM),
        text_bank=TextBank(encoder=clip, directory=None, templates=["{}."]),
        criterion=PromptedCriterion(points=64),
        ensembles={"geometric": Geometric(alpha=0.1, beta=0.9)},
        ensemble="geometric",
        train_vocabulary=VOCABULARY,
        pad_to=128,
        **options,
    )


@pytest.fixture(scope="module")
def published():
    model = build().eval()
    own = model.prompt_encoder.state_dict(prefix="prompt_encoder.")
    model.load_state_dict({**rename(published_state()), **own}, strict=True)
    return model


@pytest.fixture(scope="module")
def ours():
    torch.manual_seed(3)
    classifier = FixedCosineClassifier(embed_dim=EMBED_DIM, background=False)
    return build(masks=4, class_embedding="roi_label", prompt_boxes=True, classifier=classifier).eval()


def image(seed=0):
    return torch.randint(0, 256, (3, *SIZE), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


POINTS = [[(40.0, 60.0, 1)], [(90.0, 30.0, 1), (10.0, 80.0, 0)], [], [(50.0, 40.0, 1)]]
BOXES = [None, None, [20.0, 15.0, 100.0, 70.0], [30.0, 30.0, 80.0, 90.0]]


def prompts():
    points = [[*map(list, ((x, y) for x, y, _ in each)), *[[0.0, 0.0]] * (2 - len(each))] for each in POINTS]
    labels = [[*(label for *_, label in each), *[-1] * (2 - len(each))] for each in POINTS]
    boxes = [box or [0.0] * 4 for box in BOXES]
    return Prompts(points=points, labels=labels, boxes=boxes, has_box=[box is not None for box in BOXES], size=SIZE)


def test_the_published_forward(published):
    """Masks, class logits and frozen CLIP's of points, boxes and both, from pixels on."""
    state, text = published_state(), published.text_bank.embed(VOCABULARY)
    names = [text.embeddings[text.class_index == index] for index in range(len(VOCABULARY))]
    rows = torch.stack([torch.cat([each, each[:1]])[:2] for each in names])  # padded by the first name
    inputs = {"image": image(), "vocabulary": VOCABULARY, "prompts": prompts()}
    (prediction,) = published.predict([inputs])
    pixels = (image().float() - torch.tensor(PIXEL_MEAN)[:, None, None]) / torch.tensor(PIXEL_STD)[:, None, None]
    pixels = F.pad(pixels, (0, 0, 0, 32))[None]  # zeros to 128×128
    maps = dict(zip(reference.LEVELS, resnet_levels(published.clip.model.visual, pixels), strict=True))
    embedding = reference.student({k: v for k, v in state.items() if k.startswith("neck_")}, maps, heads=2, window=5)
    pyramid = reference.feature_pyramid(state, maps)
    prompt_state = published.prompt_encoder.state_dict()
    pool = published.clip.model.visual.attnpool
    found = set()
    for index, (points, box) in enumerate(zip(POINTS, BOXES, strict=True)):
        tokens = reference.prompt_tokens(prompt_state, (128, 128), points=points, box=box)
        mask = reference.mask(state, prompt_state, embedding, tokens, heads=4)
        assert torch.allclose(prediction.mask_logits[index], mask, atol=1e-5, rtol=1e-5)
        region = reference.mask_box(mask)
        found.add(tuple(region.tolist()))
        vector = reference.class_embedding(state, pyramid, region, 4)
        logits = torch.cat([reference.class_logits(vector, rows), torch.zeros(1)])
        assert torch.allclose(prediction.inputs.query_logits[index], logits, atol=1e-3, rtol=1e-5)
        cells = reference.region(maps[32][0], region, 32, 3)
        own = F.normalize(reference.attention_pool(pool.state_dict(), cells, pool.num_heads), dim=0)
        assert torch.allclose(prediction.inputs.clip_embeddings[index], own, atol=1e-5)
        small = F.interpolate(mask[None, None], size=(4, 4), mode="bilinear")
        assert prediction.inputs.clip_empty[index] == ~(small > 0).any()
    assert len(found) > 1 and torch.equal(prediction.inputs.iou, torch.ones(4))


def resnet_levels(visual, pixels):
    x = visual.stem(pixels)
    levels = []
    for layer in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
        levels.append(x := layer(x))
    return levels


def test_a_prompt_does_not_depend_on_the_others(ours):
    inputs = {"image": image(), "vocabulary": VOCABULARY}
    (together,) = ours.propose([{**inputs, "prompts": prompts()}])
    for index in range(4):
        (alone,) = ours.propose([{**inputs, "prompts": prompts()[index : index + 1]}])
        for field in ("mask_logits", "query_embeddings", "clip_embeddings", "iou"):
            one, of_all = getattr(alone, field)[0], getattr(together, field)[index]
            assert torch.allclose(one, of_all, atol=1e-5), field


def test_a_single_point_takes_the_best_of_three_masks(ours):
    prepared = ours.prepare(ours.encode([image()]))
    masks = ours._decode(prepared, prompts())
    best = 1 + masks.iou[0, 1:].argmax()
    found = ours.predict_masks(prepared, prompts())
    assert torch.equal(found["mask_logits"][0, 0], masks.mask_logits[0, best])
    assert found["iou"][0, 0] == masks.iou[0, best].clamp(0, 1)
    for index in (1, 2, 3):  # two points, a box, a box and a point mean one thing
        assert torch.equal(found["mask_logits"][0, index], masks.mask_logits[index, 0])
    ours.multimask = False
    single = ours.predict_masks(prepared, prompts())["mask_logits"][0, 0]
    ours.multimask = True
    assert torch.equal(single, masks.mask_logits[0, 0])


def test_what_is_named_is_the_prompts_box_or_the_masks(ours, published):
    for model, own in ((ours, True), (published, False)):
        prepared = model.prepare(model.encode([image()]))
        logits = model.predict_masks(prepared, prompts())["mask_logits"][0]
        boxes = model._boxes(logits, prompts())
        assert torch.equal(boxes[:2], torch.stack([reference.mask_box(mask) for mask in logits[:2]]))
        assert torch.equal(boxes[2], torch.tensor(BOXES[2])) is own


def test_nothing_of_the_ground_truth_is_looked_at(ours):
    inputs = {"image": image(), "vocabulary": VOCABULARY, "prompts": prompts()}
    (plain,) = ours.predict([inputs])
    (told,) = ours.predict([{**inputs, "instances": targets()}])
    for field in ("query_logits", "clip_embeddings", "clip_empty", "iou"):
        assert torch.equal(getattr(plain.inputs, field), getattr(told.inputs, field)), field


def test_clip_names_other_boxes_where_they_are_given_as_the_published_evaluation_does(published):
    inputs = {"image": image(), "prompts": prompts()}
    boxes = torch.tensor([[10.0, 20.0, 90.0, 80.0]]).repeat(4, 1) + torch.arange(4.0)[:, None]
    (plain,), (told,) = (published.propose([each]) for each in (inputs, {**inputs, "region_boxes": boxes}))
    maps = published.encode([image()])["clip"][32]
    assert torch.allclose(told.clip_embeddings, published.clip.pool_boxes(maps, [boxes]), atol=1e-6)
    assert (plain.clip_embeddings - told.clip_embeddings).abs().amax() > 2e-5  # a random CLIP hardly sees a difference
    for field in ("mask_logits", "query_embeddings", "clip_empty", "iou"):
        assert torch.equal(getattr(plain, field), getattr(told, field)), field
    with pytest.raises(ValueError, match=r"region_boxes must be 4×4, a box for each prompt, but have shape \(3, 4\)"):
        published.propose([{**inputs, "region_boxes": boxes[:3]}])


def test_without_clip2sam_clip_alone_names_masks_that_no_label_token_changes(ours):
    only = build(masks=4, class_embedding="clip", label_token=False, prompt_boxes=True).eval()
    found = only.load_state_dict(ours.state_dict(), strict=False)
    assert not found.missing_keys
    assert {key.split(".")[1] for key in found.unexpected_keys} == {"label_token", "label_mlp"}
    inputs = {"image": image(), "prompts": prompts()}
    (proposals,), (others,) = only.propose([inputs]), ours.propose([inputs])
    assert torch.allclose(proposals.query_embeddings, proposals.clip_embeddings, atol=1e-6)
    assert not torch.allclose(proposals.mask_logits, others.mask_logits)
    maps = only.encode([image()])["clip"]
    expected = only.clip.pool_boxes(maps[32], [only._boxes(proposals.mask_logits, prompts())])
    assert torch.allclose(proposals.query_embeddings, expected, atol=1e-6)
    trained = {name.split(".")[0] for name, value in only.named_parameters() if value.requires_grad}
    assert trained == {"mask_decoder"}


def test_a_mask_without_a_cell_is_named_by_the_head_alone(published):
    maps = {"clip": {32: torch.randn(1, 256, 4, 4)}}
    nothing = torch.full((1, 32, 32), -1.0)
    _, empty = published._embed_by_clip(maps, nothing, published._boxes(nothing, prompts()[:1]))
    assert empty.tolist() == [True] and not published._boxes(nothing, prompts()[:1]).any()


def targets(labels=(0, 2, -1, 0)):
    found = Instances(SIZE)
    masks = torch.zeros(3, *SIZE, dtype=torch.bool)
    masks[0, 10:50, 20:90] = masks[1, 40:90, 60:120] = masks[2, 5:25, 5:25] = True
    found.gt_classes = torch.tensor(labels)
    found.gt_masks = RepeatedMasks(masks, torch.tensor([0, 1, 2, 0]))
    return found


def training_input(**changes):
    return {"image": image(), "vocabulary": VOCABULARY, "prompts": prompts(), "instances": targets(), **changes}


def test_masks_kept_once_train_as_one_mask_a_prompt(ours):
    plain = targets()
    plain.gt_masks = plain.gt_masks.tensor
    losses = []
    for instances in (targets(), plain):
        torch.manual_seed(1)
        losses.append(ours.train()([training_input(instances=instances)]))
    ours.eval()
    assert losses[0].keys() == {"loss_class", "loss_mask", "loss_dice", "loss_iou"}
    for name, loss in losses[0].items():
        assert loss.item() == pytest.approx(losses[1][name].item(), rel=1e-5), name


def test_the_class_loss_is_of_the_ground_truths_box_and_without_unnamed_instances(ours):
    ours.train()
    loss = ours([training_input()])["loss_class"]
    ours.eval()
    prepared = ours.prepare(ours.encode([image()]))
    boxes = torch.tensor([[20.0, 10, 90, 50], [60, 40, 120, 90], [20, 10, 90, 50]])
    chosen = torch.tensor([0, 1, 3])
    vectors = ours.roi_embedding(prepared["pyramid"], [boxes]) + ours._decode(prepared, prompts()).label[chosen]
    logits = ours.classifier(vectors, ours.text_bank.embed(VOCABULARY))
    assert torch.isinf(logits[:, -1]).all()
    assert loss.item() == pytest.approx(2 * F.cross_entropy(logits, torch.tensor([0, 2, 0])).item(), rel=1e-4)


def test_other_names_are_negatives_where_the_published_training_wants_them(ours):
    vectors = torch.randn(4, EMBED_DIM)
    plain = ours._training_logits(vectors, VOCABULARY)
    ours.negatives = OTHERS  # "dog" is a class of the batch already
    more = ours._training_logits(vectors, VOCABULARY)
    ours.negatives = None
    other = ours.classifier(vectors, ours.text_bank.embed(OTHERS))
    assert plain.shape == (4, 4) and torch.equal(more, torch.cat([plain[:, :3], other[:, 1:3], plain[:, 3:]], dim=1))


def test_passes_of_one_step_have_the_losses_of_the_whole(ours):
    batch = [training_input(), training_input(image=image(1), instances=targets((1, -1, -1, 1)))]
    ours.train()
    torch.manual_seed(2)
    whole = ours(batch)
    torch.manual_seed(2)
    with ours.accumulating(batch):
        parts = [ours([inputs]) for inputs in batch]
    ours.eval()
    for name, loss in whole.items():
        assert sum(part[name] for part in parts).item() / 2 == pytest.approx(loss.item(), rel=1e-4), name


def test_what_is_fixed_has_no_gradient_and_what_is_trained_has_one(ours, published):
    for model, fixed in ((ours, ()), (published, ("mask_decoder.label_mlp",))):
        model.train()
        model.zero_grad()
        sum(model([training_input()]).values()).backward()
        model.eval()
        for name, parameter in model.named_parameters():
            trained = not name.startswith(("clip.", "sam2clip.", "prompt_encoder.", *fixed))
            assert (parameter.grad is not None) is trained, name
    assert {"sam2clip.positions", "prompt_encoder.no_mask_embed.weight"} <= set(ours.state_dict())
    assert not any(key.startswith("clip.") for key in ours.state_dict())
