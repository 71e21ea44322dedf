"""`train.py dmft`: does the theory of infinite width predict networks that learn features?

Figures 1 to 4 of Bordelon & Pehlevan 2022 (arXiv 2205.09653) and its appendix on two-layer ReLU
networks: dynamical mean-field theory (`theory.dmft`), its approximations, and networks of finite
width beside them. What is solved and trained is in `cells.py` and `cnn.py`, what is found
is judged in `verdict.py`.
"""

from ntkscale.experiments.dmft.cells import cells
from ntkscale.experiments.dmft.cnn import cnn_cells
from ntkscale.experiments.dmft.settings import EXPERIMENT, DmftSettings, expand
from ntkscale.experiments.work import run_pieces
from ntkscale.runs import RunFolder


def run(settings: DmftSettings) -> RunFolder:
    """Solve and train every cell, or take an interrupted run up again; returns its folder.

    Raises:
        ValueError: an option is out of range, or the folder holds another run.
    """
    settings = expand(settings)
    pieces = cnn_cells(settings) if settings.preset == "cnn" else cells(settings)
    return run_pieces(EXPERIMENT, settings, pieces)
