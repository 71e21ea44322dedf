"""The delivered part of the public contract: names and signatures others build on."""

import inspect
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ntkscale import ntk, runs, scaling, theory, training

ROOT = Path(__file__).parents[1]

SIGNATURES: list[tuple[Callable[..., Any], list[str], dict[str, Any]]] = [
    (
        ntk.gram,
        ["model", "x1", "x2"],
        {
            "x2": None,
            "output": "trace",
            "params": None,
            "method": "auto",
            "create_graph": False,
            "memory": None,
            "out": None,
            "progress": None,
        },
    ),
    (ntk.operator, ["model", "x"], {"output": "trace"}),
    (ntk.plan, ["model"], {}),
    (scaling.fit_power_law, ["x", "y"], {"offset": False}),
    (scaling.source_capacity, ["eigenvalues", "power"], {"tail": 0.0}),
    (scaling.regime, ["alpha", "beta"], {}),
    (scaling.predict, ["alpha", "beta"], {}),
    (runs.load, ["path"], {}),
    (training.lazy_flow, ["kernel", "residual", "times"], {}),
    (
        theory.infinite_width.kernels,
        ["x1", "x2", "depth", "activation", "weight_variance", "bias_variance"],
        {"x2": None, "weight_variance": 1.0, "bias_variance": 0.0},
    ),
]


@pytest.mark.parametrize(("function", "first", "defaults"), SIGNATURES)
def test_signature(
    function: Callable[..., Any], first: list[str], defaults: dict[str, Any]
) -> None:
    parameters = inspect.signature(function).parameters
    assert list(parameters)[: len(first)] == first
    for name, value in defaults.items():
        assert parameters[name].default == value, name


def test_results_carry_the_promised_fields() -> None:
    power_law = scaling.PowerLawFit.__dataclass_fields__
    assert {"exponent", "interval", "prefactor", "window", "is_power_law"} <= power_law.keys()
    source = scaling.SourceCapacity.__dataclass_fields__
    assert {"alpha", "beta", "alpha_interval", "beta_interval", "window"} <= source.keys()


@pytest.mark.parametrize(
    "command",
    [
        ["train.py"],
        ["train.py", "circle"],
        ["train.py", "images"],
        ["train.py", "coordinate-check"],
        ["analyze.py"],
    ],
    ids=" ".join,
)
def test_help_fits_on_a_screen(command: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, *command, "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={"COLUMNS": "100", "PATH": "/usr/bin:/bin"},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) <= 45, done.stdout
