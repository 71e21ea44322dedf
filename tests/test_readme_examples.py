"""The Python examples of every page run as they are written.

The blocks of a page are run in order, in one namespace, in an empty folder. Where a page speaks of
the reader's own model, data or run, `GIVEN` has something small for them.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from documented import Page, pages
from torch import nn

from ntkscale import runs

EXAMPLES = [page for page in pages() if page.examples()]


def _loop() -> dict[str, Any]:
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
    x, y = torch.randn(24, 6), torch.randn(24, 2)
    loader = [(x, y)] * 3
    return {"model": model, "loader": loader, "time": 0.0, "total_seconds": 1.0,
            "probe": x, "targets": y, "probe_inputs": x, "probe_targets": y}  # fmt: skip


def _readme() -> dict[str, Any]:
    x, test = torch.rand(230, 1, 6, 6), torch.rand(40, 1, 6, 6)
    labels, test_labels = torch.arange(230) % 2, torch.arange(40) % 2
    classes = {"x": x, "labels": labels, "test": test, "test_labels": test_labels}
    return _loop() | classes


def _engine() -> dict[str, Any]:
    given = _loop()
    x, y = given["probe"], given["targets"]
    kernels = [(j @ j.T).double() for j in torch.randn(3, 24, 40)]
    return {
        "model": given["model"], "x": torch.randn(60, 6), "x2": x, "tokens": x,
        "v": torch.randn(60), "y": y, "K0": kernels[0], "K1": kernels[1],
    }  # fmt: skip


def _scaling() -> dict[str, Any]:
    k, times = np.arange(1.0, 257.0), np.geomspace(1, 1e4, 40)
    return {"times": times, "mse": times**-0.5, "eigenvalues": k**-2.0, "power": k**-2.0,
            "task_tail": 1 / 256}  # fmt: skip


def _runs() -> dict[str, Any]:
    given = {"config": {"experiment": "circle"}, "cell": "beta=0.5", "kernel": torch.eye(3)}
    return given | {
        "open_run": runs.open_run,
        "load": runs.load,
        "tensors": {"weights": torch.zeros(2)},
        "meta": {"step": 0},
    }


GIVEN: dict[str, Callable[[], dict[str, Any]]] = {
    "README.md": _readme,
    "ntkscale/ntk/README.md": _engine,
    "ntkscale/scaling/README.md": _scaling,
    "ntkscale/tracking/README.md": _loop,
    "ntkscale/runs/README.md": _runs,
}


SLOW = {"ntkscale/experiments/README.md", "ntkscale/theory/local_analysis/README.md"}
"""Those of many seconds that call what other pages, or that room's tests, call as well."""


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=[pytest.mark.slow] * (page.name in SLOW)) for page in EXAMPLES],
    ids=[page.name for page in EXAMPLES],
)
def test_the_examples_run(page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_SILENT", "true")
    matplotlib.use("Agg")
    torch.manual_seed(0)
    namespace = GIVEN.get(page.name, dict)()
    for number, code in enumerate(page.examples(), 1):
        exec(compile(code, f"{page.name}, example {number}", "exec"), namespace)


def test_what_is_given_is_for_pages_that_are_there() -> None:
    assert GIVEN.keys() <= {page.name for page in EXAMPLES}
