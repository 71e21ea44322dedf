"""A Slurm of one machine, as far as submitit asks for one: every program of it is this file.

`install` puts `sbatch`, `srun`, `sacct`, `scontrol`, `scancel` into a folder for PATH. Each task of
an array is a process that stays with it; the state of the cluster is files in the same folder, of
which `calls` lists what was asked for.

    jobs/<job>_<task>/state      what sacct says
    jobs/<job>_<task>/requeue    there once scontrol has asked for it
"""

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

PROGRAMS = ("sbatch", "srun", "sacct", "scontrol", "scancel")
CALLS = "calls"


def install(folder: Path) -> None:
    """Put the programs into a folder that is new."""
    (folder / "jobs").mkdir(parents=True)
    for name in PROGRAMS:
        lines = ["#!/bin/sh", shlex.join(["exec", sys.executable, __file__, str(folder), name])]
        (folder / name).write_text("\n".join(lines) + ' "$@"\n')
        (folder / name).chmod(0o755)


def calls(folder: Path, program: str) -> list[list[str]]:
    """The words of every call of a program so far."""
    lines = (folder / CALLS).read_text().splitlines() if (folder / CALLS).exists() else []
    words = [shlex.split(line) for line in lines]
    return [one[1:] for one in words if one[0] == program]


def states(folder: Path) -> dict[str, str]:
    """State of every task, by the name that Slurm gives it."""
    return {path.parent.name: path.read_text() for path in folder.glob("jobs/*/state")}


def sbatch(folder: Path, script: str) -> None:
    """Start the tasks of a script and say which job they are."""
    text = Path(script).read_text()
    asked = {
        key: shlex.split(word)[0] for key, word in re.findall(r"^#SBATCH --(.+?)=(.+)", text, re.M)
    }
    number = str(100 + len(calls(folder, "sbatch")))
    last = int(re.match(r"0-(\d+)", asked.get("array", "0-0"))[1])  # type: ignore[index]
    for task in range(last + 1):
        name = f"{number}_{task}" if "array" in asked else number
        (folder / "jobs" / name).mkdir()
        (folder / "jobs" / name / "state").write_text("PENDING")
        (folder / "jobs" / name / "script").write_text(text)
        subprocess.Popen(
            [sys.executable, __file__, str(folder), "task", name],
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    print(f"Submitted batch job {number}")


def task(folder: Path, name: str) -> None:
    """Run one task, again whenever it was asked for."""
    job, _, index = name.partition("_")
    here = folder / "jobs" / name
    one = ("NTASKS", "JOB_NUM_NODES"), ("NODEID", "PROCID", "LOCALID")
    given = {f"SLURM_{key}": value for keys, value in zip(one, "10", strict=True) for key in keys}
    given |= {"SLURM_JOB_ID": name if not index else f"{job}{index}", "SLURM_JOB_NODELIST": "here"}
    if index:
        given |= {"SLURM_ARRAY_JOB_ID": job, "SLURM_ARRAY_TASK_ID": index}
    while True:
        (here / "state").write_text("RUNNING")
        code = subprocess.call(["bash", str(here / "script")], env={**os.environ, **given})
        if not (here / "requeue").exists():
            (here / "state").write_text("FAILED" if code else "COMPLETED")
            return
        (here / "requeue").unlink()
        (here / "state").write_text("PENDING")


def srun(*words: str) -> None:
    """Become the command, which writes where srun was told to."""
    left = list(words)
    for option, stream in (("--output", 1), ("--error", 2)):
        at = left.index(option)
        place = left[at + 1]
        del left[at : at + 2]
        job = os.environ.get("SLURM_ARRAY_JOB_ID", os.environ["SLURM_JOB_ID"])
        for sign, value in (
            ("%A", job),
            ("%j", job),
            ("%a", os.environ.get("SLURM_ARRAY_TASK_ID", "")),
            ("%t", "0"),
        ):
            place = place.replace(sign, value)
        os.dup2(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666), stream)
    command = [word for word in left if word != "--unbuffered"]
    os.execvp(command[0], command)


def sacct(folder: Path, *words: str) -> None:
    """The state of all tasks, as submitit asks for it."""
    assert words[:3] == ("-o", "JobID,State,NodeList", "--parsable2"), words
    print("JobID|State|NodeList")
    for name, state in states(folder).items():
        if name.partition("_")[0] in words:
            print(f"{name}|{state}|here\n{name}.batch|{state}|here")


def scontrol(folder: Path, verb: str, name: str) -> None:
    """Let a task begin again once its process has ended."""
    assert verb == "requeue" and (folder / "jobs" / name).is_dir(), (verb, name)
    (folder / "jobs" / name / "requeue").touch()


def main() -> None:
    folder, program, words = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
    if program in PROGRAMS:
        with (folder / CALLS).open("a") as file:
            file.write(shlex.join([program, *words]) + "\n")
    if program == "srun":
        srun(*words)
    elif program != "scancel":
        {"sbatch": sbatch, "task": task, "sacct": sacct, "scontrol": scontrol}[program](
            folder, *words
        )


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    main()
