"""A command with axes, from its words to the last line it prints."""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from ntkscale.experiments import EXPERIMENTS, Common
from ntkscale.faces.sweep.axes import ONLY, Plan, plan
from ntkscale.faces.sweep.export import export
from ntkscale.faces.sweep.folder import SweepFolder, inspect, open_sweep, sweep_path
from ntkscale.faces.sweep.local import LocalProcesses, cores, threads
from ntkscale.faces.sweep.options import Launch
from ntkscale.faces.sweep.point import Train
from ntkscale.faces.sweep.schedule import Status, run_all
from ntkscale.faces.sweep.slurm import SubmititJobs, find_cluster, parameters
from ntkscale.faces.sweep.spread import refuse_alone, spread_over
from ntkscale.faces.sweep.table import Board

FAILED = 1
"""Exit code of a sweep of which a run failed."""

Settings = Callable[[Sequence[str]], Common]
"""Settings from words, as `train.py` reads them."""


def launch(launch: Launch, words: Sequence[str], settings: Settings, train: Train) -> int:
    """Run the list that the words ask for, or write it down for W&B.

    Args:
        launch: how.
        words: a command of `train.py`, with axes.
        settings: reads the words of one run.
        train: does one run; importable by name.

    Returns:
        0, or 1 where a run failed.

    Raises:
        ValueError: the list, one of its points, or the folder is wrong; nothing is started.
        SystemExit: an option of a point is wrong (code 2), after one sentence on stderr.
        KeyboardInterrupt: Ctrl-C, when every run of this machine has ended.
    """
    commands = {name: experiment.settings for name, experiment in EXPERIMENTS.items()}
    asked = plan(words, commands)
    if launch.launcher == "torchrun":
        refuse_alone(asked.experiment)
    if launch.launcher == "submitit":
        find_cluster(launch.cluster)
        parameters(launch.slurm)
    path = sweep_path(asked, launch.sweep)
    if launch.export is None:
        inspect(path, asked)
    first = _check(asked, settings)
    if launch.export is not None:
        export(asked, launch.export)
        print(f"{len(asked.points)} runs; start them by: wandb sweep {launch.export}")
        return 0
    asked = _alone(asked, commands)
    folder, lock = open_sweep(path, asked)
    try:
        crew = _crew(launch, folder, train, gpus=_gpus(first))
        try:
            with Board(folder, crew.slots) as board:
                statuses = run_all(folder, crew, retries=launch.retries, show=board.show)
        except KeyboardInterrupt:
            if isinstance(crew, SubmititJobs) and crew.cluster == "slurm":
                print("jobs on Slurm go on; the same command watches them again.", file=sys.stderr)
            raise
        finally:
            crew.close()
    finally:
        lock.release()
    return _conclude(folder, statuses)


def _check(asked: Plan, settings: Settings) -> Common:
    """Read the settings of every point, with its preset written out; those of the first.

    Raises:
        ValueError: an option is out of range; the sentence names the point.
        SystemExit: an option is wrong.
    """
    expand = EXPERIMENTS[asked.experiment].expand
    every = []
    for point in asked.points:
        one = settings([asked.experiment, *point.words(), *asked.beside])
        try:
            expand(one)
        except (ValueError, OSError) as error:
            where = "" if point.name == ONLY else f" (in the run {point.name})"
            raise ValueError(f"{error}{where}") from error
        every.append(one)
    return every[0]


def _alone(asked: Plan, commands: Mapping[str, Any]) -> Plan:
    """The plan with one process a run, unless typed otherwise: the cores go to other runs."""
    if "--workers" in asked.beside or not hasattr(commands[asked.experiment], "workers"):
        return asked
    return Plan(
        asked.experiment, asked.axes, asked.fixed, (*asked.beside, "--workers", "1"), asked.runs
    )


def _gpus(settings: Common) -> int:
    """How many GPUs the runs will share; 0: they compute on the CPU."""
    wanted = settings.device in ("auto", "cuda")
    return torch.cuda.device_count() if wanted and torch.cuda.is_available() else 0


def _crew(
    launch: Launch, folder: SweepFolder, train: Train, *, gpus: int
) -> LocalProcesses | SubmititJobs:
    if launch.launcher == "submitit":
        return SubmititJobs(
            train,
            folder,
            jobs=launch.jobs,
            cores=max(cores() // threads(), 1),
            cluster=launch.cluster,
            options=launch.slurm,
        )
    side_by_side = launch.jobs or gpus or max(cores() // threads(), 1)
    if launch.launcher == "torchrun":
        # Ended by SIGTERM torchrun ends its processes first.
        return LocalProcesses(train, folder, 1, spread_over(side_by_side), gently=True)
    return LocalProcesses(train, folder, side_by_side, gpus=gpus)


def _conclude(folder: SweepFolder, statuses: Sequence[Status]) -> int:
    """Say what failed and how to go on; the exit code."""
    failed = [status for status in statuses if status.state == "failed"]
    for status in failed:
        print(f"failed: {status.point.name}: {status.note}; its log: {folder.log(status.point)}")
    print(f"{len(statuses) - len(failed)} of {len(statuses)} runs are done: {folder.path}")
    if failed:
        print("mend what is wrong and give the same command again: only these are run.")
    print(f"python analyze.py {folder.path}")
    return FAILED if failed else 0
