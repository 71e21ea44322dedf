"""The idx format of MNIST-like data sets."""

import gzip
import math
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

_UNSIGNED_BYTE = 0x08
_AXES, _LARGEST = 8, 1 << 32
"""What a file may announce: axes, and bytes; EMNIST, the largest, has three and 6e8."""

_RATIO = 1100  # bytes that gzip can make of one are 1,032
_CHUNK = 1 << 22


def read_idx(path: Path) -> np.ndarray:
    """Read an idx file of unsigned bytes, gzip-compressed or not.

    Returns:
        uint8 array of the shape in the file's header.

    Raises:
        ValueError: where the file is not that, is cut short, or announces more than 4 GiB.
        OSError: where it cannot be read.
    """
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is not an idx file of unsigned bytes: is it the right file?")
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if not packed:
            return _read(file, path)
        try:
            with gzip.open(file) as unpacked:
                return _read(unpacked, path)  # pyright: ignore[reportArgumentType]
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{path} is damaged ({error}): fetch it again.") from error


def _read(file: BinaryIO, path: Path) -> np.ndarray:
    """The array; no more is unpacked or kept than its header announces."""
    start = file.read(4)
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] != _UNSIGNED_BYTE or start[3] > _AXES:
        raise ValueError(f"{path} is not an idx file of unsigned bytes: is it the right file?")
    sizes = file.read(4 * start[3])
    if len(sizes) < 4 * start[3]:
        raise ValueError(f"{path} is damaged: it ends inside its header; fetch it again.")
    shape = tuple(int(n) for n in np.frombuffer(sizes, dtype=">u4"))
    wanted = math.prod(shape)
    if not 0 < wanted <= min(_LARGEST, _RATIO * path.stat().st_size):
        raise ValueError(f"{path} is damaged: its header announces shape {shape}; fetch it again.")
    found = bytearray()
    left = wanted + 1  # one more shows whether the file goes on
    while left > 0 and (chunk := file.read(min(left, _CHUNK))):
        found += chunk
        left -= len(chunk)
    if left != 1:
        many = "more" if left == 0 else wanted + 1 - left
        raise ValueError(
            f"{path} is damaged: its header announces shape {shape}, {many} bytes follow; fetch "
            "it again."
        )
    return np.frombuffer(found, dtype=np.uint8).reshape(shape)
