"""The licence of everything that ntkscale needs, against Apache-2.0: `make licences`.

Direct dependencies are those of `setup.cfg`, with the extras; the others are what these require, as
they are installed here. A licence is taken from a package's own metadata: the SPDX expression, else
the classifiers, else the field of free text. The exit code is 1 if one is neither accepted nor
excepted, or a package of the runtime is not installed.
"""

import configparser
import re
import sys
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]

ACCEPTED = frozenset(
    {
        *(
            "0BSD",
            "Apache-2.0",
            "BSD-2-Clause",
            "BSD-3-Clause",
            "BSL-1.0",
            "CC0-1.0",
            "HPND",
            "ISC",
        ),
        *("MIT", "MIT-0", "MIT-CMU", "PSF-2.0", "Python-2.0", "Unlicense", "Zlib"),
    }
)
"""SPDX names of permissive licences: Apache-2.0 code may depend on them and be shipped with it."""

SPDX = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2.0": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD": "BSD-3-Clause",
    "BSD License": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
}
"""What packages without an SPDX expression write; a plain "BSD" is never the old one."""

EXCEPTED = {
    "certifi": "MPL-2.0 binds changes of its own files alone; it is used as it is, and not shipped",
    "fqdn": "MPL-2.0, as certifi; notebooks alone",
    "hypothesis": "MPL-2.0, as certifi; tests alone",
    "tqdm": "MPL-2.0 and MIT, as certifi",
    "yattag": "LGPL, used unchanged by the reports of cosmic-ray alone; not shipped",
    "cuda-toolkit": "names the packages of NVIDIA's toolkit, holds no code; as nvidia-*",
    "nvidia-*": "proprietary, part of PyTorch's CUDA build alone, under NVIDIA's terms; not "
    "shipped with ntkscale, nor needed: PyTorch's CPU build has none of them",
}
"""Packages whose licence is not accepted as such, and why they may be used."""


@dataclass(frozen=True)
class Found:
    """A package and its licence.

    Attributes:
        name: normalised.
        needed_by: the extra that brings it, or "runtime".
        licence: in SPDX where it could be told, else as the package writes it.
        verdict: "accepted", "excepted", "not installed", or "not accepted".
    """

    name: str
    needed_by: str
    licence: str
    verdict: str


def declared() -> dict[str, list[Requirement]]:
    """The direct dependencies of `setup.cfg`: of the runtime, and of each extra."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    groups = {"runtime": config["options"]["install_requires"]}
    groups |= dict(config["options.extras_require"])
    return {
        name: [Requirement(line) for line in text.split("\n") if line.strip()]
        for name, text in groups.items()
    }


def normalised(name: str) -> str:
    """A package's name as the index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def licences(group: str) -> list[Found]:
    """Every package that a group needs, directly or not, sorted by name.

    Args:
        group: "runtime" or the name of an extra.
    """
    found: dict[str, Found] = {}
    visited: set[tuple[str, frozenset[str]]] = set()
    todo = [*declared()[group]]
    while todo:
        wanted = todo.pop()
        name, extras = normalised(wanted.name), frozenset(wanted.extras)
        if (name, extras) in visited:
            continue
        visited.add((name, extras))
        try:
            package = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            found[name] = Found(name, group, "", "not installed")
            continue
        found[name] = _judged(name, group, licence_of(package))
        for requirement in map(Requirement, package.requires or ()):
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in {"", *extras}):
                todo.append(requirement)
    return sorted(found.values(), key=lambda one: one.name)


def licence_of(package: metadata.Distribution) -> str:
    """What a package says of its licence, in SPDX where it can be told."""
    fields = package.metadata
    if expressions := fields.get_all("License-Expression"):
        return expressions[0]
    classifiers = fields.get_all("Classifier") or []
    named = [line.split("::")[-1].strip() for line in classifiers if line.startswith("License ::")]
    told = [SPDX[name] for name in named if name in SPDX]
    if told:
        return " OR ".join(told)
    text = "".join(fields.get_all("License") or []).strip().partition("\n")[0]
    return SPDX.get(text, text) or ", ".join(named) or "none given"


def is_accepted(licence: str) -> bool:
    """Whether an SPDX expression holds accepted licences alone; of alternatives one is enough."""
    plain = licence.replace("(", " ").replace(")", " ")
    return all(
        any(part.split(" WITH ")[0].strip() in ACCEPTED for part in joined.split(" OR "))
        for joined in plain.split(" AND ")
    )


def _judged(name: str, group: str, licence: str) -> Found:
    if is_accepted(licence):
        return Found(name, group, licence, "accepted")
    excepted = any(fnmatch(name, pattern) for pattern in EXCEPTED)
    return Found(name, group, licence, "excepted" if excepted else "not accepted")


def main() -> int:
    """Print every package once; 1 if a licence is not accepted."""
    table = Table("package", "needed by", "licence", "verdict")
    shown: dict[str, Found] = {}
    failed = False
    for group in declared():
        for one in licences(group):
            if one.name not in shown:
                shown[one.name] = one
                table.add_row(one.name, one.needed_by, one.licence, one.verdict)
            failed |= one.verdict == "not accepted"
            failed |= one.verdict == "not installed" and group == "runtime"
    console = Console()
    console.print(table)
    console.print("Excepted:")
    for name, reason in EXCEPTED.items():
        console.print(f"  {name}: {reason}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
