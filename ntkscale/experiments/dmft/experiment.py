"""`train.py dmft`: does the theory of infinite width predict networks that learn features?

Figures 1 to 4 of Bordelon & Pehlevan 2022 (arXiv 2205.09653) and its appendix on two-layer ReLU
networks: dynamical mean-field theory (`theory.dmft`), its approximations, and networks of finite
width beside them. What is solved and trained is in `cells.py` and `cnn.py`, what is found
is judged in `verdict.py`.
"""

from ntkscale.experiments.dmft.cells import cells
from ntkscale.experiments.dmft.cnn import cnn_cells
from ntkscale.experiments.dmft.settings import EXPERIMENT, DmftSettings, expand
from ntkscale.experiments.train_cells import new_folder_unless_refused
from ntkscale.experiments.work import do_pieces
from ntkscale.reporting import Progress
from ntkscale.runs import RunFolder


def run(settings: DmftSettings) -> RunFolder:
    """Solve and train every cell, or take an interrupted run up again; returns its folder.

    Raises:
        ValueError: an option is out of range, or the folder holds another run.
    """
    settings = expand(settings)
    with new_folder_unless_refused(EXPERIMENT, settings) as folder:
        if not folder.finished:
            _solve(folder, settings)
    return folder


def _solve(folder: RunFolder, settings: DmftSettings) -> None:
    """Solve and train what is not done yet."""
    todo = cnn_cells(settings) if settings.preset == "cnn" else cells(settings)
    with Progress() as progress:

        def report(done: float, text: str) -> None:
            progress.update(done, len(todo), text)

        do_pieces(folder, todo, folder.path, report)
    folder.finish()
