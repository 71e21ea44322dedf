"""The list of runs as a W&B sweep, for those who let its agents do the scheduling."""

from pathlib import Path

import yaml

from ntkscale.faces.sweep.axes import Plan
from ntkscale.runs import write_text


def export(plan: Plan, path: Path) -> None:
    """Write the YAML file that `wandb sweep FILE` reads; every agent then runs `train.py`.

    A name for the runs is left to `train.py`, which makes it from the options.

    Raises:
        ValueError: the file is no .yaml, or there is nothing to vary.
        OSError: it cannot be written.
    """
    if path.suffix not in (".yaml", ".yml"):
        raise ValueError(f"--export {path} must end in .yaml.")
    if not path.parent.is_dir():
        raise ValueError(f"--export {path}: there is no folder {path.parent}; make it first.")
    if not plan.axes:
        raise ValueError("--export has nothing to vary; give an option values between commas.")
    fixed = [word for name, words in plan.fixed.items() for word in (_option(name), *words)]
    where = ["--runs", plan.runs] if plan.runs else []
    content = {
        "program": "train.py",
        "method": "grid",
        "name": f"{plan.experiment}: {', '.join(axis.option for axis in plan.axes)}",
        "parameters": {
            axis.option.replace("_", "-"): {"values": [_number(value) for value in axis.values]}
            for axis in plan.axes
        },
        "command": [
            "${env}",
            "${interpreter}",
            "${program}",
            plan.experiment,
            *fixed,
            *plan.beside,
            *where,
            "${args}",
        ],
    }
    write_text(path, yaml.safe_dump(content, sort_keys=False))


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _number(word: str) -> float | int | str:
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word
