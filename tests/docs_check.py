"""Every documented command in full, one after the other: `make docs-check`, hours.

    python tests/docs_check.py [--list] [--only TEXT] [--again] [--since COMMIT] [--limit SECONDS]
                               [--out FOLDER]

Commands run as they are written, in a folder of their own (`runs/docs-check/work`), where the
checkout's files lie as links; so runs, W&B records and reports of the check stay there. Each has
its log. What is done at this commit is not done again, and a training that was interrupted goes
on: the check is resumed by the same command. With `--since` what was done at that commit or after
it stands too, so that a check of hours survives an edit of a page; the table at the end says at
which commit each command ran. `make` and patterns (`circle|images …`) are left out;
what needs data, a GPU or other environments that are not there is passed over, with the reason.
The exit code is 1 if a command failed.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from documented import PLACEHOLDERS, ROOT, Command, commands, program

BAD_INPUT = 2
LINKED = (
    *("train.py", "analyze.py", "benchmarks", "ntkscale", "notebooks", "tests", "data"),
    *(".venv-peers", ".venv-jax", "cuda_check.json"),
)
QUIET_S = 30.0
"""Seconds between two signs of life."""


@dataclass(frozen=True)
class Job:
    """A command to run.

    Attributes:
        shown: as it is documented; its key.
        words: as it is run.
        missing: why it cannot be, or nothing.
    """

    shown: str
    words: tuple[str, ...]
    missing: str = ""


def jobs(work: Path) -> list[Job]:
    """All commands, in the order of the pages; the examples first."""
    examples = "pytest tests/test_documented.py tests/test_readme_examples.py"
    found = [Job(examples, (sys.executable, "-m", *examples.split()))]
    for command in commands():
        started = program(command.text)
        assert started is not None
        # `train.py circle` is what a table calls it, and stands elsewhere as it is typed.
        typed = command.words[0] not in {"train.py", "analyze.py", "make"}
        if typed and not command.is_pattern:
            found.append(_job(command, started[0], work))
    return found


def _job(command: Command, first: str, work: Path) -> Job:
    words = command.words
    if Path(words[0]).name in {"python", "python3"} and "/" not in words[0]:
        words[0] = sys.executable
    elif words[0] in {"pytest", "torchrun"}:
        module = "pytest" if words[0] == "pytest" else "torch.distributed.run"
        words[:1] = [sys.executable, "-m", module]
    words = [_placed(word, work) for word in words]
    return Job(command.text, tuple(words), _missing(first, words, work))


def _placed(word: str, work: Path) -> str:
    """A word with its placeholder replaced by something that is there."""
    if word in {"RUN", "runs/circle/NAME", "runs/images/NAME"}:
        kind = "images" if "images" in word else "circle"
        made = [path.parent for path in (work / "runs" / kind).glob("*/results.json")]
        finished = [path for path in made if (path / "report.html").exists()]
        return str(min(finished, key=lambda path: path.name)) if finished else word
    return {"N": "2", "FILE.html": "all.html"}.get(word, word)


def _missing(first: str, words: list[str], work: Path) -> str:
    """Why a command cannot run here; empty if it can, as far as can be told beforehand."""
    text = " ".join(words)
    peers = (ROOT / ".venv-peers" / "installed").exists()
    if left := [word for word in words if Path(word).name in PLACEHOLDERS and word != "all.html"]:
        absent = [word for word in left if not (work / word).exists()]
        if absent:
            return f"{absent[0]} ({PLACEHOLDERS[Path(absent[0]).name]}) is not there yet"
    if "cuda" in text and not torch.cuda.is_available():
        return "no GPU"
    if "submitit" in text and shutil.which("sbatch") is None:
        return "no Slurm"
    if first.endswith("workspace.py") and not {"--json", "--sweep"} & set(words):
        return "it needs a W&B account"
    if first in {"benchmarks/ntk.py", "benchmarks/attack_referee.py", "benchmarks/cuda_speed.py"}:
        return "" if peers else "the peers' environments are not there: make bench-environment"
    return ""


def prepare(work: Path) -> None:
    """Links to the checkout, and the arrays that `mine.npz` stands for."""
    work.mkdir(parents=True, exist_ok=True)
    for name in LINKED:
        if (ROOT / name).exists() and not (work / name).is_symlink():
            (work / name).symlink_to(ROOT / name)
    if not (work / "mine.npz").exists():
        random = np.random.default_rng(0)
        inputs = random.normal(size=(600, 10)).astype(np.float32)
        np.savez(work / "mine.npz", inputs=inputs, targets=np.sin(inputs[:, :1]))


def run(job: Job, work: Path, log: Path, limit: float) -> tuple[str, float]:
    """Run one command; how it ended, and the seconds it took.

    Raises:
        KeyboardInterrupt: Ctrl-C, after the command has been told as well.
    """
    # pytest reads its configuration from the folder of the project.
    where = ROOT if "pytest" in job.words else work
    began = told = time.monotonic()
    with log.open("w") as out:
        child = subprocess.Popen(
            job.words, cwd=where, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
            env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        )  # fmt: skip
        try:
            while child.poll() is None:
                time.sleep(0.2)
                now = time.monotonic()
                if now - began > limit:
                    _stop(child)
                    return "over the limit", now - began
                if now - told > QUIET_S:
                    told = now
                    print(f"    {now - began:6.0f} s  {_last_line(log)[:100]}", flush=True)
        except BaseException:
            _stop(child)
            raise
    seconds = time.monotonic() - began
    if child.returncode == 0:
        return "ok", seconds
    said = _last_line(log)
    # Data that are not here: the command has said so, in one sentence with the ways to get them.
    if child.returncode == BAD_INPUT and "--download" in said:
        return f"not here: {said}", seconds
    return f"FAILED with {child.returncode}: {said}", seconds


def _stop(child: subprocess.Popen[bytes]) -> None:
    os.killpg(child.pid, signal.SIGINT)
    try:
        child.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").replace("\r", "\n").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _git(*words: str) -> list[str] | None:
    """What git prints, line by line; None where it refuses."""
    asked = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return asked.stdout.split() if asked.returncode == 0 else None


def standing(results: Path, since: str | None) -> dict[str, dict[str, Any]]:
    """The last outcome of every command at the commits that count, by what is documented.

    Raises:
        ValueError: there is no such commit.
    """
    head = _git("rev-parse", "HEAD") or ["unknown"]
    commits = set(head)
    if since is not None:
        later = _git("rev-list", f"{since}..HEAD")
        first = _git("rev-parse", "--verify", f"{since}^{{commit}}")
        if later is None or first is None:
            raise ValueError(f"there is no commit {since!r} before this one")
        commits.update(later, first)
    lines = results.read_text().splitlines() if results.exists() else []
    return {row["command"]: row for row in map(json.loads, lines) if row["commit"] in commits}


def table(shown: Sequence[str], ended: dict[str, dict[str, Any]], passed: dict[str, str]) -> str:
    """One line a command: how it ended, seconds, and at which commit."""
    lines = []
    for command in shown:
        row = ended.get(command)
        if row is None:
            lines.append(f"{'-':>8} {'-':8} {command}: {passed.get(command, 'not run yet')}")
        else:
            outcome = "" if row["outcome"] == "ok" else f": {row['outcome']}"
            lines.append(f"{row['seconds']:6.0f} s {row['commit'][:8]} {command}{outcome}")
    return "\n".join(lines)


def main() -> int:
    """Run what is not done yet; returns the exit code."""
    parser = argparse.ArgumentParser(description="Every documented command, in full")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "docs-check")
    parser.add_argument("--only", default="", help="commands that contain this text")
    parser.add_argument("--list", action="store_true", help="print the commands, run none")
    parser.add_argument("--again", action="store_true", help="also those that are done")
    parser.add_argument("--since", metavar="COMMIT", help="what was done since then is done")
    parser.add_argument("--limit", type=float, default=86_400.0, help="seconds for one command")
    chosen = parser.parse_args()
    out: Path = chosen.out.resolve()
    work, results = out / "work", out / "results.jsonl"
    if not chosen.list:
        prepare(work)
    try:
        ended = standing(results, chosen.since)
    except ValueError as error:
        parser.error(f"{error}; give --since a hash or a tag of this branch")
    head_commit = (_git("rev-parse", "HEAD") or ["unknown"])[0]
    asked = [index for index, job in enumerate(jobs(work)) if chosen.only in job.shown]
    if not asked:
        parser.error(f"no documented command contains {chosen.only!r}; --list shows them all")
    passed: dict[str, str] = {}
    for position, index in enumerate(asked, 1):
        job = jobs(work)[index]  # anew: what it names may have been made since
        head = f"[{position}/{len(asked)}] {job.shown}"
        if chosen.list:
            print(head + (f"   (passed over: {job.missing})" if job.missing else ""))
            continue
        if not chosen.again and ended.get(job.shown, {}).get("outcome") == "ok":
            print(f"{head}: done before")
            continue
        if job.missing:
            passed[job.shown] = f"passed over, {job.missing}"
            print(f"{head}: {passed[job.shown]}")
            continue
        print(head, flush=True)
        outcome, seconds = run(job, work, out / f"{index:03d}.log", chosen.limit)
        print(f"    {outcome}, {seconds:.0f} s, {out / f'{index:03d}.log'}", flush=True)
        row = {"command": job.shown, "outcome": outcome, "seconds": round(seconds, 1)}
        ended[job.shown] = {**row, "commit": head_commit}
        with results.open("a") as file:
            file.write(json.dumps(ended[job.shown]) + "\n")
    if chosen.list:
        return 0
    shown = [job.shown for job in (jobs(work)[index] for index in asked)]
    ran = [ended[command]["outcome"] for command in shown if command in ended]
    failed = [outcome for outcome in ran if outcome != "ok" and not outcome.startswith("not here")]
    rest = len(shown) - ran.count("ok") - len(failed)
    print(f"\n{table(shown, ended, passed)}\n")
    print(f"{ran.count('ok')} ok, {len(failed)} failed, {rest} passed over")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on.")
        raise SystemExit(130) from None
