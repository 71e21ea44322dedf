"""`python analyze.py RUN…`: the verdict on runs that are on disk."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from ntkscale import runs
from ntkscale.experiments import EXPERIMENTS, Verdict
from ntkscale.faces.command_line import guarded, parse
from ntkscale.faces.publish import publish
from ntkscale.runs import Run, RunFolderError

PROGRAM = "analyze.py"
ABOUT = """Judge runs against theory: which regime each task is in, whether feature learning helps,
how far the curves may be extrapolated and where the next unit of compute should go; then each run's
own tables. Writes figures (PNG and PDF) into each run's figures/ and one self-contained page."""


@dataclass(frozen=True)
class Options:
    """What to judge."""

    run: Positional[Annotated[tuple[Path, ...], arg(metavar="RUN ...")]]
    """run folders, as train.py names them"""
    report: Annotated[tuple[Path, ...], arg(metavar="[FILE]")] = ()
    """the page to write, .html; unless given, report.html in the (first) run"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge runs from the command line; returns the exit code.

    Args:
        arguments: words after the program's name; None: those of the process.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    options = parse(Options, words, program=PROGRAM, about=ABOUT)
    return guarded(lambda: _analyze(options), program=PROGRAM)


def _analyze(options: Options) -> None:
    # `--report a.html RUN RUN` and `--report RUN RUN` read well: what is no page there is a run.
    files = [path for path in options.report[:1] if path.suffix in (".html", ".htm")]
    named = [*options.run, *options.report[len(files) :]]
    if not named:
        raise ValueError("no run was named; give the folder of a run, e.g. runs/circle/demo.")
    found = [runs.load(path) for path in named]
    judged = [(run, _judge(run)) for run in found]
    publish(judged, files[0] if files else found[0].path / "report.html")


def _judge(run: Run) -> Verdict:
    name = run.config.get("experiment")
    if name not in EXPERIMENTS:
        raise RunFolderError(
            f"{run.path} is a run of {name!r}, which this version does not know; it knows "
            f"{', '.join(EXPERIMENTS)}."
        )
    return EXPERIMENTS[name].judge(run)
