"""Files that are either old or new, never half of each: temporary file, fsync, rename."""

import errno
import os
import platform
import re
import secrets
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

_SUFFIX = ".tmp"
_MACHINE = f"{zlib.crc32(platform.node().encode()):08x}"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside `path`, which takes its place when the block ends without an error.

    Folders above `path` are created. Whoever reads `path`, before or after a kill or a power cut,
    finds the old content or all of the new. What killed processes left of earlier attempts goes.

    Args:
        path: the file to write.

    Yields:
        The name to write to, an empty file.

    Raises:
        OSError: the file cannot be written; `path` is then as it was, and named in the error.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path)
    mine = f"{_MACHINE}-{os.getpid()}-{secrets.token_hex(4)}"
    temporary = path.with_name(f".{path.name}.{mine}{_SUFFIX}")
    try:
        temporary.touch(exist_ok=False)
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)  # safetensors puts in its place a file that only the owner may read
        _sync(temporary)
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        if isinstance(error, SafetensorError):
            # Its words for a full disk, which is no kind of OSError there.
            number = re.search(r"os error (\d+)", str(error))
            code = int(number[1]) if number else errno.EIO
            raise OSError(code, os.strerror(code), str(path)) from error
        raise
    _sync(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write a whole text file (UTF-8) as `replacing` does.

    Raises:
        OSError: see `replacing`.
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def remove_temporaries(folder: Path, name: str = "*") -> None:
    """Remove what killed writes of files called `name` left in `folder`."""
    for orphan in folder.glob(f".{name}{_SUFFIX}"):
        orphan.unlink(missing_ok=True)


def _remove_abandoned(path: Path) -> None:
    """Remove temporaries of `path` whose process, of this machine, is gone."""
    for orphan in path.parent.glob(f".{_literal(path.name)}.{_MACHINE}-*{_SUFFIX}"):
        number = orphan.name.removeprefix(f".{path.name}.{_MACHINE}-").partition("-")[0]
        if number.isdigit() and not _lives(int(number)):
            orphan.unlink(missing_ok=True)


def _literal(name: str) -> str:
    """The name as a pattern that fits nothing else."""
    return re.sub(r"([*?[])", r"[\1]", name)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # somebody else's
    return True


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
