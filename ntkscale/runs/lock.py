"""At most one process writes into a run folder."""

import fcntl
import os
from pathlib import Path

from ntkscale.runs.errors import RunFolderError

LOCK = ".lock"


class Lock:
    """Holds a run folder for this process until `release`.

    The system releases it when the process ends, however that happens, so a lock file that is left
    behind blocks nobody. On file systems that know no locks the folder is used without one.

    Args:
        folder: an existing folder.

    Raises:
        RunFolderError: another process, or another open folder of this one, holds it.
        OSError: the lock file cannot be created.
    """

    def __init__(self, folder: Path) -> None:
        self._descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._descriptor, 32).decode(errors="replace").strip()
            self.release()
            if holder == str(os.getpid()):
                raise RunFolderError(
                    f"{folder} is open in this process already; close that RunFolder first."
                ) from None
            raise RunFolderError(
                f"{folder} is being written by another process (pid {holder or 'unknown'}); wait "
                "for it, stop it, or choose another folder."
            ) from None
        except OSError:
            return
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let go of the folder; more than once does no harm."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
