"""Sweeps: one command, many runs, each once whatever happens.

`options` and `axes` read the command, `folder` is what is on disk, `schedule` starts and watches
runs (shown by `table`) through `local` processes, `slurm` jobs or `torchrun` (`spread`); `point` is
the process of one run. `export` writes the list for W&B. Of a finished sweep `pooled` makes the
runs that `analyze.py` judges, `overview` the table it begins with.
"""

from ntkscale.faces.sweep.axes import in_one_run
from ntkscale.faces.sweep.folder import SweepFolder, is_sweep, read_sweep
from ntkscale.faces.sweep.launch import launch
from ntkscale.faces.sweep.options import HELP, Launch, take_launch
from ntkscale.faces.sweep.overview import overview
from ntkscale.faces.sweep.pooled import pooled

__all__ = [
    "HELP",
    "Launch",
    "SweepFolder",
    "in_one_run",
    "is_sweep",
    "launch",
    "overview",
    "pooled",
    "read_sweep",
    "take_launch",
]
