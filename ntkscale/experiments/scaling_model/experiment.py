"""`train.py scaling-model`: the figures of the solvable model, each against what theory says.

Bordelon, Atanasov & Pehlevan 2024 (arXiv 2409.17858), figures 1 to 3 and its appendix on data, from
exact solutions: exponents against beta, phase diagrams, curves for a ladder of gamma at finite and
infinite width, SGD transients, label noise and early stopping. What is computed for each is in
`cells.py`, what is found is judged in `verdict.py`.
"""

from ntkscale.experiments.scaling_model.cells import cells
from ntkscale.experiments.scaling_model.settings import EXPERIMENT, ScalingModelSettings, expand
from ntkscale.experiments.train_cells import new_folder_unless_refused
from ntkscale.reporting import Progress
from ntkscale.runs import RunFolder


def run(settings: ScalingModelSettings) -> RunFolder:
    """Solve every cell, or take an interrupted run up again; returns its folder.

    Raises:
        ValueError: an option is out of range, or the folder holds another run.
    """
    settings = expand(settings)
    with new_folder_unless_refused(EXPERIMENT, settings) as folder:
        if not folder.finished:
            _solve(folder, settings)
    return folder


def _solve(folder: RunFolder, settings: ScalingModelSettings) -> None:
    """Solve what is not done yet."""
    folder.load_checkpoint()
    done, todo = folder.results(), cells(settings)
    with Progress() as progress:
        for position, cell in enumerate(todo):
            progress.update(position, len(todo), cell.name)
            if cell.name in done:
                continue
            found = cell.solve()
            for curve in found.curves:
                keys = {"cell": cell.name, "part": cell.part, **cell.key, **curve.key}
                for time, mse in zip(curve.times, curve.mse, strict=True):
                    folder.append({**keys, "time": float(time), "mse": float(mse)})
            folder.write_result(cell.name, {"part": cell.part, **cell.key, **found.numbers})
            folder.save_checkpoint({}, {"after": cell.name})
    folder.finish()
