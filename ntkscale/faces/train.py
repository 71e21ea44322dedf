"""`python train.py EXPERIMENT …`: train, and say what was found."""

import sys
from collections.abc import Sequence
from dataclasses import replace

from ntkscale import runs
from ntkscale.experiments import EXPERIMENTS, Common, Recorded
from ntkscale.faces.command_line import guarded, parse
from ntkscale.faces.figure_log import log_figures
from ntkscale.faces.publish import publish

PROGRAM = "train.py"
ABOUT = """Train networks between lazy and rich while their tangent kernel is followed. The same
command takes an interrupted run up again; `python analyze.py RUN` judges it once more."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one experiment from the command line; returns the exit code.

    Args:
        arguments: words after the program's name; None: those of the process.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    commands = {name: experiment.settings for name, experiment in EXPERIMENTS.items()}
    settings = parse(commands, words, program=PROGRAM, about=ABOUT)
    options = [word.partition("=")[0][2:] for word in words if word.startswith("--")]
    settings = replace(settings, typed=tuple(name.replace("-", "_") for name in options))
    return guarded(lambda: _train(settings), program=PROGRAM)


def _train(settings: Common) -> None:
    experiment = next(e for e in EXPERIMENTS.values() if type(settings) is e.settings)
    folder = experiment.run(settings)
    if folder is not None:
        folder.close()
        run, report = runs.load(folder.path), folder.path / "report.html"
        verdict = experiment.judge(run)
        # Once: a finished run that is asked for again has its report.
        if isinstance(settings, Recorded) and not report.exists():
            log_figures(settings.wandb, run, verdict)
        publish([(run, verdict)], report)
