"""Image classification."""

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ntkscale.tasks.sources import WHITE, DataSet, load_raw
from ntkscale.tasks.targets import class_targets
from ntkscale.tasks.task import Loss, Task

Scale = Literal["standard", "pixels"]


def images(
    name: DataSet = "digits",
    *,
    size: int | None = None,
    test_size: int | None = None,
    classes: Literal["all"] | tuple[int, int] = "all",
    loss: Loss = "mse",
    scale: Scale = "standard",
    seed: int = 0,
    data_dir: Path | None = None,
    download: bool = False,
    dtype: torch.dtype = torch.float32,
) -> Task:
    """A data set, or a balanced part of it, standardised or as pixels.

    Standardised, every channel is shifted and scaled by one number each, the mean and standard
    deviation over the pixels of the whole training set, so that |x|^2 / D is one on average. Either
    way the same sample is the same input in every subset.

    A subset is drawn at random by `seed`, class by class in turn: class counts differ by at most
    one as long as the classes last, and a smaller subset is the beginning of a larger one.

    Args:
        name: ``"digits"`` (8 x 8, comes with scikit-learn), ``"fashion-mnist"``, ``"mnist"`` (both
            28 x 28), ``"cifar10"``, ``"cifar100"`` or ``"cifar5m"`` (3 x 32 x 32).
        size: number of training samples; None: all. Of CIFAR-5M the first ones are taken, in the
            files' order, and standardised by themselves.
        test_size: number of test samples, from the data set's test part (digits: its last 360
            samples); None: all, 0: no test set.
        classes: all (ten; of CIFAR-100 a hundred), or two of them, (a, b): a is label 0, b is 1.
        loss: two classes under mse have one output, targets -1 (a) and +1 (b); all else has centred
            one-hot targets.
        scale: ``"standard"``, or ``"pixels"``: from 0 (black) to 1 (white), where the size of a
            perturbation is what it is in the adversarial literature.
        seed: of the subset.
        data_dir: where the files are, see `sources.load_raw`.
        download: let torchvision fetch what is missing.
        dtype: of inputs and targets.

    Raises:
        ValueError: for an unknown name or scale, a subset larger than there is, or classes that are
            not two different ones of its own.
        FileNotFoundError: where the data set is missing, with the ways to get it.
    """
    chosen = _chosen_classes(classes, 100 if name == "cifar100" else 10)
    raw = load_raw(name, data_dir, download, size if classes == "all" else None)
    if scale == "standard":
        mean, deviation = (part.to(dtype) for part in _channel_statistics(raw.train_images))
    elif scale == "pixels":
        white = torch.tensor(WHITE.get(name, 255), dtype=dtype)
        mean, deviation = torch.zeros_like(white), white
    else:
        raise ValueError(f"unknown scale {scale!r}: choose standard or pixels.")

    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    for pixels, tags, count, part in (
        (raw.train_images, raw.train_labels, size, "size"),
        (raw.test_images, raw.test_labels, test_size, "test_size"),
    ):
        index = _balanced_subset(tags, chosen, count, seed, part)
        labels = np.searchsorted(np.sort(chosen), tags[index])
        if chosen[0] > chosen[-1]:  # (b, a): the first one named is label 0
            labels = 1 - labels
        standard = (torch.from_numpy(pixels[index]).to(dtype) - mean) / deviation
        tensor = torch.from_numpy(labels.astype(np.int64))
        targets = class_targets(tensor, len(chosen), loss, dtype)
        parts.append((standard, targets, tensor))

    (inputs, targets, labels), (test_inputs, test_targets, test_labels) = parts
    tested = len(test_inputs) > 0
    return Task(
        name=name if classes == "all" else f"{name}, {chosen[0]} or {chosen[1]}",
        inputs=inputs,
        targets=targets,
        loss=loss,
        labels=labels,
        test_inputs=test_inputs if tested else None,
        test_targets=test_targets if tested else None,
        test_labels=test_labels if tested else None,
    )


def _chosen_classes(classes: Literal["all"] | tuple[int, int], count: int) -> list[int]:
    if classes == "all":
        return list(range(count))
    pair = list(classes)
    if len(pair) != 2 or pair[0] == pair[1] or not all(0 <= c < count for c in pair):
        raise ValueError(
            f"classes must be 'all' or two different ones of 0 to {count - 1}, got {classes}."
        )
    return pair


def _channel_statistics(
    pixels: np.ndarray,
) -> tuple[Float[Tensor, "C 1 1"], Float[Tensor, "C 1 1"]]:
    # From the histogram of the 256 grey levels: exact, and no copy of the data set in floats.
    levels = np.arange(256)
    mean, deviation = [], []
    for c in range(pixels.shape[1]):
        counts = np.zeros(256, dtype=np.int64)
        for start in range(0, len(pixels), 1000):  # bincount widens what it is given to int64
            counts += np.bincount(pixels[start : start + 1000, c].ravel(), minlength=256)
        mean.append(counts @ levels / counts.sum())
        deviation.append(np.sqrt(counts @ levels**2 / counts.sum() - mean[-1] ** 2))
    return torch.tensor(mean, dtype=torch.float64)[:, None, None], torch.tensor(
        deviation, dtype=torch.float64
    )[:, None, None]


def _balanced_subset(
    tags: np.ndarray, chosen: list[int], count: int | None, seed: int, part: str
) -> np.ndarray:
    shuffled = np.random.default_rng(seed).permutation(len(tags))
    shuffled = shuffled[np.isin(tags[shuffled], chosen)]
    count = len(shuffled) if count is None else count
    least = 1 if part == "size" else 0
    if not least <= count <= len(shuffled):
        raise ValueError(f"{part} must be from {least} to {len(shuffled)}, got {count}.")
    rank = np.empty(len(shuffled), dtype=np.int64)
    for c in chosen:
        own = tags[shuffled] == c
        rank[own] = np.arange(own.sum())
    return shuffled[np.argsort(rank, kind="stable")][:count]
