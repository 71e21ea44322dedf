import pytest
import torch

from ntkscale.training import Batches


def test_an_epoch_shows_every_sample_once_and_drops_the_rest():
    batches = Batches((23, 2), 5, seed=7)
    assert batches.per_epoch == 4
    epochs = [
        torch.cat([batches.indices(4 * epoch + i) for i in range(4)]).tolist() for epoch in range(3)
    ]
    for epoch in epochs:
        assert len(set(epoch)) == 20
    assert epochs[0] != epochs[1]
    dropped = [set(range(23)) - set(epoch) for epoch in epochs]
    assert dropped[0] != dropped[1] or dropped[1] != dropped[2]


def test_order_depends_on_seed_and_step_alone():
    one, other = Batches((40, 3), 8, seed=1), Batches((40, 9), 8, seed=1)
    for step in (17, 3, 44, 3):  # any order of asking
        assert torch.equal(one.indices(step), other.indices(step))
    assert not torch.equal(one.indices(0), Batches((40, 3), 8, seed=2).indices(0))


def test_ranks_share_a_batch():
    whole = Batches((30, 2), 7, seed=4)
    shares = [Batches((30, 2), 7, seed=4, rank=rank, ranks=3) for rank in range(3)]
    for step in range(9):
        together = torch.cat([share.indices(step) for share in shares])
        assert sorted(together.tolist()) == sorted(whole.indices(step).tolist())


@pytest.mark.parametrize("kind", ["flip", "shift"])
def test_augmentation_is_reproducible_and_shared_between_ranks(kind):
    images = torch.rand(12, 2, 16, 24, generator=torch.Generator().manual_seed(0)) + 1
    whole = Batches(images.shape, 12, seed=3, augmentation=kind)
    first = whole.augment(images, 5)
    assert torch.equal(
        first, Batches(images.shape, 12, seed=3, augmentation=kind).augment(images, 5)
    )
    assert not torch.equal(first, whole.augment(images, 6))
    for rank in range(2):
        part = Batches(images.shape, 12, seed=3, augmentation=kind, rank=rank, ranks=2)
        assert torch.equal(part.augment(images[rank::2], 5), first[rank::2])


def test_augmented_images_are_flips_and_zero_filled_shifts():
    images = torch.rand(64, 1, 16, 24, generator=torch.Generator().manual_seed(1)) + 1
    flipped = Batches(images.shape, 64, seed=0, augmentation="flip").augment(images, 0)
    kept = [torch.equal(a, b) for a, b in zip(flipped, images, strict=True)]
    mirrored = [torch.equal(a, b.flip(-1)) for a, b in zip(flipped, images, strict=True)]
    assert all(a != b for a, b in zip(kept, mirrored, strict=True))
    assert 16 < sum(mirrored) < 48

    shifted = Batches(images.shape, 64, seed=0, augmentation="shift").augment(images, 0)
    found = set()
    for before, after in zip(images, shifted, strict=True):
        padded = torch.nn.functional.pad(before, (3, 3, 2, 2))
        matches = [
            (dy, dx)
            for dy in range(-2, 3)
            for dx in range(-3, 4)
            if torch.equal(after, padded[:, 2 - dy : 18 - dy, 3 - dx : 27 - dx])
        ]
        assert len(matches) == 1
        found.add(matches[0])
    assert {dy for dy, _ in found} == set(range(-2, 3))
    assert {dx for _, dx in found} == set(range(-3, 4))


def test_refuses_impossible_batches():
    with pytest.raises(ValueError, match="exceeds the 10 training samples"):
        Batches((10, 2), 11, seed=0)
    with pytest.raises(ValueError, match="cannot be shared by 4 processes"):
        Batches((10, 2), 3, seed=0, ranks=4)
    with pytest.raises(ValueError, match="augmentation 'flip' needs inputs"):
        Batches((10, 2), 3, seed=0, augmentation="flip")
