"""The examples of the README files run as they are written."""

import re
from pathlib import Path

import matplotlib
import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
ROOMS = (
    "experiments",
    "landscape",
    "robustness",
    "theory/dmft",
    "theory/infinite_width",
    "theory/local_analysis",
    "theory/partially_trained",
)
"""Those whose examples need no data or run of the reader's own."""


@pytest.mark.parametrize("room", ROOMS)
def test_the_example_runs(room: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    matplotlib.use("Agg")
    torch.manual_seed(0)
    text = (ROOT / "ntkscale" / room / "README.md").read_text()
    examples = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert examples
    for code in examples:
        exec(code, {})
