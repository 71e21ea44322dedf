"""`python -m ntkscale.faces.workspace`: the W&B dashboard, or a sweep of a standard ladder."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from ntkscale.faces.command_line import guarded, parse
from ntkscale.faces.wandb_sweeps import LADDERS, sweep_yaml
from ntkscale.reporting import build_workspace, definition, save_workspace
from ntkscale.runs import write_text

PROGRAM = "ntkscale-workspace"
ABOUT = """Create the W&B dashboard of ntkscale's runs and print its address, or write its
definition (--json), or that of a sweep over a standard ladder (--sweep, for `wandb sweep`)."""

_NAME, _FILE = arg(metavar="NAME"), arg(metavar="FILE")


@dataclass(frozen=True)
class WorkspaceSettings:
    """What is created, and where."""

    entity: Annotated[str, _NAME] = ""
    """user or team; else the account's own"""
    project: Annotated[str, _NAME] = "ntkscale"
    """of W&B: where its runs are"""
    axis: Annotated[Literal["time", "step"], _NAME] = "time"
    """of curves; step: runs without a flow time (Adam)"""
    json: Annotated[Path | None, _FILE] = None
    """write the definition here instead; no network, no account"""
    sweep: Annotated[str, _NAME] = ""
    """a sweep instead: circle- or images-gamma0, -width, -seeds; circle-beta"""
    yaml: Annotated[Path | None, _FILE] = None
    """where its definition goes; else to the terminal"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Create or write what was asked for; returns the exit code.

    Args:
        arguments: words after the program's name; None: those of the process.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    settings = parse(WorkspaceSettings, words, program=PROGRAM, about=ABOUT)
    return guarded(lambda: _create(settings), program=PROGRAM)


def _create(settings: WorkspaceSettings) -> None:
    if not settings.project:
        raise ValueError("--project is empty; name the W&B project of the runs.")
    if settings.yaml is not None and not settings.sweep:
        raise ValueError(f"--yaml {settings.yaml} needs --sweep NAME.")
    if settings.sweep:
        if settings.json is not None:
            raise ValueError("--sweep goes with --yaml; --json is for the dashboard.")
        if settings.sweep not in LADDERS:
            raise ValueError(f"--sweep {settings.sweep} is unknown; choose {', '.join(LADDERS)}.")
        text = sweep_yaml(settings.sweep, settings.project)
        if settings.yaml is None:
            sys.stdout.write(text)
        else:
            _write(settings.yaml, text)
            print(f"sweep: {settings.yaml}; `wandb sweep {settings.yaml}` creates it")
    elif settings.json is not None:
        if not settings.entity:
            raise ValueError(f"--json {settings.json} needs --entity NAME, whose charts it names.")
        workspace = build_workspace(settings.entity, settings.project, axis=settings.axis)
        _write(settings.json, json.dumps(definition(workspace), indent=1) + "\n")
        print(f"dashboard: {settings.json}")
    else:
        url, said = save_workspace(settings.entity, settings.project, axis=settings.axis)
        for line in said:
            sys.stderr.write(f"{PROGRAM}: W&B did not take {line} (fine, if it is there already)\n")
        print(url)


def _write(path: Path, text: str) -> None:
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give the name of a file.")
    if not path.parent.is_dir():
        raise ValueError(f"{path}: there is no folder {path.parent}; make it first.")
    write_text(path, text)


if __name__ == "__main__":
    sys.exit(main())
