"""A referee in an environment of its own: questions and answers are arrays in files."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
Arrays = dict[str, np.ndarray]


class AbsentError(Exception):
    """The referee is not installed; the message says what installs it."""


def ask(
    environment: str, module: str, questions: Mapping[str, Any], **variables: str
) -> tuple[Arrays, str]:
    """What the module answers in that environment, and the referee's name and version.

    Args:
        environment: folder of a virtual environment in the project's root.
        module: run with `-m`; it calls `serve`.
        questions: arrays and strings by name.
        variables: of the process's environment.

    Raises:
        AbsentError: there is no such environment, or it lacks the referee.
        RuntimeError: the referee failed, with the end of what it said.
    """
    python = ROOT / environment / "bin" / "python"
    if not python.exists():
        raise AbsentError(f"no {environment}: run `make bench-environment`")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.savez(folder / "questions.npz", **questions)
        done = subprocess.run(
            [python, "-m", module, name],
            cwd=ROOT,
            env=os.environ | variables,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        said = done.stderr.strip().splitlines()[-5:]
        if done.returncode:
            if any("ModuleNotFoundError" in line for line in said):
                raise AbsentError(f"{said[-1]} in {environment}: run `make bench-environment`")
            raise RuntimeError(f"{module} failed in {environment}:\n" + "\n".join(said))
        with np.load(folder / "answers.npz") as arrays:
            answers = dict(arrays)
    return answers, str(answers.pop("referee"))


def serve(answer: Callable[[Arrays], Mapping[str, Any]], library: str) -> None:
    """The referee's side of `ask`: read the questions, answer, say which version it is."""
    from importlib.metadata import version

    folder = Path(sys.argv[1])
    with np.load(folder / "questions.npz") as arrays:
        questions = dict(arrays)
    answers = dict(answer(questions))
    name = library.removesuffix("-for-pytorch")
    answers["referee"] = np.array(f"{name} {version(library)}")
    np.savez(folder / "answers.npz", **answers)
