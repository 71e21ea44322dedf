"""Options of a sweep, which belong to no experiment: `--launcher`, `--sweep`, `--jobs`, …"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, get_origin, get_type_hints

from ntkscale.faces.command_line import parse

Launcher = Literal["none", "local", "submitit", "torchrun"]

ABOUT = """Options of a sweep. They stand among those of an experiment; with a launcher every value
between commas, and every whole number of a range, becomes a run of its own."""

HELP = """Sweeps: `train.py circle --gamma0 0.03,0.1,1 --seed 0..4 --launcher local` makes a run of
every combination of values between commas and in ranges, each once, and goes on after a crash when
given again; values set apart by spaces stay in one run. --launcher local, submitit (Slurm) or
torchrun; --sweep NAME: folder below runs/sweeps; --jobs N: runs at once (torchrun: processes of
one); --retries N: deaths without progress; --cluster auto, local or slurm and --slurm KEY=VALUE ...
for submitit; --export FILE.yaml: a W&B sweep instead. `analyze.py FOLDER` judges all of them."""


@dataclass(frozen=True)
class Launch:
    """How a list of runs is run."""

    launcher: Launcher = "none"
    """local processes, submitit (Slurm) or torchrun"""
    sweep: str = ""
    """name of its folder below runs/sweeps; else from the list"""
    jobs: int = 0
    """runs at once, torchrun: processes of one run; 0: as many as there are cores or GPUs"""
    retries: int = 3
    """how often a run may die in a row without having got further"""
    cluster: Literal["auto", "local", "slurm"] = "auto"
    """where submitit runs them; auto: Slurm where there is one"""
    slurm: tuple[str, ...] = ()
    """KEY=VALUE of submitit's Slurm executor, e.g. partition=gpu time=60 (minutes)"""
    export: Path | None = None
    """write a W&B sweep there, .yaml, and run nothing"""

    def __post_init__(self) -> None:
        if self.jobs < 0 or self.retries < 0:
            name = "jobs" if self.jobs < 0 else "retries"
            raise ValueError(f"--{name} {getattr(self, name)} must be 0 or above.")
        given = [f.name for f in fields(self) if getattr(self, f.name) != f.default]
        if given and not self.asked:
            raise ValueError(
                f"--{given[0]} is for sweeps: add --launcher local, submitit or torchrun, or leave "
                "it out."
            )
        if self.launcher != "submitit" and (self.slurm or self.cluster != "auto"):
            raise ValueError("--slurm and --cluster are for --launcher submitit: leave them out.")

    @property
    def asked(self) -> bool:
        """Whether there is a sweep at all."""
        return self.launcher != "none" or self.export is not None


def take_launch(words: Sequence[str], *, program: str) -> tuple[Launch, list[str]]:
    """The sweep's own options, and the words that are left for the experiment.

    Raises:
        SystemExit: an option of the sweep is wrong (code 2), after one sentence on stderr.
        ValueError: options of the sweep that do not fit together.
    """
    several = {name: get_origin(kind) is tuple for name, kind in get_type_hints(Launch).items()}
    mine: list[str] = []
    rest: list[str] = []
    position = 0
    while position < len(words):
        word = words[position]
        name, equals, _ = word.partition("=")
        name = name[2:].replace("-", "_") if name.startswith("--") else ""
        position += 1
        if name not in several:
            rest.append(word)
            continue
        mine.append(word)
        most = 0 if equals else len(words) if several[name] else 1
        while most and position < len(words) and not words[position].startswith("--"):
            mine.append(words[position])
            position += 1
            most -= 1
    if not mine:
        return Launch(), rest
    return parse(Launch, mine, program=program, about=ABOUT), rest
