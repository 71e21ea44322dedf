"""No room on the disk, or no way to write there."""

import resource
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.faults.row import Bench, Row, Skipped
from tests.faults.toys import circle, contents, different, ended, leftovers, run_of, whole


def mounted(folder: Path, options: str) -> bool:
    """Put a file system of its own there, in memory; whether that is permitted."""
    folder.mkdir(parents=True, exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)]
    return (
        shutil.which("mount") is not None
        and not subprocess.run(words, stderr=subprocess.DEVNULL, check=False).returncode
    )


def remount(folder: Path, options: str) -> None:
    """Change the options of a file system."""
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def files_no_longer_than(size: int) -> Callable[[], None]:
    """Prepares a process whose files cannot grow beyond so many bytes."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def goes_on(words: list[str], expected: dict[str, bytes], where: str) -> None:
    """The same command, now that there is room."""
    again = ended(words)
    assert again.code == 0, f"{where}: {again.said}"
    wrong = different(contents(run_of(words)), expected)
    assert not wrong, f"{where}: {wrong} differ"


def refused(words: list[str], where: str, prepare: Callable[[], None] | None = None) -> None:
    """One sentence, exit code 2, and nothing half-written."""
    done = ended(words, prepare=prepare)
    assert done.code == 2, f"{where}: exit code {done.code}, {done.said}"
    said = done.one_sentence()
    assert str(run_of(words)) in said and "make room" in said, f"{where}: {said}"
    assert not leftovers(run_of(words).parents[1]), f"{where}: {leftovers(run_of(words))}"


def check_length(bench: Bench) -> str:
    """A limit to the length of files stops each kind of file in turn, as a full disk would."""
    expected = whole(circle(bench.folder / "whole"))
    longest = sorted({len(content) for content in expected.values()})
    limits = [200, longest[len(longest) // 2] - 1, longest[-1] - 1]
    limits += [bench.draw.randrange(100, longest[-1]) for _ in range(bench.times(0, 5))]
    for limit in limits[: bench.times(2, 99)]:
        words = circle(bench.folder / str(limit))
        refused(words, f"{limit} bytes a file", prepare=files_no_longer_than(limit))
        goes_on(words, expected, f"{limit} bytes a file")
    return f"{len(limits[: bench.times(2, 99)])} lengths: one sentence, then the same bits"


def check_full(bench: Bench) -> str:
    """A file system that is too small for the run; more room, and it goes on."""
    expected = whole(circle(bench.folder / "whole"))
    size = sum(map(len, expected.values()))
    count = bench.times(1, 6)
    for number in range(count):
        place = bench.folder / f"disk{number}"
        kilobytes = bench.draw.randrange(40, max(size // 1500, 60))
        if not mounted(place, f"size={kilobytes}k"):
            raise Skipped("mounting a small file system is not permitted here")
        try:
            words = circle(place / "runs")
            refused(words, f"{kilobytes} kB")
            remount(place, "size=64m")
            goes_on(words, expected, f"{kilobytes} kB")
        finally:
            subprocess.run(["umount", "--lazy", str(place)], check=False)
    return f"{count} full disks: one sentence, then the same bits"


def check_page(bench: Bench) -> str:
    """No room for the page of the verdict: the run is finished, and the page comes later."""
    words = circle(bench.folder / "runs")
    done = ended(words, judged=True, prepare=files_no_longer_than(150_000))
    assert done.code == 2 and "make room" in done.one_sentence(), done.said
    run = run_of(words)
    assert '"finished": true' in (run / "results.json").read_text(), "the run is not finished"
    assert not (run / "report.html").exists() and not leftovers(run)
    again = ended(words, judged=True)
    assert again.code == 0 and (run / "report.html").exists(), again.said
    return "the run is finished, the page comes with the next start"


def check_protected(bench: Bench) -> str:
    """A file system that may only be read, at the start and in the middle of a run."""
    place = bench.folder / "disk"
    if not mounted(place, "size=64m"):
        raise Skipped("mounting a file system is not permitted here")
    try:
        words = circle(place / "runs")
        expected = whole(circle(bench.folder / "whole"))
        remount(place, "ro")
        done = ended(words)
        assert done.code == 2 and "permissions" in done.one_sentence(), done.said
        remount(place, "rw")
        refused(words, "half a run", prepare=files_no_longer_than(3000))
        remount(place, "ro")
        done = ended(words)
        assert done.code == 2 and "permissions" in done.one_sentence(), done.said
        remount(place, "rw")
        goes_on(words, expected, "a disk that was read-only")
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=False)
    return "one sentence, nothing changed, then the same bits"


def check_in_the_way(bench: Bench) -> str:
    """A file where a folder should be, and a folder where a file should be."""
    expected = whole(circle(bench.folder / "whole"))
    names = ["checkpoints", "kernels", "weights", "metrics.jsonl", "results.json", "timing.jsonl"]
    names = names[: bench.times(2, 99)]
    for name in names:
        words = circle(bench.folder / f"runs-{name}")
        run = run_of(words)
        assert ended(words, prepare=files_no_longer_than(3000)).code == 2
        there, aside = run / name, bench.folder / "aside"
        kept = there.exists()
        if kept:
            there.rename(aside)
        if "." in name:
            there.mkdir()
        else:
            there.write_text("")
        done = ended(words)
        assert done.code == 2, f"{name}: exit code {done.code}, {done.said}"
        assert name in done.one_sentence(), done.said
        if there.is_dir():
            there.rmdir()
        else:
            there.unlink()
        if kept:
            aside.rename(there)
        goes_on(words, expected, f"{name} in the way")
    return f"{len(names)} places: one sentence that names it, then the same bits"


ROWS = (
    Row(
        "full disk, found at any file (limit to the length of files)",
        "one sentence, exit code 2, nothing half-written; with room the same bits",
        check_length,
    ),
    Row(
        "full disk (a small file system)",
        "one sentence, exit code 2, nothing half-written; with room the same bits",
        check_full,
    ),
    Row(
        "full disk when the report is written",
        "the run is finished; the same command writes the page",
        check_page,
        in_suite=False,
    ),
    Row(
        "read-only file system, before and in the middle of a run",
        "one sentence, exit code 2, nothing changed; then the same bits",
        check_protected,
    ),
    Row(
        "a file or folder in the way of one of the run's own",
        "one sentence that names it, exit code 2; without it the same bits",
        check_in_the_way,
    ),
)
