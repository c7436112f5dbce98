import torch

from possam.classifiers import ClipPooling


def test_embeddings_are_clips_projection_of_the_mean_inside_each_mask():
    generator = torch.Generator().manual_seed(0)
    clip = torch.randn(2, 6, 4, 5, generator=generator)
    masks = torch.randn(2, 3, 4, 5, generator=generator)
    matrix = torch.randn(6, 8, generator=generator)
    pooling = ClipPooling(project=lambda pooled: pooled @ matrix)
    got = pooling(torch.zeros(2, 3, 7), masks, torch.zeros(2, 9, 16, 20), clip)
    for b in range(2):
        for q in range(3):
            expected = clip[b][:, masks[b, q] > 0].mean(1) @ matrix
            torch.testing.assert_close(got[b, q], expected, atol=1e-5, rtol=1e-5)


def test_it_learns_nothing():
    assert list(ClipPooling(project=lambda pooled: pooled).parameters()) == []
