"""Files that are either old or new, never half of each: temporary file, fsync, rename."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SUFFIX = ".tmp"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside `path`, which takes its place when the block ends without an error.

    Folders above `path` are created. Whoever reads `path`, before or after a kill or a power cut,
    finds the old content or all of the new.

    Args:
        path: the file to write.

    Yields:
        The name to write to, an empty file.

    Raises:
        OSError: the file cannot be written; `path` is then as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}{_SUFFIX}")
    try:
        temporary.touch(exist_ok=False)
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)  # safetensors puts in its place a file that only the owner may read
        _sync(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
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


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
