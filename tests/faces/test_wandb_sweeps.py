"""Sweeps of the standard ladders use options that exist."""

import itertools
import os
import subprocess
import sys
from pathlib import Path
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
    """What an agent types for every point of the grid."""
    options = sweep["parameters"]
    found = []
    for point in itertools.product(*(entry["values"] for entry in options.values())):
        chosen = {name: {"value": value} for name, value in zip(options, point, strict=True)}
        args = create_sweep_command_args({"args": chosen})["args"]
        macros = {"${args}": args, "${program}": [sweep["program"]]}
        macros |= {"${interpreter}": ["python"], "${env}": ["/usr/bin/env"]}
        words: list[str] = []
        for word in create_sweep_command(sweep["command"]):
            words += macros.get(word, [str(word)])
        assert words[:4] == ["/usr/bin/env", "python", "-m", "ntkscale.faces.train"]
        found.append(words)
    return found


@pytest.mark.parametrize("name", LADDERS)
def test_a_sweep_is_commands_that_can_be_typed(name: str) -> None:
    sweep = yaml.safe_load(sweep_yaml(name, "mine"))
    assert (sweep["project"], sweep["method"]) == ("mine", "grid")
    typed = [words[4:] for words in processes(sweep)]
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


def test_an_agent_needs_no_checkout(tmp_path: Path) -> None:
    sweep = yaml.safe_load(sweep_yaml("circle-seeds", "mine"))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    found = subprocess.run(
        [*processes(sweep)[0], "--help"],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0 and "--gamma0" in found.stdout, found.stderr
    assert not any(tmp_path.iterdir())
