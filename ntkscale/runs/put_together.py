"""One run made of the cells of others."""

import json
from collections.abc import Collection

from ntkscale.runs.folder import METRICS, RunFolder
from ntkscale.runs.load import Run


def copy_cells(folder: RunFolder, part: Run, *, but: Collection[str] = ()) -> None:
    """Write everything a run holds of its cells into an open one, in its order.

    Args:
        folder: the open run.
        part: the run that is read.
        but: cells that are passed over: what is written under their names is there already.

    Raises:
        ValueError: the folder is not open, or holds other numbers for a cell.
    """
    # Rows exactly as they were appended.
    for line in (part.path / METRICS).read_text().splitlines():
        if (row := json.loads(line))["cell"] not in but:
            folder.append(row)
    for name, step in part.kernels:
        if name not in but:
            folder.write_kernel(name, step, part.kernels[name, step])
    for name in part.weighted:
        if name not in but:
            folder.write_weights(name, part.weights(name))
    for name, record in part.results.items():
        if name not in but:
            folder.write_result(name, record)
    for line in part.timings:
        if line.get("cell") not in but:
            folder.append_timing(line)
