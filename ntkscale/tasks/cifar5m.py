"""CIFAR-5M as it is distributed: a folder of .npz files with images and labels.

Nakkiran, Neyshabur & Sedghi 2021 (arXiv 2010.08127): six million images like CIFAR-10's from a
generative model, in `part0.npz` ... `part5.npz` of a million each. Enough for every step of a
training to see fresh images.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8
from numpy import ndarray

from ntkscale.tasks.npz import array_header, array_names, read_array

MOST = 500_000
"""Training images that are read unasked: 6 GB as float32."""

_TEST = 10_000
_TEST_SHARE = 6  # of the last file's images, at most one in so many


def read_cifar5m(
    folder: Path, size: int | None
) -> tuple[
    UInt8[ndarray, "P 3 32 32"],
    Int[ndarray, " P"],
    UInt8[ndarray, "Q 3 32 32"],
    Int[ndarray, " Q"],
]:
    """Training and test images with their labels, no more of them read than are asked for.

    The first 10,000 images of the last file (at most a sixth of it) are the test set. Training
    images are taken in the order of the files, which is random; the test images are not among them.

    Args:
        folder: with .npz files holding pairs of arrays X... (n, 32, 32, 3) uint8, Y... (n,), of
            equal endings ("X" and "Y", or "X0" and "Y0").
        size: number of training images; None: all there are, if at most 500,000.

    Raises:
        FileNotFoundError: there is no .npz file with such arrays.
        ValueError: a damaged file, fewer images than asked for, or so many that one must say how
            many are wanted.
    """
    parts = [part for path in _files(folder) for part in _pairs(path)]
    if not parts:
        raise FileNotFoundError(
            f"cifar5m was not found in {folder}: give the folder of its .npz files, with arrays X "
            "and Y (data_dir, --data-dir)."
        )
    counts = [_count(*part) for part in parts]
    tested = min(_TEST, counts[-1] // _TEST_SHARE)
    left = sum(counts) - tested
    if size is None and left > MOST:
        raise ValueError(
            f"{folder} holds {left} training images, {left * 12288 / 1e9:.0f} GB as float32; say "
            "how many to read (size, --size)."
        )
    wanted = left if size is None else size
    if not 1 <= wanted <= left:
        raise ValueError(f"size must be from 1 to {left}, got {wanted}.")
    images, labels = [], []
    for i, (part, count) in enumerate(zip(parts, counts, strict=True)):
        skip = tested if i == len(parts) - 1 else 0
        take = min(wanted, count - skip)
        if take <= 0:
            break
        images.append(_rows(part[0], part[1], skip + take)[skip:])
        labels.append(_labels(part[0], part[2], skip + take)[skip:])
        wanted -= take
    path, x, y = parts[-1]
    return (
        _channels_first(np.concatenate(images)),
        np.concatenate(labels),
        _channels_first(_rows(path, x, tested)),
        _labels(path, y, tested),
    )


def _files(folder: Path) -> list[Path]:
    """By the numbers in their names: part10 comes after part9."""
    return sorted(
        (path for path in folder.glob("*.npz") if path.is_file()),
        key=lambda path: (*map(int, re.findall(r"\d+", path.stem)), 0),
    )


def _pairs(path: Path) -> Iterator[tuple[Path, str, str]]:
    try:
        names = set(array_names(path))
    except ValueError as error:
        raise _damaged(path) from error
    for name in sorted(names):
        if name.startswith("X") and "Y" + name[1:] in names:
            yield path, name, "Y" + name[1:]


def _count(path: Path, x: str, y: str) -> int:
    try:
        (shape, kind), (labels, numbers) = array_header(path, x), array_header(path, y)
    except ValueError as error:
        raise _damaged(path) from error
    if shape[1:] != (32, 32, 3) or kind != np.uint8 or labels != shape[:1]:
        raise ValueError(
            f"{path} holds {x!a:.40} of shape {shape} and {kind} with {y!a:.40} of shape {labels}, "
            "not (n, 32, 32, 3) of uint8 with n labels: this is not CIFAR-5M."
        )
    if numbers.kind not in "iuf":
        raise _damaged(path)
    return shape[0]


def _rows(path: Path, name: str, count: int) -> ndarray:
    """The first rows of an array."""
    try:
        return read_array(path, name, count)
    except ValueError as error:
        raise _damaged(path) from error


def _labels(path: Path, name: str, count: int) -> ndarray:
    """The first labels, int64."""
    found = _rows(path, name, count)
    if not np.isin(found, np.arange(10)).all():
        raise _damaged(path)
    return found.astype(np.int64)


def _channels_first(images: ndarray) -> ndarray:
    return np.ascontiguousarray(np.moveaxis(images, -1, 1))


def _damaged(path: Path) -> ValueError:
    return ValueError(f"{path} is damaged: fetch it again.")
