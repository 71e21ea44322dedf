"""Who is at work: a lock on a file, which the system lets go when its holder dies."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ntkscale.ntk.tiles.disk import open_own


@contextmanager
def alone(lock: Path, path: Path) -> Iterator[None]:
    """Hold `lock` while working on `path`; the lock file is removed at the end.

    One that a killed process left behind blocks nobody. On file systems that know no locks the
    work goes on without one.

    Raises:
        BlockingIOError: another process, or another call in this one, works on `path`.
        OSError: the lock file cannot be created.
    """
    descriptor = _current(lock, path)
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        # Removed while still held: nobody can have taken it in between.
        lock.unlink(missing_ok=True)
        os.close(descriptor)


def hold(descriptor: int) -> bool:
    """Lock an open file until it is closed; False if somebody else has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass  # A file system without locks.
    return True


def is_held(path: Path) -> bool:
    """Whether somebody has the file open and locked."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return not hold(descriptor)
    finally:
        os.close(descriptor)


def _current(lock: Path, path: Path) -> int:
    """The locked file that goes by the name `lock` now."""
    while True:
        descriptor = open_own(lock, os.O_RDWR | os.O_CREAT)
        if not hold(descriptor):
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
            os.close(descriptor)
            raise BlockingIOError(
                f"{path} is in use by another process (pid {holder or 'unknown'}); wait for it, "
                "stop it, or choose another path."
            )
        ours = os.fstat(descriptor)
        try:
            named = lock.stat()
        except FileNotFoundError:
            named = None
        if named is not None and os.path.samestat(ours, named):
            return descriptor
        # The last holder removed the file between our opening and locking it.
        os.close(descriptor)
