"""What ntkscale needs: each dependency is used, each import is declared, each licence fits."""

import ast
import re
import sys
from collections.abc import Mapping
from functools import cache
from importlib import metadata

import pytest

from requirements.licences import ROOT, declared, is_accepted, licences, normalised

LOCK = ROOT / "requirements" / "lock-dev.txt"
TOGETHER = {"cycler", "pillow"}
"""Part of what a named package speaks: matplotlib's settings, and torchvision's images."""


@cache
def third_party() -> frozenset[str]:
    """Top modules that the package imports, without the standard library's and its own."""
    found: set[str] = set()
    for path in [
        *sorted((ROOT / "ntkscale").rglob("*.py")),
        ROOT / "train.py",
        ROOT / "analyze.py",
    ]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.split(".")[0])
    return frozenset(found - set(sys.stdlib_module_names) - {"ntkscale"})


def packages_of(module: str) -> set[str]:
    """The packages that a module comes from; its own name where none is installed."""
    return {normalised(name) for name in _packages().get(module, [module])}


@cache
def _packages() -> Mapping[str, list[str]]:
    return metadata.packages_distributions()


def test_every_dependency_of_the_runtime_is_imported() -> None:
    used = set().union(*map(packages_of, third_party()))
    assert {normalised(one.name) for one in declared()["runtime"]} <= used


def test_every_import_is_declared() -> None:
    named = {normalised(one.name) for group in declared().values() for one in group}
    named |= TOGETHER
    for module in third_party():
        assert packages_of(module) & named, f"{module} is imported, but setup.cfg does not name it"


def test_licences_of_the_runtime_fit_apache() -> None:
    found = licences("runtime")
    assert len(found) > len(declared()["runtime"])  # what is required by what is required, too
    assert [one for one in found if one.verdict not in {"accepted", "excepted"}] == []


@pytest.mark.parametrize(
    ("licence", "accepted"),
    [
        ("MIT", True),
        ("Apache-2.0 WITH LLVM-exception AND BSD-3-Clause", True),
        ("GPL-3.0-only OR MIT", True),
        ("MIT AND (GPL-3.0-only OR LGPL-3.0-only)", False),
        ("", False),
    ],
)
def test_expressions_of_licences(licence: str, accepted: bool) -> None:
    assert is_accepted(licence) is accepted


def test_the_lock_has_every_dependency_at_one_version_with_its_hashes() -> None:
    entries = re.split(r"\n(?=[A-Za-z0-9])", LOCK.read_text())
    locked = {}
    for entry in entries:
        if found := re.match(r"([A-Za-z0-9._-]+)==(\S+)", entry):
            assert "--hash=sha256:" in entry, f"{found[1]} has no hash"
            locked[normalised(found[1])] = found[2]
    for group in ("runtime", "dev"):
        for one in declared()[group]:
            assert one.specifier.contains(locked[normalised(one.name)]), one
    assert LOCK.read_text().startswith("#")
