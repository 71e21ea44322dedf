"""What a run leaves on disk: written so that a kill at any moment loses nothing that matters.

A *run* is one command, a *cell* one of its trainings. `open_run` creates or resumes a run folder,
`load` reads one back. The files are plain JSON and safetensors; `README.md` describes each.
"""

from ntkscale.runs.atomic import replacing, write_text
from ntkscale.runs.environment import environment
from ntkscale.runs.errors import RunFolderError
from ntkscale.runs.folder import RunFolder, open_run
from ntkscale.runs.load import Kernels, Run, load
from ntkscale.runs.put_together import copy_cells

__all__ = [
    "Kernels",
    "Run",
    "RunFolder",
    "RunFolderError",
    "copy_cells",
    "environment",
    "load",
    "open_run",
    "replacing",
    "write_text",
]
