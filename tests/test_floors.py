"""The house: each room imports only rooms on lower floors, and none on its own."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "ntkscale"

FLOOR = {
    "ntk": 0,
    "schema": 0,
    "networks": 1,
    "tasks": 1,
    "theory": 1,
    "runs": 1,
    "scaling": 2,
    "landscape": 2,
    "robustness": 2,
    "training": 3,
    "tracking": 3,
    "reporting": 3,
    "experiments": 4,
    "faces": 5,
}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE)


def imported_rooms(path: Path) -> set[str]:
    """Rooms of the package that a file imports, wherever in the file it does."""
    rooms: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where things come from"
            assert node.module is not None
            names = [node.module]
            if node.module == "ntkscale":
                names = [f"ntkscale.{alias.name}" for alias in node.names]
        else:
            continue
        parts = [name.split(".") for name in names]
        rooms |= {part[1] for part in parts if part[0] == "ntkscale" and len(part) > 1}
    return rooms


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_room_imports_only_lower_floors(path: Path) -> None:
    room = path.relative_to(PACKAGE).parts[0]
    for other in imported_rooms(path) - {room}:
        assert FLOOR[other] < FLOOR[room], f"{room} (floor {FLOOR[room]}) imports {other}"


def test_every_room_has_a_floor_and_a_table_of_contents() -> None:
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name[0] not in "_."}
    assert rooms <= FLOOR.keys()
    for room in rooms:
        assert ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text())), room


def test_floor_zero_needs_torch_and_numpy_alone() -> None:
    allowed = {"torch", "numpy", "jaxtyping", "ntkscale"}
    for path in [*sorted((PACKAGE / "ntk").rglob("*.py")), PACKAGE / "schema.py"]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                modules = [node.module]
            elif isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            else:
                continue
            for module in modules:
                top = module.split(".")[0]
                assert top in allowed or top in _standard_library(), f"{path} imports {module}"


def _standard_library() -> frozenset[str]:
    import sys

    return sys.stdlib_module_names


def test_no_file_holds_two_subjects() -> None:
    for path in PACKAGE.rglob("*.py"):
        lines = len(path.read_text().splitlines())
        assert lines <= 500, f"{path.relative_to(ROOT)} has {lines} lines: find its second subject"
        assert path.name != "utils.py"
