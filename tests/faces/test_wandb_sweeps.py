"""Sweeps of the standard ladders use options that exist."""

import itertools
from typing import Any

import pytest
import yaml
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

from ntkscale.experiments import EXPERIMENTS, circle, images
from ntkscale.experiments.circle.settings import check, with_presets
from ntkscale.faces.command_line import parse
from ntkscale.faces.wandb_sweeps import LADDERS, sweep_yaml

COMMANDS = {name: experiment.settings for name, experiment in EXPERIMENTS.items()}


def processes(sweep: dict[str, Any]) -> list[list[str]]:
    """What an agent types after the program's name, for every point of the grid."""
    options = sweep["parameters"]
    found = []
    for point in itertools.product(*(entry["values"] for entry in options.values())):
        chosen = {name: {"value": value} for name, value in zip(options, point, strict=True)}
        words: list[str] = []
        for word in create_sweep_command(sweep["command"]):
            macro = word.startswith("${")
            args = create_sweep_command_args({"args": chosen})["args"]
            words += (args if word == "${args}" else []) if macro else [str(word)]
        found.append(words)
    return found


@pytest.mark.parametrize("name", LADDERS)
def test_a_sweep_is_commands_that_can_be_typed(name: str) -> None:
    sweep = yaml.safe_load(sweep_yaml(name, "mine"))
    assert (sweep["project"], sweep["program"], sweep["method"]) == ("mine", "train.py", "grid")
    typed = processes(sweep)
    assert len(typed) > 3
    seen = []
    for words in typed:
        settings = parse(COMMANDS, words, program="train.py", about="")
        assert settings.wandb == "online"
        if isinstance(settings, circle.CircleSettings):
            check(with_presets(settings))
        else:
            assert isinstance(settings, images.ImagesSettings)
        assert all(len(getattr(settings, option)) == 1 for option in sweep["parameters"])
        seen.append(settings)
    assert len(set(seen)) == len(seen)
