"""`python analyze.py RUN…`: the verdict on runs that are on disk."""

import sys
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from ntkscale import runs
from ntkscale.experiments import EXPERIMENTS, Verdict
from ntkscale.faces.command_line import called, guarded, parse
from ntkscale.faces.publish import publish
from ntkscale.faces.sweep import SweepFolder, is_sweep, overview, pooled, read_sweep
from ntkscale.ntk.memory import out_of_memory
from ntkscale.runs import Run, RunFolderError
from ntkscale.runs.inspection import refuse_links
from ntkscale.runs.strict_json import reason

PROGRAM = called("analyze.py")
_PACKAGE = Path(runs.__file__).parents[1]
ABOUT = """Judge runs against theory: which regime each task is in, whether feature learning helps,
how far the curves may be extrapolated and where the next unit of compute should go; then each run's
own tables. Writes figures (PNG and PDF) into each run's figures/ and one self-contained page.
The folder of a sweep stands for its finished runs, put together over seeds and other lists; its
page begins with a row for each."""


@dataclass(frozen=True)
class Options:
    """What to judge."""

    run: Positional[Annotated[tuple[Path, ...], arg(metavar="RUN ...")]]
    """folders of runs or sweeps, as train.py names them"""
    report: Annotated[tuple[Path, ...], arg(metavar="[FILE]")] = ()
    """the page to write, .html; unless given, report.html in the first folder"""


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
    sweeps = {path: read_sweep(path) for path in named if is_sweep(path)}
    paths = [
        run for path in named for run in (_of_sweep(sweeps[path]) if path in sweeps else [path])
    ]
    found = [runs.load(path) for path in paths]
    judged = [(run, _judge(run)) for run in found]
    tables = [overview(sweep, judged) for sweep in sweeps.values()]
    publish(judged, files[0] if files else named[0] / "report.html", overviews=tables)


def _of_sweep(sweep: SweepFolder) -> list[Path]:
    """Run folders that stand for a sweep, in the order of its list.

    Raises:
        RunFolderError: no run is finished yet.
    """
    done = sum(sweep.finished(point) for point in sweep.plan.points)
    if not done:
        raise RunFolderError(
            f"{sweep.path} has no finished run yet; give the command of the sweep again."
        )
    left = len(sweep.plan.points) - done
    if left:
        print(f"{sweep.path}: {left} of {len(sweep.plan.points)} runs are unfinished.\n")
    return pooled(sweep)


def _judge(run: Run) -> Verdict:
    name = run.config.get("experiment")
    if not isinstance(name, str) or name not in EXPERIMENTS:
        raise RunFolderError(
            f"{run.path} is a run of {str(name)[:40]!r}, which this version does not know; it "
            f"knows {', '.join(EXPERIMENTS)}."
        )
    refuse_links(run.path, ("figures",))
    with warnings.catch_warnings(record=True) as odd:
        try:
            verdict = EXPERIMENTS[name].judge(run)
        except (RunFolderError, OSError, Warning):
            raise
        # Numbers without sense, of a run that may come from anywhere, fail anywhere.
        except Exception as error:
            if out_of_memory(error):
                raise
            raise RunFolderError(
                f"{run.path} cannot be judged, as its numbers do not fit together "
                f"({_where(error)}); restore it from a copy, or train it anew in another folder."
            ) from error
    if odd:
        print(
            f"{run.path}: not everything could be worked out ({_where(odd[0])}).", file=sys.stderr
        )
    return verdict


def _where(odd: Exception | warnings.WarningMessage) -> str:
    """What went wrong and at which line of the package, in a few words."""
    if isinstance(odd, warnings.WarningMessage):
        return f"{reason(Exception(odd.message))}, {Path(odd.filename).name}:{odd.lineno}"
    said = reason(odd).rstrip(".")
    if not isinstance(odd, ValueError):
        said = f"{type(odd).__name__}: {said}"
    frames = [
        frame
        for frame in traceback.extract_tb(odd.__traceback__)
        if Path(frame.filename).is_relative_to(_PACKAGE)
    ]
    return f"{said}, {Path(frames[-1].filename).relative_to(_PACKAGE)}:{frames[-1].lineno}"
