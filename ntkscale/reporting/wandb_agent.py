"""The W&B run that a sweep's agent has begun for this process.

An agent passes the run's name in the environment, and W&B gives it to whoever starts a run: all
cells of a process, and all of its children, would write into that one. So it is taken out of the
environment before W&B looks there, and kept for the one record that it is meant for.
"""

import os
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

_RUN, _SWEEP, _PARAMETERS = "WANDB_RUN_ID", "WANDB_SWEEP_ID", "WANDB_SWEEP_PARAM_PATH"


@dataclass
class AgentsRun:
    """What the agent said.

    Attributes:
        run_id: of the run that the agent waits for.
        sweep_id: of its sweep; empty where somebody named the run by hand.
        parameters: that the sweep chose, by option.
        taken: whether a record has become that run.
    """

    run_id: str
    sweep_id: str
    parameters: dict[str, Any] = field(default_factory=dict)
    taken: bool = False


@cache
def agents_run() -> AgentsRun | None:
    """The run that an agent has begun for this process, or None; the environment forgets it."""
    said = {name: os.environ.pop(name, "") for name in (_RUN, _SWEEP, _PARAMETERS)}
    if not (said[_RUN] or said[_SWEEP]):
        return None
    return AgentsRun(said[_RUN], said[_SWEEP], _parameters(said[_PARAMETERS]))


def _parameters(path: str) -> dict[str, Any]:
    """What the agent wrote down; nothing where there is no file."""
    if not path or not Path(path).is_file():
        return {}
    import yaml

    entries = yaml.safe_load(Path(path).read_text()) or {}
    return {
        name: entry["value"]
        for name, entry in entries.items()
        if isinstance(entry, dict) and "value" in entry
    }
