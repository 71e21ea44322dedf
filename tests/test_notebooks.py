"""Notebooks: their two files agree, they use what is public, and two of them run."""

import ast
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.py"))
RUN = ("five_minute_tour", "my_own_model")
"""Those short enough to run here with the tiny budget; `make notebooks` runs all of them."""

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def test_every_notebook_is_a_pair_with_a_line_in_the_table() -> None:
    stems = {path.stem for path in NOTEBOOKS}
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == stems
    listed = re.findall(r"\[[^\]]+\]\((\w+)\.ipynb\)", (FOLDER / "README.md").read_text())
    assert set(listed) == stems


@every_notebook
def test_the_pair_is_in_step_and_holds_no_outputs(path: Path) -> None:
    jupytext = pytest.importorskip("jupytext", reason="jupytext reads notebooks")
    text, paired = jupytext.read(path), jupytext.read(path.with_suffix(".ipynb"))
    said, kept = ([(c.cell_type, c.source) for c in book.cells] for book in (text, paired))
    assert said == kept, f"make the pair of {path.name}: see notebooks/README.md"
    for cell in paired.cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None


@every_notebook
def test_it_begins_with_its_question(path: Path) -> None:
    jupytext = pytest.importorskip("jupytext", reason="jupytext reads notebooks")
    first = jupytext.read(path).cells[0]
    assert first.cell_type == "markdown"
    title = first.source.splitlines()[0]
    assert title.startswith("# ") and "?" in first.source


@every_notebook
def test_it_uses_what_is_public(path: Path) -> None:
    assert _private(ast.parse(path.read_text())) == []


@pytest.mark.parametrize(
    "code",
    [
        "from ntkscale.tracking.schedule import log_steps",
        "from ntkscale.scaling import choose_window",
        "import ntkscale.ntk.engine",
        "from ntkscale import ntk\nntk.engine",
        "from ntkscale.theory import dmft as d\nd.nothing_of_that_name",
        "from ntkscale import nowhere",
        "x = object()\nx._inner",
        "from ntkscale.runs import *",
    ],
)
def test_what_is_private_is_found(code: str) -> None:
    assert _private(ast.parse(code))


@pytest.mark.parametrize("name", RUN)
def test_it_runs(name: str, tmp_path: Path) -> None:
    tiny = {"NTKSCALE_NOTEBOOK_BUDGET": "tiny", "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)}
    ran = subprocess.run(
        [sys.executable, str(FOLDER / f"{name}.py")],
        cwd=tmp_path,
        env=os.environ | tiny,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    assert "Warning" not in ran.stderr
    assert ran.stdout.strip()


def _private(tree: ast.Module) -> list[str]:
    """Names that a notebook takes and no room exports, and those with an underscore."""
    found: list[str] = []
    rooms: dict[str, str] = {}  # what a name in the notebook stands for
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name.startswith("ntkscale.")]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ntkscale"):
            assert node.module is not None
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                if alias.name not in _exported(node.module):
                    found.append(name)
                elif _folder(name).is_dir():
                    rooms[alias.asname or alias.name] = name
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute):
            continue
        if node.attr.startswith("_") and not node.attr.endswith("__"):
            found.append(node.attr)
        room = rooms.get(node.value.id) if isinstance(node.value, ast.Name) else None
        if room is not None and node.attr not in _exported(room):
            found.append(f"{room}.{node.attr}")
    return found


@cache
def _exported(module: str) -> tuple[str, ...]:
    """The `__all__` of a room, read and not imported; nothing of a module that is none."""
    if module == "ntkscale":
        return tuple(path.parent.name for path in (ROOT / "ntkscale").glob("*/__init__.py"))
    if module == "ntkscale.schema":
        return ("QUANTITIES",)
    source = _folder(module) / "__init__.py"
    for node in ast.parse(source.read_text()).body if source.is_file() else ():
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return tuple(ast.literal_eval(node.value))
    return ()


def _folder(module: str) -> Path:
    return ROOT.joinpath(*module.split("."))
