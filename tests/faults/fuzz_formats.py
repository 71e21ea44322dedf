"""What a kind of hostile file is to the fuzzer."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from ntkscale.runs import RunFolderError
from tests.faults import fuzz_mutations as mutations

Files = dict[str, bytes]
"""What lies in a folder, by relative path."""


@dataclass(frozen=True)
class Format:
    """A kind of file that may come from anywhere.

    Attributes:
        name: in the table.
        files: the sound ones.
        damage: changes files in place; may put links at names in the folder afterwards (`after`).
        read: reads the folder as the public does, given it and the place that none may change;
            AssertionError where what it says is not what the files say.
        errors: documented.
        linked: names at which links, pipes and folders are tried.
        writes: whether reading changes the folder.
    """

    name: str
    files: Callable[[], Files]
    damage: Callable[[Random, Files], None]
    read: Callable[[Path, Path], object]
    errors: tuple[type[Exception], ...] = (RunFolderError,)
    linked: tuple[str, ...] = ()
    writes: bool = False

    def write(self, rng: Random, place: Path, outside: Path, lying: Files) -> None:
        """Put one damaged set of files into a place.

        Args:
            rng: decides.
            place: the folder.
            outside: where links lead.
            lying: what lies there and was not changed; brought up to date.
        """
        files = dict(self.files())
        displaced = bool(self.linked) and rng.random() < 0.04
        if not displaced or rng.random() < 0.3:
            self.damage(rng, files)
        if not lying:
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
        for name in lying.keys() - files.keys():
            (place / name).unlink()
        for name, content in files.items():
            if lying.get(name) is not content:
                path = place / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        if displaced:
            mutations.displace(rng, place / rng.choice(self.linked), outside)
        lying.clear()
        if not (displaced or self.writes):
            lying |= files


def content(root: Path) -> Files:
    """Every file below a folder."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def of_one(name: str) -> Callable[[Random, Files], None]:
    """Damage to one file of text."""

    def damage(rng: Random, files: Files) -> None:
        files[name] = mutations.damage_text(rng, files[name])

    return damage
