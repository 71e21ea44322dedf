"""What reading a hostile file must not do: hang, take memory, run code, write elsewhere, mumble."""

import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

SECONDS = 20
"""For one file, on a busy machine; a thousandth of it is usual."""

MEMORY = 768 << 20
"""Bytes that reading one file may take on top of the program."""

_LONGEST = 2000  # letters of a sentence, paths in it included
_CODE = (
    *("pickle.find_class", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork"),
    *("socket.connect", "ctypes.dlopen", "os.spawn", "webbrowser.open", "os.kill", "shutil.rmtree"),
)
_CHANGES = (
    *("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.symlink", "os.link", "os.truncate"),
    *("os.chmod", "os.chown", "os.mkfifo", "shutil.move", "shutil.copyfile"),
)
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Hang(BaseException):
    """Reading took too long."""


class Violation(AssertionError):
    """Something happened that must not."""


class Watch:
    """Watches readers of files in a place, beside which lies what they must leave alone.

    Args:
        root: an empty folder; `place` in it is where hostile files go, `outside` what they try to
            reach.
    """

    def __init__(self, root: Path) -> None:
        self.place, self.outside, self._here = root / "place", root / "outside", root / "here"
        self._root = os.path.realpath(root)
        for folder in (self.outside, self._here):
            folder.mkdir(parents=True)
        for name in ("victim.json", "victim.safetensors", "0.safetensors", "curve.png"):
            (self.outside / name).write_bytes(b'{"version": 1}\n')
        self._before = self._snapshot()
        self._active, self._seen = False, ""
        self.lying: dict[str, bytes] = {}

    def audit(self) -> None:
        """From now on every event of the interpreter is looked at, in this process for good."""
        sys.addaudithook(self._hook)

    def limit(self) -> None:
        """Bound the memory of this process."""
        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, now + MEMORY))

    def judge(
        self, read: Callable[[Path, Path], object], errors: tuple[type[Exception], ...]
    ) -> bool:
        """Whether a reader took what lies in the place; False if it refused it as it should.

        Raises:
            BaseException: whatever it did instead.
        """
        os.chdir(self._here)
        try:
            with self._watched():
                read(self.place, self.outside)
        except errors as error:
            _require_sentence(error, errors)
            return False
        finally:
            if self._snapshot() != self._before:
                raise Violation("a file outside was written, removed or made")
        if self._seen:
            raise Violation(self._seen)
        return True

    @contextmanager
    def _watched(self) -> Iterator[None]:
        def ring(_signal: int, _frame: FrameType | None) -> None:
            raise Hang(f"more than {SECONDS} s")

        before = signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        self._active, self._seen = True, ""
        try:
            yield
        finally:
            self._active = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def _snapshot(self) -> dict[str, tuple[int, ...]]:
        kept = {}
        for entry in (*os.scandir(self.outside), *os.scandir(self._here)):
            about = entry.stat(follow_symlinks=False)
            kept[entry.path] = (about.st_size, about.st_mtime_ns, about.st_ino)
        return kept

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._active:
            return
        if event in _CODE:
            self._seen = f"{event} {arguments!r:.200}"
        elif event == "exec":
            # Modules that are imported late are files, and dataclasses are made of text.
            source = getattr(arguments[0], "co_filename", "")
            if not Path(source).exists() and not source.startswith("<frozen"):
                self._seen = f"code was run: {source}"
        elif event == "open" and isinstance(arguments[0], str | bytes):
            path, mode, flags = arguments
            writes = bool(flags & _WRITING) if isinstance(flags, int) else "r" not in (mode or "r")
            self._seen = self._elsewhere(path) if writes else self._seen
        elif event in _CHANGES and isinstance(arguments[0], str | bytes | os.PathLike):
            self._seen = self._elsewhere(arguments[0]) or self._seen

    def _elsewhere(self, path: Any) -> str:
        name = os.path.abspath(os.fsdecode(path))  # noqa: PTH100, links stay links
        within = name.startswith((self._root, str(self.place.parent), "/dev/"))
        return self._seen if within else f"{name} was to be changed"


def _require_sentence(error: Exception, allowed: tuple[type[Exception], ...]) -> None:
    """Check that an error is one of the documented kinds, said by this package, in one sentence."""
    if isinstance(error, OSError) and error.errno is not None:
        return  # the system's own, which the command line puts into words
    if type(error) not in allowed and not isinstance(error, OSError):
        raise Violation(f"a {type(error).__name__}, no {allowed[0].__name__}: {error}") from error
    where = traceback.extract_tb(error.__traceback__)[-1].filename
    said = str(error)
    if "/ntkscale/" not in where:
        raise Violation(f"raised in {where}, not by the reader: {said[:200]}") from error
    if not said.isprintable() or len(said) > _LONGEST or not said.endswith((".", "?")):
        raise Violation(f"no sentence: {said[:400]!r}") from error
