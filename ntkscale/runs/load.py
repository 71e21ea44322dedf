"""A run folder, read back."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from torch import Tensor

from ntkscale.runs.environment import read_environment
from ntkscale.runs.errors import RunFolderError
from ntkscale.runs.folder import (
    ENVIRONMENT,
    KERNELS,
    METRICS,
    RESULTS,
    TIMING,
    WEIGHTS,
    read_results,
)
from ntkscale.runs.inspection import CONFIG
from ntkscale.runs.metrics import frame, parse_lines
from ntkscale.runs.seal import require_seal
from ntkscale.runs.strict_json import read_json
from ntkscale.runs.tensor_files import (
    MANIFEST,
    Listing,
    read_listing,
    read_tensors,
    require_files,
)


class Kernels(Mapping[tuple[str, int], dict[str, Tensor]]):
    """The kept kernels by (cell, step), each read and checked when asked for, and not kept.

    Cells come in alphabetical order, the steps of a cell ascending. A damaged file raises
    `RunFolderError` when it is asked for, an unknown one `KeyError`.
    """

    def __init__(self, folder: Path, listing: Listing) -> None:
        self._folder = folder
        self._files = {
            (entry["cell"], entry["step"]): (key, entry) for key, entry in listing.items()
        }

    def __getitem__(self, key: tuple[str, int]) -> dict[str, Tensor]:
        return read_tensors(self._folder, *self._files[key])

    def __iter__(self) -> Iterator[tuple[str, int]]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def steps(self, cell: str) -> list[int]:
        """Steps at which a cell's kernel was kept, ascending; none for an unknown cell."""
        return sorted(step for name, step in self._files if name == cell)


@dataclass(frozen=True)
class Run:
    """What a run left on disk, complete or not.

    Attributes:
        path: its folder.
        config: its configuration.
        environment: versions and devices it was computed with; where that record is damaged, its
            one entry ``damaged``.
        metrics: one row a measurement, columns as `ntkscale.schema` names them, with ``cell`` and
            its keys; null where a row has no such number or it was not finite.
        kernels: by (cell, step), read when asked for.
        results: how each cell ended, in the order they did.
        timings: lines of `timing.jsonl`.
        finished: whether the run is complete.
    """

    path: Path
    config: dict[str, Any]
    environment: dict[str, Any]
    metrics: pl.DataFrame
    kernels: Kernels
    results: dict[str, dict[str, Any]]
    timings: list[dict[str, Any]]
    finished: bool

    @property
    def weighted(self) -> list[str]:
        """What has weights: cells, and whatever else was written beside them."""
        return [entry["cell"] for entry in read_listing(self.path / WEIGHTS).values()]

    def weights(self, cell: str) -> dict[str, Tensor]:
        """A cell's parameters at the end of its training, on the CPU.

        Raises:
            KeyError: the cell has none (yet).
            RunFolderError: the file is missing or damaged.
        """
        key = f"{cell}.safetensors"
        folder = self.path / WEIGHTS
        return read_tensors(folder, key, read_listing(folder)[key])


def load(path: str | Path) -> Run:
    """Read a run folder; one that is being written is read as far as it is.

    A last line of `metrics.jsonl` without its end, which a killed run leaves, is passed over.
    Of a finished run every file but the environment and wall times is checked against what was
    written: kernels and weights for presence and size here, for their checksum when read. A damaged
    record of the environment is no reason to refuse the run; a line on stderr says so.

    Raises:
        RunFolderError: there is no run, nothing is measured yet, or a file is missing or damaged.
    """
    path = Path(path)
    if not path.is_dir():
        raise RunFolderError(
            f"{path} is no folder; give the folder of a run, as train.py names it."
        )
    if not (path / CONFIG).exists():
        raise RunFolderError(
            f"{path} has no {CONFIG}, so it is no run; give the folder of a run, as train.py names "
            "it."
        )
    # First, or a run that ends meanwhile would count as finished with part of its rows.
    stored = read_results(path / RESULTS)
    config = read_json(path / CONFIG)
    require_seal(path, stored)
    metrics_path = path / METRICS
    rows = parse_lines(metrics_path) if metrics_path.exists() else []
    if not rows:
        raise RunFolderError(
            f"{path} holds no measurements yet; give the command that made it once more to let it "
            "go on."
        )
    if not all(isinstance(row.get("cell"), str) for row in rows):
        raise RunFolderError(
            f"{metrics_path} has a row without its cell; restore it from a copy, or start the run "
            "anew in another folder."
        )
    listing = read_listing(path / KERNELS)
    if not all("step" in entry for entry in listing.values()):
        raise RunFolderError(
            f"{path / KERNELS / MANIFEST} lists a kernel without its step; restore it from a copy, "
            "or start the run anew in another folder."
        )
    require_files(path / KERNELS, listing)
    return Run(
        path=path,
        config=config,
        environment=read_environment(path / ENVIRONMENT),
        metrics=frame(rows, metrics_path),
        kernels=Kernels(path / KERNELS, listing),
        results=stored.get("results", {}),
        timings=parse_lines(path / TIMING) if (path / TIMING).exists() else [],
        finished=stored.get("finished", False),
    )
