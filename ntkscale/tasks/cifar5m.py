"""CIFAR-5M as it is distributed: a folder of .npz files with images and labels.

Nakkiran, Neyshabur & Sedghi 2021 (arXiv 2010.08127): six million images like CIFAR-10's from a
generative model, in `part0.npz` ... `part5.npz` of a million each. Enough for every step of a
training to see fresh images.
"""

import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
from jaxtyping import Int, UInt8
from numpy import ndarray

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
        labels.append(_rows(part[0], part[2], skip + take)[skip:])
        wanted -= take
    path, x, y = parts[-1]
    return (
        _channels_first(np.concatenate(images)),
        np.concatenate(labels).astype(np.int64),
        _channels_first(_rows(path, x, tested)),
        _rows(path, y, tested).astype(np.int64),
    )


def _files(folder: Path) -> list[Path]:
    """By the numbers in their names: part10 comes after part9."""
    return sorted(
        folder.glob("*.npz"), key=lambda path: (*map(int, re.findall(r"\d+", path.stem)), 0)
    )


def _pairs(path: Path) -> Iterator[tuple[Path, str, str]]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.removesuffix(".npy") for name in archive.namelist()}
    except zipfile.BadZipFile as error:
        raise _damaged(path) from error
    for name in sorted(names):
        if name.startswith("X") and "Y" + name[1:] in names:
            yield path, name, "Y" + name[1:]


def _count(path: Path, x: str, y: str) -> int:
    (n, *shape), kind = _header(path, x)
    labels, _ = _header(path, y)
    if shape != [32, 32, 3] or kind != np.uint8 or labels != (n,):
        raise ValueError(
            f"{path} holds {x} of shape {(n, *shape)} and {kind} with {y} of shape {labels}, not "
            "(n, 32, 32, 3) of uint8 with n labels: this is not CIFAR-5M."
        )
    return n


def _header(path: Path, name: str) -> tuple[tuple[int, ...], np.dtype]:
    with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
        return _read_header(file, path)


def _read_header(file: IO[bytes], path: Path) -> tuple[tuple[int, ...], np.dtype]:
    try:
        version = np.lib.format.read_magic(file)
        read = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, fortran, kind = read(file)
    except (ValueError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise _damaged(path) from error
    if fortran or kind.hasobject:
        raise ValueError(f"{path} holds an array that is no plain row of images; fetch it again.")
    return shape, kind


def _rows(path: Path, name: str, count: int) -> ndarray:
    """The first rows of an array, streamed: the rest of a gigabyte is not read."""
    with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
        shape, kind = _read_header(file, path)
        bytes_wanted = count * int(np.prod(shape[1:])) * kind.itemsize
        try:
            data = file.read(bytes_wanted)
        except (EOFError, zlib.error, zipfile.BadZipFile) as error:
            raise _damaged(path) from error
    if len(data) < bytes_wanted:
        raise _damaged(path)
    return np.frombuffer(data, dtype=kind).reshape(count, *shape[1:])


def _channels_first(images: ndarray) -> ndarray:
    return np.ascontiguousarray(np.moveaxis(images, -1, 1))


def _damaged(path: Path) -> ValueError:
    return ValueError(f"{path} is damaged: fetch it again.")
