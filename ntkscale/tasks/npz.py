"""Arrays in an .npz archive from anywhere: checked before memory is taken, never unpickled."""

import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import IO

import numpy as np
from numpy import ndarray

_RATIO = 1100
"""Bytes that deflate can make of one are 1,032: a file that announces more does not hold them."""

_CHUNK = 1 << 22


def array_names(path: Path) -> list[str]:
    """Names of the arrays in an archive, in its order.

    Raises:
        ValueError: it is no zip archive, or a damaged one.
    """
    with _reasons(), zipfile.ZipFile(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]


def array_header(path: Path, name: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype of an array, whose bytes the archive has room for.

    Raises:
        ValueError: it is not there, damaged, or holds records or objects.
    """
    with _array(path, name) as (_, shape, kind, _):
        return shape, kind


def read_array(path: Path, name: str, rows: int | None = None) -> ndarray:
    """An array, or its first rows, streamed: of a gigabyte no more is read than is needed.

    Raises:
        ValueError: as `array_header`; it ends early, differs from its checksum, or takes more
            memory than there is.
    """
    with _array(path, name) as (file, shape, kind, fortran):
        if rows is not None:
            if fortran and len(shape) > 1:
                raise ValueError(f"{name} lies column by column")
            shape = (rows, *shape[1:])
        content = np.empty(prod(shape) * kind.itemsize, dtype=np.uint8)
        done = 0
        while done < len(content):
            chunk = file.read(min(_CHUNK, len(content) - done))
            if not chunk:
                raise ValueError(f"{name} ends early")
            content[done : done + len(chunk)] = np.frombuffer(chunk, dtype=np.uint8)
            done += len(chunk)
        values = content.view(kind)
        return values.reshape(shape[::-1]).T if fortran else values.reshape(shape)


@contextmanager
def _array(path: Path, name: str) -> Iterator[tuple[IO[bytes], tuple[int, ...], np.dtype, bool]]:
    """The file of an array at its first byte, with shape, dtype and order."""
    with _reasons(), zipfile.ZipFile(path) as archive:
        about = archive.getinfo(f"{name}.npy")
        if about.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError("it is compressed in another way than numpy does")
        with archive.open(about) as file:
            shape, fortran, kind = _header(file)
            if kind.hasobject or kind.names is not None or kind.subdtype is not None:
                raise ValueError(f"{name} holds objects or records")
            room = about.file_size - file.tell()
            if min(shape, default=0) < 0 or len(shape) > 32 or kind.itemsize == 0:
                raise ValueError(f"{name} has a shape that cannot be")
            if prod(shape) * kind.itemsize != room or room > _RATIO * path.stat().st_size:
                raise ValueError(f"{name} announces more or fewer numbers than it holds")
            yield file, shape, kind, fortran


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a file that Python 2 wrote
        if version == (1, 0):
            return np.lib.format.read_array_header_1_0(file)
        if version == (2, 0):
            return np.lib.format.read_array_header_2_0(file)
    raise ValueError(f"it has version {version} of the npy format")


@contextmanager
def _reasons() -> Iterator[None]:
    """ValueError for whatever zipfile, zlib and numpy's reading of a header raise."""
    try:
        yield
    except MemoryError:
        raise ValueError("it takes more memory than there is") from None
    except KeyError:
        raise ValueError("there is no such array") from None
    except Exception as error:
        said = str(error).partition("\n")[0][:100] or type(error).__name__
        raise ValueError(said if said.isprintable() else ascii(said)[1:-1]) from error
