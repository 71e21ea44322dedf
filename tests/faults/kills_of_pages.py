"""SIGKILL while figures and a report are written."""

import os
import signal
import sys
from pathlib import Path

from ntkscale.reporting import Picture, Section, new_figure, save_figure, write_report
from tests.faults.row import Bench, Row
from tests.faults.toys import leftovers
from tests.runs.killed_runs import Killer


def publish(folder: Path, edition: int) -> None:
    """A figure and a page that holds it; every edition has other numbers."""
    figure, axes = new_figure()
    axes[0].plot([1, 2, 3], [edition, 1, edition], label="loss")
    png, _ = save_figure(figure, folder / "figures", "loss")
    write_report(
        folder / "report.html",
        f"edition {edition}",
        "",
        [Section("Figure", figures=[Picture(png, "loss")])],
        config={"edition": edition},
        environment={},
    )


def pages(folder: Path) -> dict[str, bytes]:
    """Every file that is not a leftover."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".tmp"
    }


def attempt(folder: Path, at: int | None, tally: Path | None = None) -> bool:
    """Write the second edition in a forked process; whether it was killed at moment `at`."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            killer = Killer(at)
            killer.install()
            publish(folder, 2)
            if tally is not None:
                os.write(os.open(tally, os.O_WRONLY | os.O_CREAT), str(killer.count).encode())
            code = 0
        finally:
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(process, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, f"failed at moment {at}"
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def check(bench: Bench) -> str:
    """Old or new, file by file; the next attempt puts all of it right and sweeps up."""
    publish(bench.folder / "old", 1)
    old = pages(bench.folder / "old")
    new_folder, tally = bench.folder / "new", bench.folder / "tally"
    assert not attempt(new_folder, None, tally)
    moments, new = int(tally.read_text()), pages(new_folder)
    stride = max(1, moments // bench.times(3, bench.share(0.15)))
    for at in range(bench.draw.randrange(stride), moments, stride):
        folder = bench.folder / str(at)
        publish(folder, 1)
        assert attempt(folder, at), f"moment {at} of {moments} was not reached"
        bench.killed += 1
        for name, content in pages(folder).items():
            assert content in (old[name], new[name]), f"killed at {at}: {name} is half written"
        assert not attempt(folder, None)
        assert pages(folder) == new, f"killed at {at}: the next attempt left other pages"
        assert not leftovers(folder), f"killed at {at}: {leftovers(folder)} stay"
    return f"{bench.killed} killed of {moments} moments; each file old or new, nothing left over"


ROWS = (
    Row(
        "SIGKILL before, inside and after every write of figures and report",
        "every file is the old or the new one; the next attempt leaves nothing over",
        check,
    ),
)
