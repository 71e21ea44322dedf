"""What the documentation says: its commands, Python examples, links and options, read once.

For `test_documented.py` (each is valid), `test_readme_examples.py` (examples run) and
`docs_check.py` (every command in full).
"""

import itertools
import re
import shlex
import textwrap
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

PLACEHOLDERS = {
    "NAME": "the name of a run",
    "RUN": "the folder of a run",
    "FILE.html": "a page to write",
    "mine.npz": "arrays of the reader's own",
    "bench.json": "what an earlier measurement wrote",
    "N": "a whole number",
}
"""Words of a command that a reader replaces."""

_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
_SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)")
_LINK = re.compile(r"(!?)\[[^\]]*\]\(([^)\s]+)\)")
_OPTION = re.compile(r"(?<![\w<!-])--[a-z][a-z0-9-]*")
_ASSIGNMENT = re.compile(r"[A-Z_]+=\S*")
_FOREIGN = re.compile(r"(\S*/)?(#SBATCH|apt|git|jupyter|jupytext|pip|sbatch|wandb)\b.*", re.DOTALL)
_SHELL = {"", "sh", "bash", "console"}
_MORE = {"…", "..."}


@dataclass(frozen=True)
class Command:
    """A command as a page has it.

    Attributes:
        page: the file; `line` in it.
        text: on one line, without its comment.
    """

    page: Path
    line: int
    text: str

    @property
    def is_pattern(self) -> bool:
        """Whether it stands for several: with alternatives, optional words, or words left out."""
        return any(word in _MORE or set(word) & set("|[") for word in self.words)

    @property
    def words(self) -> list[str]:
        """Its words, less the environment variables before them."""
        return list(itertools.dropwhile(_ASSIGNMENT.fullmatch, shlex.split(self.text)))

    def each(self) -> list[list[str]]:
        """The words of every command that a pattern stands for, optional ones included."""
        kept = [word.strip("[]") for word in self.words if word not in _MORE]
        return [list(words) for words in itertools.product(*(word.split("|") for word in kept))]


@dataclass(frozen=True)
class Page:
    """A Markdown file: its code blocks, and its text with them blanked out."""

    path: Path
    blocks: tuple[tuple[str, int, str], ...]  # language, first line, text
    prose: str

    @property
    def name(self) -> str:
        """Its path from the root."""
        return self.path.relative_to(ROOT).as_posix()

    def examples(self) -> list[str]:
        """Its Python blocks."""
        return [text for language, _, text in self.blocks if language == "python"]

    def spans(self) -> list[tuple[int, str]]:
        """Inline code, on one line each, with the line it begins on."""
        return [(_line(self.prose, m.start()), " ".join(m[1].split())) for m in
                _SPAN.finditer(self.prose)]  # fmt: skip

    def lines(self) -> list[tuple[int, str]]:
        """Lines of shell blocks, joined where they go on, without comments; where they begin."""
        found: list[tuple[int, str]] = []
        for language, first, text in self.blocks:
            if language in _SHELL:
                whole = text.replace("\\\n", " \x00")
                line = first
                for one in whole.split("\n"):
                    found.append((line, one.replace("\x00", "").partition(" #")[0].strip()))
                    line += 1 + one.count("\x00")
        return found

    def commands(self) -> list[Command]:
        """Commands in blocks of shell and in inline code, in order."""
        found = [
            Command(self.path, line, command)
            for line, text in [*self.lines(), *self.spans()]
            for command in text.split(" && ")
            if program(command)
        ]
        return sorted(found, key=lambda one: one.line)

    def options(self) -> list[tuple[int, str]]:
        """Every option that is named anywhere but in Python and for other programs, by its line."""
        prose = _SPAN.sub(
            lambda found: " " * len(found[0]) if _FOREIGN.match(found[1]) else found[0], self.prose
        )
        shell = [(line, text) for line, text in self.lines() if not _FOREIGN.match(text)]
        return [
            (first + _line(text, found.start()) - 1, found[0])
            for first, text in [(1, prose), *shell]
            for found in _OPTION.finditer(text)
        ]

    def links(self) -> list[tuple[bool, int, str]]:
        """(is a picture, line, target) of every link."""
        bare = _SPAN.sub(lambda found: " " * len(found[0]), self.prose)
        return [(bool(m[1]), _line(self.prose, m.start()), m[2]) for m in _LINK.finditer(bare)]

    def anchors(self) -> set[str]:
        """What `#…` may name: its headings, as GitHub spells them."""
        titles = re.findall(r"^#+ (.+)$", self.prose, re.MULTILINE)
        return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def program(text: str) -> tuple[str, list[str]] | None:
    """The program that a command starts and the words after it; None for what is no command.

    The program is ``train.py``, ``analyze.py``, ``make``, ``pytest``, or a script or module of the
    project by its path.
    """
    try:
        words = Command(ROOT, 0, text).words
    except ValueError:  # a quotation mark in prose
        return None
    if words and Path(words[0]).name == "torchrun":
        words = list(itertools.dropwhile(lambda word: not word.endswith(".py"), words))
    elif words and re.fullmatch(r"(.*/)?python3?", words[0]):
        words = words[1:]
        if words[:1] == ["-m"]:
            module = words[1] if len(words) > 1 else ""
            path = module.replace(".", "/") + ".py"
            words = ["pytest" if module == "pytest" else path, *words[2:]]
            if words[0] != "pytest" and not module.startswith(("benchmarks.", "ntkscale.")):
                return None
    if not words or (len(words) == 1 and words[0] in ("pytest", "train.py", "analyze.py")):
        return None
    first = words[0]
    named = first in ("train.py", "analyze.py") and len(words) > 1
    # A path alone is the name of a file, unless an interpreter stands before it.
    script = first.endswith(".py") and "/" in first and text.split()[0] != first
    return (first, words[1:]) if named or script or first in ("make", "pytest") else None


def read(path: Path) -> Page:
    """A Markdown file taken apart."""
    text = path.read_text()
    blocks = tuple(
        (found[2], _line(text, found.start()) + 1, textwrap.dedent(found[3]))
        for found in _FENCE.finditer(text)
    )
    return Page(path, blocks, _FENCE.sub(lambda found: "\n" * found[0].count("\n"), text))


@cache
def pages() -> tuple[Page, ...]:
    """Everything that documents the project, the README first."""
    paths = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    paths += sorted((ROOT / "ntkscale").rglob("README.md"))
    paths += [*(ROOT / "benchmarks").glob("*.md"), *(ROOT / "notebooks").glob("*.md")]
    return tuple(read(path) for path in paths)


@cache
def commands() -> tuple[Command, ...]:
    """Every documented command once, where it is met first."""
    first: dict[str, Command] = {}
    for page in pages():
        for command in page.commands():
            first.setdefault(shlex.join(command.words), command)
    return tuple(first.values())


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1
