"""What a run was computed with: versions, device, commit; nothing about who or where."""

import os
import platform
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from ntkscale.runs.errors import RunFolderError
from ntkscale.runs.strict_json import read_json

_PACKAGES = ("ntkscale", "torch", "torchvision", "numpy", "scipy", "polars", "safetensors", "wandb")
_GIT_SECONDS = 5.0


def environment() -> dict[str, Any]:
    """JSON-able facts on which results may depend.

    Python and package versions, the system, processor count, torch's threads, CUDA devices (their
    names once CUDA is in use, so that asking does not start it), and the commit of ntkscale where
    it runs from a checkout, with `modified` when its files differ from that commit.
    """
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "system": f"{platform.system()} {platform.machine()}",
        "processors": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "cuda": torch.version.cuda,
        "devices": _devices(),
        "git": _commit(),
    }


def read_environment(path: Path) -> dict[str, Any]:
    """What a run says of its environment; {} without a file.

    No number depends on the file: where it is damaged a line on stderr says so, once a process,
    and the single entry ``damaged`` stands for it.
    """
    if not path.exists():
        return {}
    try:
        return read_json(path)
    except RunFolderError:
        _warn(f"{path} is damaged: {_UNKNOWN}; its numbers are read all the same.")
        return {"damaged": _UNKNOWN}


_UNKNOWN = "what the run was computed with is not known"


@cache
def _warn(message: str) -> None:
    sys.stderr.write(f"{message}\n")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _devices() -> list[str]:
    count = torch.cuda.device_count()
    if count and torch.cuda.is_initialized():
        return [torch.cuda.get_device_name(i) for i in range(count)]
    return ["CUDA device"] * count


def _commit() -> dict[str, Any] | None:
    # An installed copy may lie inside the user's own repository: only tracked files count.
    if _git("ls-files", "--error-unmatch", Path(__file__).name) is None:
        return None
    commit = _git("rev-parse", "HEAD")
    if commit is None:
        return None
    return {
        "commit": commit,
        "modified": bool(_git("status", "--porcelain", "--untracked-files=no")),
    }


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", *arguments],
            cwd=Path(__file__).parent,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_GIT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
