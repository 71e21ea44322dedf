"""The list of runs as a W&B sweep, for those who let its agents do the scheduling."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from ntkscale.faces.sweep.axes import Plan
from ntkscale.runs import write_text

_PROGRAM = "ntkscale.faces.train"  # a module is found from a checkout and from an installed package


def export(plan: Plan, path: Path) -> None:
    """Write the YAML file that `wandb sweep FILE` reads; every agent then trains.

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
    text = sweep_definition(
        f"{plan.experiment}: {', '.join(axis.option for axis in plan.axes)}",
        [plan.experiment, *fixed, *plan.beside, *where],
        {
            axis.option.replace("_", "-"): [_number(value) for value in axis.values]
            for axis in plan.axes
        },
    )
    write_text(path, text)


def sweep_definition(
    name: str,
    command: Sequence[str],
    grid: Mapping[str, Sequence[float | int | str]],
    **more: str,
) -> str:
    """What `wandb sweep FILE` takes: a process of `train.py`'s module for every point of a grid.

    Args:
        name: of the sweep.
        command: of `train.py`, and the options that all processes share. Unless it says otherwise
            they record online, or the sweep would show nothing.
        grid: values by option.
        more: further entries of the definition, such as project and description.
    """
    how = [] if "--wandb" in command else ["--wandb", "online"]
    content = {
        "name": name,
        **more,
        "program": _PROGRAM,
        "method": "grid",
        "command": ["${env}", "${interpreter}", "-m", "${program}", *command, *how, "${args}"],
        "parameters": {option: {"values": list(values)} for option, values in grid.items()},
    }
    return yaml.safe_dump(content, sort_keys=False)


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _number(word: str) -> float | int | str:
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word
