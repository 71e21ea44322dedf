"""Groups of pieces, in one process or side by side, under one folder."""

import os
import shutil
from collections.abc import Sequence

from ntkscale.experiments.settings import Training, configuration
from ntkscale.experiments.side_by_side import PARTS, Report, train_side_by_side
from ntkscale.experiments.train_cells import new_folder_unless_refused, worker_count
from ntkscale.experiments.work import Piece, do_pieces
from ntkscale.reporting import Progress
from ntkscale.runs import RunFolder


def run_groups(experiment: str, settings: Training, groups: Sequence[Sequence[Piece]]) -> RunFolder:
    """Do all groups, side by side where the settings and the machine allow it.

    Args:
        experiment: name of the command.
        settings: its options, expanded; they are the run's configuration.
        groups: pieces in the order in which they need each other.

    Returns:
        The run's folder, finished.

    Raises:
        ValueError: what a piece refuses, or a run that `new_folder_unless_refused` does.
        KeyboardInterrupt: Ctrl-C; what is done is kept.
    """
    workers = worker_count(settings, os.cpu_count() or 1)
    with new_folder_unless_refused(experiment, settings) as folder:
        if folder.finished:
            shutil.rmtree(folder.path / PARTS, ignore_errors=True)  # left by a kill at the very end
            return folder
        with Progress() as progress:

            def report(done: float, text: str) -> None:
                progress.update(done, len(groups), text)

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
            if apart or (workers > 1 and len(groups) > 1 and folder.load_checkpoint() is None):
                config = configuration(experiment, settings)
                train_side_by_side(folder, config, groups, work, workers, report)
            else:
                work(folder, groups, report)
    return folder
