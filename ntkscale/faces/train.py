"""`python train.py EXPERIMENT …`: train, and say what was found."""

import sys
from collections.abc import Sequence
from dataclasses import replace

from ntkscale import runs
from ntkscale.experiments import EXPERIMENTS, Common, Recorded
from ntkscale.faces.command_line import called, guarded, parse
from ntkscale.faces.publish import publish
from ntkscale.faces.sweep import HELP, in_one_run, launch, take_launch
from ntkscale.faces.verdict_log import log_verdict

PROGRAM = called("train.py")
ABOUT = """Train networks between lazy and rich while their tangent kernel is followed. The same
command takes an interrupted run up again; `python analyze.py RUN` judges it once more."""

_COMMANDS = {name: experiment.settings for name, experiment in EXPERIMENTS.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one experiment, or a sweep of them, from the command line; returns the exit code.

    Args:
        arguments: words after the program's name; None: those of the process.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    return guarded(lambda: _do(words), program=PROGRAM)


def _do(words: list[str]) -> int:
    if "-h" in words or "--help" in words:
        _settings(words)
    asked, words = take_launch(words, program=PROGRAM)
    if asked.asked:
        return launch(asked, words, _settings, main)
    _train(_settings(in_one_run(words, _COMMANDS)))
    return 0


def _settings(words: Sequence[str]) -> Common:
    """The settings of one run.

    Raises:
        SystemExit: after ``--help`` (code 0), or a wrong option (code 2), with one sentence.
    """
    settings = parse(_COMMANDS, words, program=PROGRAM, about=f"{ABOUT}\n\n{HELP}")
    options = [word.partition("=")[0][2:] for word in words if word.startswith("--")]
    return replace(settings, typed=tuple(name.replace("-", "_") for name in options))


def _train(settings: Common) -> None:
    experiment = next(e for e in EXPERIMENTS.values() if type(settings) is e.settings)
    folder = experiment.run(settings)
    if folder is not None:
        folder.close()
        run, report = runs.load(folder.path), folder.path / "report.html"
        verdict = experiment.judge(run)
        # Once: a finished run that is asked for again has its report.
        if isinstance(settings, Recorded) and not report.exists():
            log_verdict(settings.wandb, run, verdict)
        publish([(run, verdict)], report)


if __name__ == "__main__":  # torchrun starts modules
    raise SystemExit(main())
