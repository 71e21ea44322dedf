"""A user's own arrays."""

from pathlib import Path

import numpy as np
import torch

from ntkscale.tasks.npz import array_names, read_array
from ntkscale.tasks.targets import class_targets
from ntkscale.tasks.task import Loss, Task

_CLASSES = 1000  # that there may be in fewer samples


def arrays(
    path: str | Path,
    *,
    loss: Loss = "mse",
    size: int | None = None,
    test_size: int = 0,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Task:
    """Read ``inputs`` (P, ...) and ``targets`` from an ``.npz`` file; values are taken as they are.

    Args:
        path: file written by ``numpy.savez``; pickled objects in it are refused.
        loss: under mse, targets are real numbers (P, C) or (P,); under cross-entropy, class indices
            (P,) from 0, or one-hot rows (P, C).
        size: number of training samples; None: all that the test set leaves.
        test_size: number of test samples; no sample is in both.
        seed: of the random split; with size None and no test set the order is the file's.
        dtype: of inputs and targets.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: where it is no npz, lacks an array, holds NaN or infinity, or shapes disagree.
    """
    path = Path(path)
    inputs, targets = _read(path)
    if inputs.ndim < 2 or targets.ndim not in (1, 2) or len(inputs) != len(targets):
        raise ValueError(
            f"inputs {inputs.shape} and targets {targets.shape} in {path} do not fit: "
            "give inputs (P, ...) and targets (P, C) or (P,) for the same P >= 1 samples."
        )
    labels = _labels(targets, path) if loss == "cross-entropy" else None

    left = len(inputs) - test_size
    size = left if size is None else size
    if test_size < 0 or not 1 <= size <= left:
        raise ValueError(
            f"size {size} and test_size {test_size} do not fit into the {len(inputs)} samples of "
            f"{path}: choose a positive size and at most that many in all."
        )
    order = np.arange(len(inputs))
    if size < len(inputs):
        order = np.random.default_rng(seed).permutation(order)

    if labels is None:
        y = _floats("targets", targets, dtype, path)
        y = y[:, None] if y.ndim == 1 else y
    else:
        y = class_targets(labels, max(2, int(labels.max()) + 1), loss, dtype)
    x = _floats("inputs", inputs, dtype, path)
    train, test = order[:size], order[size : size + test_size]
    return Task(
        name=path.stem,
        inputs=x[train],
        targets=y[train],
        loss=loss,
        labels=None if labels is None else labels[train],
        test_inputs=x[test] if test_size else None,
        test_targets=y[test] if test_size else None,
        test_labels=labels[test] if test_size and labels is not None else None,
    )


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}: give an .npz with inputs and targets.")
    cure = "write it with numpy.savez(path, inputs=..., targets=...)."
    found: dict[str, np.ndarray] = {}
    try:
        names = array_names(path)
        for name in ("inputs", "targets"):
            if name in names:
                found[name] = read_array(path, name)
    except ValueError as error:
        raise ValueError(f"{path} is not an npz of plain arrays ({error}): {cure}") from error
    for name in ("inputs", "targets"):
        if name not in found:
            there = ", ".join(map(ascii, names))[:200].replace("'", "") or "none"
            raise ValueError(f"{path} has no array {name!r} (it has {there}): {cure}")
        _check_numbers(name, found[name], path)
    return found["inputs"], found["targets"]


def _check_numbers(name: str, values: np.ndarray, path: Path) -> None:
    if values.dtype.kind not in "fiub":
        raise ValueError(f"{name} in {path} is of type {values.dtype}: give real numbers.")
    if values.ndim == 0 or values.size == 0:
        raise ValueError(f"{name} in {path} is empty: give at least one sample.")
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        index = tuple(int(i) for i in bad[0])
        raise ValueError(
            f"{name} in {path} holds {values[index]} at index {list(index)} "
            f"({len(bad)} such values): remove or replace them."
        )


def _floats(name: str, values: np.ndarray, dtype: torch.dtype, path: Path) -> torch.Tensor:
    with np.errstate(over="ignore"):
        found = torch.from_numpy(values.astype(np.float64)).to(dtype)
    bad = torch.nonzero(~torch.isfinite(found))
    if len(bad):
        index = bad[0].tolist()
        raise ValueError(
            f"{name} in {path} holds {values[tuple(index)]} at index {index}, too large for "
            f"{str(dtype).removeprefix('torch.')} ({len(bad)} such values): scale them down."
        )
    return found


def _labels(targets: np.ndarray, path: Path) -> torch.Tensor:
    if targets.ndim == 2 and targets.shape[1] > 1:
        if not np.array_equal(np.sort(targets, axis=1)[:, -2:], [[0, 1]] * len(targets)) or np.any(
            targets.sum(axis=1) != 1
        ):
            raise ValueError(
                f"targets {targets.shape} in {path} are not one-hot rows, as cross-entropy needs: "
                "give class indices (P,), or choose loss='mse'."
            )
        return torch.from_numpy(targets.argmax(axis=1).astype(np.int64))
    flat = targets.reshape(len(targets))
    highest = max(len(flat), _CLASSES) - 1
    if np.any(flat != np.floor(flat)) or flat.min() < 0 or flat.max() > highest:
        raise ValueError(
            f"targets in {path} are not class indices from 0 to at most {highest}, as "
            "cross-entropy needs: renumber the classes, or choose loss='mse'."
        )
    return torch.from_numpy(flat.astype(np.int64))
