"""`train.py scaling-model`: the figures of the solvable model, each against what theory says.

Bordelon, Atanasov & Pehlevan 2024 (arXiv 2409.17858), figures 1 to 3 and its appendix on data, from
exact solutions: exponents against beta, phase diagrams, curves for a ladder of gamma at finite and
infinite width, SGD transients, label noise and early stopping. What is computed for each is in
`cells.py`, what is found is judged in `verdict.py`.
"""

from functools import partial
from typing import Any

from ntkscale.experiments.scaling_model.cells import ModelCell, cells
from ntkscale.experiments.scaling_model.settings import EXPERIMENT, ScalingModelSettings, expand
from ntkscale.experiments.work import Desk, Piece, run_pieces
from ntkscale.runs import RunFolder


def run(settings: ScalingModelSettings) -> RunFolder:
    """Solve every cell, or take an interrupted run up again; returns its folder.

    Raises:
        ValueError: an option is out of range, or the folder holds another run.
    """
    settings = expand(settings)
    pieces = [
        Piece({"part": cell.part, **cell.key}, partial(_solve, cell)) for cell in cells(settings)
    ]
    return run_pieces(EXPERIMENT, settings, pieces)


def _solve(cell: ModelCell, desk: Desk, piece: Piece) -> dict[str, Any]:
    found = cell.solve()
    for curve in found.curves:
        keys = {"cell": piece.name, **piece.key, **curve.key}
        for time, mse in zip(curve.times, curve.mse, strict=True):
            desk.folder.append({**keys, "time": float(time), "mse": float(mse)})
    return found.numbers
