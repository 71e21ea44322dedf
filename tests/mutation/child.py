"""pytest in a forked child of a process that has the libraries loaded.

Importing torch takes longer than most tests; a fork has it already. The package itself is imported
by the child, from the tree it is pointed at, so that each child sees the sources as they lie there.
"""

import gc
import json
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import hypothesis
import pytest

QUIET = ("-q", "-x", "--no-header", "-p", "no:cacheprovider")
WALL_FACTOR = 8.0
"""Wall seconds allowed for each CPU second allowed: a machine may be busy."""


class Chosen:
    """A pytest plugin that keeps the tests asked for, in their order, and records CPU seconds."""

    def __init__(
        self, order: Iterable[str] | None, entering: Callable[[str], object] | None
    ) -> None:
        self._place = None if order is None else {name: k for k, name in enumerate(order)}
        self._entering = entering
        self.seconds: dict[str, float] = {}
        self.failed = ""

    def pytest_configure(self, config: pytest.Config) -> None:
        """Examples that do not change from run to run, and no search for a smaller one."""
        del config
        phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
        hypothesis.settings.register_profile(
            "mutation", derandomize=True, database=None, deadline=None, phases=phases
        )
        hypothesis.settings.load_profile("mutation")

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        place = self._place
        if place is not None:
            kept = [item for item in items if item.nodeid in place]
            items[:] = sorted(kept, key=lambda item: place[item.nodeid])

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        begun = time.process_time()
        if self._entering is not None:
            self._entering(item.nodeid)
        outcome = yield
        self.seconds[item.nodeid] = time.process_time() - begun
        return outcome

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed = self.failed or report.nodeid


def preload() -> None:
    """Import what every test needs; nothing of the package."""
    for module in ("torch", "numpy", "scipy.optimize", "scipy.sparse.linalg", "scipy.integrate"):
        __import__(module)
    for module in ("torch.func", "safetensors.torch", "hypothesis.strategies"):
        __import__(module)
    # Plugins of other packages take a child seconds to load, and no test here needs one.
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    gc.freeze()  # or the first collection of every child copies the memory of its parent


def forked(work: Callable[[], object], log: Path, cpu_limit: float) -> object:
    """Do `work` in a child; what it returned (JSON), or the name of the signal that ended it.

    Args:
        log: a file that takes what the child prints.
        cpu_limit: seconds of CPU after which the child is ended; a multiple of it in wall time.

    Raises:
        RuntimeError: the child left no answer; the log has the reason.
    """
    answer = log.with_suffix(".answer")
    answer.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        try:
            os.setpgid(0, 0)
            out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(out, 1)
            os.dup2(out, 2)
            whole = int(cpu_limit) + 1
            resource.setrlimit(resource.RLIMIT_CPU, (whole, whole + 5))
            result = work()
            answer.write_text(json.dumps(result))
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)
    deadline = time.monotonic() + WALL_FACTOR * cpu_limit
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        if time.monotonic() > deadline:
            os.killpg(child, signal.SIGKILL)
        time.sleep(0.05)
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    if not answer.exists():
        raise RuntimeError(f"A child left no answer; {log} has the reason.")
    found = json.loads(answer.read_text())
    answer.unlink()
    return found


def pytest_here(
    tree: Path,
    targets: Iterable[str],
    order: Iterable[str] | None = None,
    entering: Callable[[str], object] | None = None,
    bytecode: bool = False,
) -> dict[str, Any]:
    """Run tests of a tree in this process: exit code, seconds of each test, the first that failed.

    Args:
        targets: files or folders, relative to the tree.
        order: ids of the tests to run, in this order; all by default.
        entering: called with each test's id before it runs.
        bytecode: whether compiled files are written.
    """
    here = str(Path(__file__).parents[2])
    sys.path[:] = [str(tree), *(path for path in sys.path if path not in {"", here})]
    for module in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
        del sys.modules[module]
    os.chdir(tree)
    sys.dont_write_bytecode = not bytecode
    plugin = Chosen(order, entering)
    code = int(pytest.main([*QUIET, *targets], plugins=[plugin]))
    return {"code": code, "seconds": plugin.seconds, "failed": plugin.failed}
