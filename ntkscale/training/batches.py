"""Which samples a step sees, as a pure function of seed and step.

Nothing is drawn from a running generator: the order of an epoch depends on (seed, epoch) and the
augmentation of a batch on (seed, step). So resuming needs no generator state, and two networks of
different width or richness see the same gradient noise for the same seed.
"""

import hashlib
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ntkscale.training.optimisation import Augmentation


def generator(purpose: str, seed: int, index: int) -> torch.Generator:
    """A CPU generator for one purpose at one moment, independent of all others."""
    digest = hashlib.blake2b(f"{purpose}/{seed}/{index}".encode(), digest_size=4).digest()
    # Four bytes: torch's CPU generator uses no more of its seed.
    return torch.Generator().manual_seed(int.from_bytes(digest, "little"))


class Batches:
    """Shuffled passes over the training set, without replacement.

    The samples left over at the end of an epoch (P modulo batch size) are dropped, others each
    epoch. A batch of the whole set is taken in its own order.

    Attributes:
        size: samples a step, over all ranks.
        per_epoch: steps an epoch.
        full: whether a batch is the whole set.
    """

    def __init__(
        self,
        shape: Sequence[int],
        batch_size: int | None,
        *,
        seed: int,
        augmentation: Augmentation = "none",
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        """Divide the set into batches.

        Args:
            shape: of the training inputs, (P, ...).
            batch_size: samples a step; None for all.
            seed: of order and augmentation.
            augmentation: what `augment` does to a batch.
            rank: which of the `ranks` shares of each batch is ours: every `ranks`-th sample.
            ranks: number of processes that share a batch.

        Raises:
            ValueError: a batch larger than the set, or smaller than the number of ranks;
                augmentation of inputs that are not images (P, channels, height, width).
        """
        samples = shape[0]
        self.size = samples if batch_size is None else batch_size
        if self.size > samples:
            raise ValueError(
                f"batch_size {batch_size} exceeds the {samples} training samples: lower it, or "
                "leave it out to use them all."
            )
        if self.size < ranks:
            raise ValueError(
                f"a batch of {self.size} cannot be shared by {ranks} processes: enlarge the "
                "batch or start fewer processes."
            )
        if augmentation != "none" and len(shape) != 4:
            raise ValueError(
                f"augmentation {augmentation!r} needs inputs (n, channels, height, width), but "
                f"they are {tuple(shape)}: use augmentation 'none'."
            )
        self.samples, self.seed, self.augmentation = samples, seed, augmentation
        self.full = self.size == samples
        self.per_epoch = samples // self.size
        self._share = slice(rank, None, ranks)
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.int64)

    def indices(self, step: int) -> Int[Tensor, "b"]:
        """Samples of step number `step` that are ours, on the CPU."""
        if self.full:
            return torch.arange(self.samples)[self._share]
        epoch, position = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = torch.randperm(
                self.samples, generator=generator("order", self.seed, epoch)
            )
        return self._order[position * self.size : (position + 1) * self.size][self._share]

    def augment(self, images: Float[Tensor, "b ..."], step: int) -> Float[Tensor, "b ..."]:
        """Our share of a batch, augmented; drawn for the whole batch so that ranks agree.

        ``flip`` mirrors left and right with probability 1/2; ``shift`` moves by up to an eighth of
        each side, filling with zeros.
        """
        if self.augmentation == "none":
            return images
        random = generator("augment", self.seed, step)
        if self.augmentation == "flip":
            mirrored = torch.rand(self.size, generator=random)[self._share] < 0.5
            mirrored = mirrored.to(images.device)[:, None, None, None]
            return torch.where(mirrored, images.flip(-1), images)
        for axis in (-2, -1):
            reach = images.shape[axis] // 8
            shift = torch.randint(-reach, reach + 1, (self.size,), generator=random)
            images = _shifted(images, shift[self._share].to(images.device), axis)
        return images


def _shifted(images: Tensor, shift: Int[Tensor, "b"], axis: int) -> Tensor:
    """Every image moved by its own number of pixels along one axis, zeros moving in."""
    length = images.shape[axis]
    source = torch.arange(length, device=images.device) - shift[:, None]
    shape = [len(images), 1, length, 1] if axis == -2 else [len(images), 1, 1, length]
    inside = ((source >= 0) & (source < length)).view(shape)
    index = source.clamp(0, length - 1).view(shape).expand_as(images)
    return images.gather(images.ndim + axis, index) * inside
