"""A run folder, open for writing."""

import errno
import json
from pathlib import Path
from types import TracebackType
from typing import Any

from torch import Tensor

from ntkscale.runs.atomic import remove_temporaries
from ntkscale.runs.checkpoint import Moment, read_checkpoint, write_checkpoint
from ntkscale.runs.environment import environment, read_environment
from ntkscale.runs.errors import RunFolderError
from ntkscale.runs.inspection import CONFIG, inspect, normalised
from ntkscale.runs.lock import Lock
from ntkscale.runs.metrics import JsonLines, parse_lines, whole_lines
from ntkscale.runs.seal import sealed
from ntkscale.runs.strict_json import finite, read_json, reason, write_json
from ntkscale.runs.tensor_files import TensorFiles, is_file_name, require_files

ENVIRONMENT, RESULTS = "environment.json", "results.json"
METRICS, TIMING = "metrics.jsonl", "timing.jsonl"
KERNELS, WEIGHTS, CHECKPOINT = "kernels", "weights", "checkpoints/last.safetensors"


class RunFolder:
    """One run on disk; `open_run` makes it.

    Everything written since the last checkpoint is taken back when the run is opened again after a
    kill, so the resumed run writes it once more and ends bitwise like an uninterrupted one.
    Closing, also by ``with``, lets other processes write; it does not mark the run finished. A
    folder that nobody holds any more is closed.

    Attributes:
        path: the folder.
        config: what the run was opened with.
        finished: whether `finish` was called, now or in an earlier process.
    """

    def __init__(self, path: Path, config: dict[str, Any], lock: Lock) -> None:
        self.path, self.config = path, config
        self._lock = lock
        self._metrics: JsonLines | None = None
        stored = read_results(path / RESULTS)
        self.finished: bool = stored.get("finished", False)
        self._results: dict[str, Any] = stored.get("results", {})
        if self.finished:
            lock.release()
            return
        checkpoint = read_checkpoint(path / CHECKPOINT)
        moment = Moment() if checkpoint is None else checkpoint.moment
        if moment.metrics_bytes:
            parse_lines(path / METRICS, moment.metrics_bytes, moment.metrics_sha256)
        require_files(path / KERNELS, moment.kernels)
        require_files(path / WEIGHTS, moment.weights)
        self._kernels = TensorFiles(path / KERNELS)
        self._weights = TensorFiles(path / WEIGHTS)
        for name in (CONFIG, ENVIRONMENT, RESULTS):
            remove_temporaries(path, f"{name}*")
        remove_temporaries((path / CHECKPOINT).parent)
        timed = whole_lines(path / TIMING)
        self._timing = JsonLines(path / TIMING)
        self._metrics = JsonLines(path / METRICS)
        self._roll_back(moment)
        self._timing.truncate(timed)

    def append(self, row: dict[str, Any]) -> None:
        """Add a row to `metrics.jsonl`; nan and infinities are written as null.

        Args:
            row: schema names and the cell's keys to numbers, text or lists of numbers; ``"cell"``
                must be among them.

        Raises:
            ValueError: no cell, an entry that JSON cannot hold, or the folder is not open.
        """
        if not isinstance(row.get("cell"), str):
            raise ValueError('a row of metrics needs its cell; add "cell": name.')
        self._open().append(row)

    def append_timing(self, record: dict[str, Any]) -> None:
        """Add a line to `timing.jsonl`, which holds wall times and is never taken back.

        Raises:
            ValueError: an entry that JSON cannot hold, or the folder is not open.
        """
        self._open()
        self._timing.append(record)

    def write_kernel(self, cell: str, step: int, tensors: dict[str, Tensor]) -> None:
        """Write `kernels/<cell>/<step>.safetensors` and list it in `kernels/manifest.json`.

        Args:
            cell: name of the training.
            step: optimiser steps taken.
            tensors: e.g. ``{"kernel": (n, n)}``; stored in their dtype.

        Raises:
            ValueError: a cell that is no file name, a negative step, other numbers for a cell and
                step already written, or the folder is not open.
        """
        self._open()
        if step < 0:
            raise ValueError(f"step {step} of a kernel must be 0 or more.")
        self._kernels.write(f"{_file_name(cell)}/{step}", tensors, {"cell": cell, "step": step})

    def write_weights(self, cell: str, tensors: dict[str, Tensor]) -> None:
        """Write a cell's trained parameters to `weights/<cell>.safetensors`, listed like kernels.

        Raises:
            ValueError: as `write_kernel`.
        """
        self._open()
        self._weights.write(_file_name(cell), tensors, {"cell": cell})

    def write_result(self, cell: str, record: dict[str, Any]) -> None:
        """Write down in `results.json` how a cell ended; a record it had is replaced.

        Raises:
            ValueError: an entry that JSON cannot hold, or the folder is not open.
        """
        self._open()
        self._results[cell] = finite(record, f"result of {cell}")
        self._write_results()

    def results(self) -> dict[str, dict[str, Any]]:
        """A copy of all results by cell, in the order they came."""
        return json.loads(json.dumps(self._results))

    def save_checkpoint(self, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
        """Make now the moment at which a killed run is taken up again.

        Args:
            tensors: state of the training; bits, dtypes and shapes are kept.
            meta: the rest of it, JSON-able (here nan and infinities are kept).

        Raises:
            TypeError: `meta` holds something JSON cannot.
            ValueError: the folder is not open.
            OSError: it cannot be written; the checkpoint before it stays.
        """
        metrics = self._open()
        metrics.sync()
        moment = Moment(
            metrics.length,
            self._kernels.listing,
            self._weights.listing,
            self._results,
            metrics.sha256(),
        )
        write_checkpoint(self.path / CHECKPOINT, tensors, meta, moment)

    def load_checkpoint(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The last checkpoint as it was saved (tensors on the CPU), or None.

        Metrics, kernels, weights and results go back to that moment, as they did on opening.

        Raises:
            RunFolderError: the checkpoint is damaged.
            ValueError: the folder is not open.
        """
        self._open()
        saved = read_checkpoint(self.path / CHECKPOINT)
        self._roll_back(Moment() if saved is None else saved.moment)
        return None if saved is None else (saved.tensors, saved.meta)

    def finish(self) -> None:
        """Mark the run as complete, in `results.json`, and close it."""
        self._open().sync()
        self.finished = True
        self._write_results()
        self.close()

    def close(self) -> None:
        """Let go of the folder; more than once does no harm."""
        if self._metrics is not None:
            self._metrics.close()
            self._timing.close()
            self._metrics = None
        self._lock.release()

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def _open(self) -> JsonLines:
        if self._metrics is None:
            state = "finished" if self.finished else "closed"
            raise ValueError(f"{self.path} is {state}; open a run folder to write into it.")
        return self._metrics

    def _roll_back(self, moment: Moment) -> None:
        self._open().truncate(moment.metrics_bytes)
        self._kernels.roll_back(moment.kernels)
        self._weights.roll_back(moment.weights)
        if self._results != moment.results:
            self._results = moment.results
            self._write_results()

    def _write_results(self) -> None:
        content = {"finished": self.finished, "results": self._results}
        write_json(self.path / RESULTS, sealed(self.path, content) if self.finished else content)


def open_run(path: str | Path, config: dict[str, Any]) -> RunFolder:
    """Create a run folder, or take up the one that is there.

    A run that was killed goes back to its last checkpoint (to its beginning without one); a
    finished one is not touched. Nothing is created unless everything is in order.

    Args:
        path: the folder; folders above it are created.
        config: everything that decides the result, as JSON-able values without nan; written to
            `config.json`, and compared with what is there.

    Raises:
        RunFolderError: the folder holds a run of another configuration (the sentence shows the
            difference, old -> new), something that is no run, or a damaged run; it cannot be
            written; another process is writing it.
        ValueError: the configuration holds what JSON cannot, or a key ``"version"``.
    """
    path = Path(path)
    config = normalised(config)
    inspect(path, config)
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = Lock(path)
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        inspect(path, config)  # again, now that nobody else writes
        if not (path / CONFIG).exists():
            write_json(path / CONFIG, config, sort_keys=True)
        folder = RunFolder(path, config, lock)
        if not folder.finished:
            _record_environment(path / ENVIRONMENT)
    except OSError as error:
        lock.release()
        raise _unwritable(path, error) from error
    except BaseException:
        lock.release()
        raise
    return folder


def _record_environment(path: Path) -> None:
    """Write `environment.json`; a run taken up elsewhere also says where."""
    now = environment()
    if not path.exists():
        write_json(path, {**now, "resumed_in": []})
        return
    before = read_environment(path)
    places = before.pop("resumed_in", [])
    places = places if isinstance(places, list) else []
    if now != (places[-1] if places else before):
        write_json(path, {**before, "resumed_in": [*places, now]})


def read_results(path: Path) -> dict[str, Any]:
    """What `results.json` holds, without its version: how cells ended; {} without a file.

    Raises:
        RunFolderError: the file is damaged.
    """
    stored = read_json(path) if path.exists() else {}
    results = stored.get("results", {})
    if (
        not isinstance(stored.get("finished", False), bool)
        or not isinstance(results, dict)
        or not all(isinstance(record, dict) for record in results.values())
    ):
        raise RunFolderError(
            f"{path} does not say how cells ended; restore it from a copy, or start the run anew "
            "in another folder."
        )
    return stored


def _file_name(cell: str) -> str:
    if not is_file_name(cell):
        raise ValueError(
            f"cell {cell!r} cannot name a file; use up to 200 printable characters, no slash, no "
            "leading dot."
        )
    return cell


def _unwritable(path: Path, error: OSError) -> RunFolderError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    cure = "make room" if full else "change its permissions"
    return RunFolderError(
        f"{path} cannot be written ({reason(error)}); {cure} or choose another run folder."
    )
