"""Kills runs of a sweep at random; says whether each was finished exactly once, and unharmed.

Usage: python tests/faces/killed_sweep.py FOLDER [--launcher local|submitit] [--points 100]
       [--kills 20] [--seed 0]

A sweep of small runs is launched, and while it goes on some of its processes are killed with
SIGKILL in the middle of their run. What the killed runs end with must be, byte for byte, what an
uninterrupted run of the same command leaves.
"""

import argparse
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path

from ntkscale.faces import train
from ntkscale.faces.sweep import read_sweep
from ntkscale.faces.sweep.folder import finished
from ntkscale.runs.lock import LOCK

SAME = ("metrics.jsonl", "results.json", "config.json")
COMMAND = ["coordinate-check", "--width", "8", "16", "32", "--seed", "0", "1", "2"]


def sweep_words(folder: Path, launcher: str, points: int, *more: str) -> list[str]:
    """The words of a sweep of that many runs, `sweeps/killed` below the folder."""
    axis = ["--points", f"16..{15 + points}"]
    where = ["--runs", str(folder), "--sweep", "killed", "--launcher", launcher]
    return [*COMMAND, *axis, *where, *more]


def writer(run: Path) -> int | None:
    """The process that holds a run folder's lock now, or None; takes no lock itself."""
    lock = run / LOCK
    try:
        number = int(lock.read_text())
        held = [entry.readlink() for entry in Path(f"/proc/{number}/fd").iterdir()]
    except (OSError, ValueError):
        return None
    return number if lock.resolve() in held else None


class Killer(threading.Thread):
    """Kills runs of a sweep, each once, at a moment up to `longest` seconds after it began.

    Args:
        runs: folders of the runs, in the order in which they are started.
        kills: how many.
        longest: seconds.
        draw: of which and when.
    """

    def __init__(self, runs: list[Path], kills: int, longest: float, draw: random.Random) -> None:
        super().__init__(daemon=True)
        self.killed: list[Path] = []
        self.over = threading.Event()
        self._kills, self._longest, self._draw = kills, longest, draw
        self._left = list(runs)
        self._chosen = set(draw.sample(runs, min(kills, len(runs))))

    def run(self) -> None:
        """Until the kills are done or `over` is set."""
        moments: dict[Path, float] = {}
        while not self.over.is_set() and len(self.killed) < self._kills:
            time.sleep(0.005)
            for run in list(self._left):
                if finished(run):  # too late: another one, of those that are still to come
                    self._left.remove(run)
                    others = [one for one in self._left if one not in self._chosen]
                    if run in self._chosen and others:
                        self._chosen.add(self._draw.choice(others))
                elif run in self._chosen and (process := writer(run)) is not None:
                    now = time.monotonic()
                    due = moments.setdefault(run, now + self._draw.uniform(0, self._longest))
                    if now >= due:
                        os.kill(process, signal.SIGKILL)
                        self.killed.append(run)
                        self._left.remove(run)


def contents(run: Path) -> dict[str, bytes]:
    """Every file of a run that must come out the same."""
    return {name: (run / name).read_bytes() for name in SAME}


def unharmed(run: Path, folder: Path) -> bool:
    """Whether a run ended as one of the same command that nobody disturbed."""
    points = run.name.partition("=")[2]
    words = [*COMMAND, "--points", points, "--runs", str(folder), "--name", run.name]
    if train.main(words) != 0:
        return False
    return contents(folder / COMMAND[0] / run.name) == contents(run)


def main() -> int:
    """Launch, kill, compare; exit code 0 if every run was finished once and unharmed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--launcher", choices=["local", "submitit"], default="local")
    parser.add_argument("--points", type=int, default=100)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    words = sweep_words(options.folder, options.launcher, options.points)
    if options.launcher == "submitit":
        words += ["--cluster", "local"]
    sweep = options.folder / "sweeps" / "killed"
    names = [f"points={number}" for number in range(16, 16 + options.points)]
    runs = [sweep / COMMAND[0] / name for name in names]
    killer = Killer(runs, options.kills, 0.3, random.Random(options.seed))
    killer.start()
    begun = time.monotonic()
    code = train.main(words)
    seconds = time.monotonic() - begun
    killer.over.set()
    killer.join()

    folder = read_sweep(sweep)
    count = Counter(line["point"] for line in folder.events() if line["event"] == "finished")
    died = Counter(line["point"] for line in folder.events() if line["event"] == "died")
    done = sum(finished(run) for run in runs)
    once = sum(count[name] == 1 for name in names)
    quiet = os.open(os.devnull, os.O_WRONLY)
    said = os.dup(1)
    os.dup2(quiet, 1)
    same = sum(unharmed(run, options.folder / "whole") for run in killer.killed)
    sys.stdout.flush()
    os.dup2(said, 1)
    print(
        f"{options.launcher}: {done} of {options.points} runs finished, {once} of them exactly "
        f"once; {len(killer.killed)} kills, {sum(died.values())} deaths seen, {same} killed runs "
        f"bitwise those of an uninterrupted run; {seconds:.0f} s, exit code {code}."
    )
    right = done == once == options.points and same == len(killer.killed) == options.kills
    return 0 if right and code == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
