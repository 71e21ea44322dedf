"""`train.py kernel-evolution`: when is the basin sealed, when has the kernel learned?

Fort, Dziugaite, Paul, Kharaghani, Roy & Ganguli 2020 (arXiv 2010.15110): from checkpoints of one
parent, children are trained with their own order of samples, and the network is linearised. Error
barriers between children, distance and velocity of the kernel, and what the linearised network
learns are read on one axis of time, in epochs. With `--gamma0` the same for networks from lazy to
rich. What is trained is in `pieces.py`, what is found is judged in `verdict.py`.
"""

import os
import shutil
from collections.abc import Sequence

from ntkscale.experiments.kernel_evolution.pieces import groups
from ntkscale.experiments.kernel_evolution.settings import (
    EXPERIMENT,
    KernelEvolutionSettings,
    expand,
)
from ntkscale.experiments.settings import configuration
from ntkscale.experiments.side_by_side import PARTS, Report, train_side_by_side
from ntkscale.experiments.train_cells import new_folder_unless_refused, worker_count
from ntkscale.experiments.work import Piece, do_pieces
from ntkscale.reporting import Progress
from ntkscale.runs import RunFolder


def run(settings: KernelEvolutionSettings) -> RunFolder:
    """Train and measure everything, or take an interrupted run up again; returns its folder.

    Raises:
        ValueError: an option is out of range, or the folder holds another run.
        FileNotFoundError: the data are not there.
    """
    settings = expand(settings)
    todo = groups(settings)  # what is impossible is refused before there is a folder
    workers = worker_count(settings, os.cpu_count() or 1)
    with new_folder_unless_refused(EXPERIMENT, settings) as folder:
        if folder.finished:
            shutil.rmtree(folder.path / PARTS, ignore_errors=True)  # left by a kill at the very end
            return folder
        with Progress() as progress:

            def report(done: float, text: str) -> None:
                progress.update(done, len(todo), text)

            def work(part: RunFolder, share: Sequence[Sequence[Piece]], tell: Report) -> None:
                for position, group in enumerate(share):

                    def inner(
                        done: float, text: str, at: int = position, n: int = len(group)
                    ) -> None:
                        tell(at + done / n, text)

                    do_pieces(part, group, folder.path, inner)
                part.finish()

            # A run goes on in the way it was begun.
            apart = (folder.path / PARTS).exists()
            if apart or (workers > 1 and len(todo) > 1 and folder.load_checkpoint() is None):
                config = configuration(EXPERIMENT, settings)
                train_side_by_side(folder, config, todo, work, workers, report)
            else:
                work(folder, todo, report)
    return folder
