import pytest
import torch
import torch.nn.functional as F

from possam.classifiers import LocalDiscriminativePooling

B, Q, C, D_V, D = 2, 5, 16, 12, 24


@pytest.fixture
def ldp():
    torch.manual_seed(0)
    return LocalDiscriminativePooling(channels=C, clip_channels=D_V, embed_dim=D, layers=2, heads=4)


@pytest.fixture
def inputs():
    generator = torch.Generator().manual_seed(1)
    return {
        "queries": torch.randn(B, Q, C, generator=generator),
        "mask_logits": torch.randn(B, Q, 12, 16, generator=generator),
        "mask_features": torch.randn(B, C, 12, 16, generator=generator),
        "clip_features": torch.randn(B, D_V, 6, 8, generator=generator),
    }


def attend(layer, x):
    """One pre-norm layer by hand: x + attention(norm(x)), then x + feed-forward(norm(x))."""
    y = F.layer_norm(x, (C,), layer.norm1.weight, layer.norm1.bias)
    q, k, v = F.linear(y, layer.self_attn.in_proj_weight, layer.self_attn.in_proj_bias).chunk(3, dim=-1)
    heads = []
    for part in range(4):
        own = slice(part * C // 4, (part + 1) * C // 4)
        weights = (q[:, own] @ k[:, own].T / (C / 4) ** 0.5).softmax(dim=-1)
        heads.append(weights @ v[:, own])
    x = x + layer.self_attn.out_proj(torch.cat(heads, dim=-1))
    y = F.layer_norm(x, (C,), layer.norm2.weight, layer.norm2.bias)
    return x + layer.linear2(F.gelu(layer.linear1(y)))


def test_ldp_is_the_figure_step_by_step(ldp, inputs):
    with torch.no_grad():
        for parameter in ldp.parameters():  # biases and norms start trivial and would hide mistakes
            parameter.add_(0.1 * torch.randn_like(parameter))
        got = ldp(**inputs)
        for b in range(B):
            masks = inputs["mask_logits"][b]
            small = F.interpolate(masks[None], size=(6, 8), mode="bilinear", align_corners=False)[0]
            tokens = []
            for q in range(Q):
                z_sam = inputs["mask_features"][b][:, masks[q] > 0].mean(dim=1)
                tokens.append(ldp.sam_projection(z_sam) + ldp.stream_embedding[0])
            for q in range(Q):
                z_clip = inputs["clip_features"][b][:, small[q] > 0].mean(dim=1)
                tokens.append(ldp.clip_projection(z_clip) + ldp.stream_embedding[1])
            tokens = torch.stack(tokens)
            for layer in ldp.layers:
                tokens = attend(layer, tokens)
            tokens = ldp.norm(tokens)
            for q in range(Q):
                fused = ldp.head(torch.cat([tokens[q], tokens[Q + q]]))
                expected = fused + ldp.query_projection(inputs["queries"][b, q])
                torch.testing.assert_close(got[b, q], expected, atol=1e-5, rtol=1e-4)
    assert got.shape == (B, Q, D)


def test_training_and_evaluation_agree(ldp, inputs):
    ldp.eval()
    with torch.no_grad():
        fast = ldp(**inputs)
    torch.testing.assert_close(fast, ldp.train()(**inputs), atol=1e-5, rtol=1e-4)


def test_gradients_reach_everything_but_the_masks(ldp, inputs):
    for value in inputs.values():
        value.requires_grad_()
    ldp(**inputs).square().sum().backward()
    assert inputs["mask_logits"].grad is None
    for name in ("queries", "mask_features", "clip_features"):
        assert inputs[name].grad.abs().sum() > 0, name
    for name, parameter in ldp.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_an_empty_mask_has_a_finite_embedding_that_ignores_the_features(ldp, inputs):
    inputs["mask_logits"][:] = -1
    got = ldp(**inputs)
    assert got.isfinite().all()
    inputs["mask_features"] *= 2
    inputs["clip_features"] += 1
    torch.testing.assert_close(ldp(**inputs), got)


@pytest.mark.parametrize("size", [(12, 16), (10, 20)])
@pytest.mark.parametrize("streams", [["sam", "clip"], ["clip"], ["sam"]])
def test_layers_together_are_layers_one_by_one(inputs, streams, size):
    """Outputs, and gradients of parameters, queries and features; with an empty mask, and masks to be resized."""
    torch.manual_seed(0)
    ldp = LocalDiscriminativePooling(channels=C, clip_channels=D_V, embed_dim=D, heads=4, streams=streams)
    queries = [torch.randn(B, Q, C, requires_grad=True) for _ in range(3)]
    masks = [torch.randn(B, Q, *size, requires_grad=True) for _ in range(3)]
    masks[1].data[0, 2] = -1
    features = [inputs[name].requires_grad_() for name in ("mask_features", "clip_features")]
    wanted = [*ldp.parameters(), *queries, *features[("sam" not in streams) : 1 + ("clip" in streams)]]
    together = ldp.embed_layers(queries, masks, *features)
    apart = torch.stack([ldp(q, m, *features) for q, m in zip(queries, masks, strict=True)])
    torch.testing.assert_close(together, apart, atol=1e-6, rtol=1e-6)
    weight = torch.randn_like(apart)
    gradients = [torch.autograd.grad((output * weight).sum(), wanted) for output in (together, apart)]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=2e-6)


def test_the_order_of_masks_does_not_matter(ldp, inputs):
    got = ldp(**inputs)
    order = torch.tensor([3, 0, 4, 1, 2])
    inputs["queries"], inputs["mask_logits"] = inputs["queries"][:, order], inputs["mask_logits"][:, order]
    torch.testing.assert_close(ldp(**inputs), got[:, order], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("stream", "deaf_to"), [("clip", "mask_features"), ("sam", "clip_features")])
def test_one_stream_alone_hears_its_own_features_only(inputs, stream, deaf_to):
    torch.manual_seed(0)
    ldp = LocalDiscriminativePooling(channels=C, clip_channels=D_V, embed_dim=D, heads=4, streams=[stream])
    got = ldp(**inputs)
    assert got.shape == (B, Q, D)
    got.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in ldp.parameters())
    assert len(ldp.stream_embedding) == 1
    heard = "clip_features" if stream == "clip" else "mask_features"
    torch.testing.assert_close(ldp(**inputs | {deaf_to: inputs[deaf_to] + 1}), got)
    assert not torch.allclose(ldp(**inputs | {heard: inputs[heard] + 1}), got)


def test_mask_features_may_be_narrower_than_the_queries(inputs):
    ldp = LocalDiscriminativePooling(channels=C, clip_channels=D_V, embed_dim=D, heads=4, mask_channels=2)
    assert ldp(**inputs | {"mask_features": inputs["mask_features"][:, :2]}).shape == (B, Q, D)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": 3}, "multiple of heads"),
        ({"layers": 0}, "at least one"),
        ({"streams": []}, r"one or both of \['sam', 'clip'\], but got \[\]"),
        ({"streams": ["clip", "clip"]}, r"but got \['clip', 'clip'\]"),
        ({"streams": ["dino"]}, r"but got \['dino'\]"),
    ],
)
def test_wrong_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        LocalDiscriminativePooling(**{"channels": C, "clip_channels": D_V, "embed_dim": D} | change)
