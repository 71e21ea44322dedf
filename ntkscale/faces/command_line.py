"""Typed options in, one clear sentence out: what `train.py` and `analyze.py` share."""

import contextlib
import inspect
import io
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from typing import Annotated, Any, Union

import tyro

BAD_INPUT = 2
INTERRUPTED = 130

_FRAME = re.compile(r"[╭╮╰╯│─]|-{8,}")


def parse(
    commands: Mapping[str, type] | type, arguments: Sequence[str], *, program: str, about: str
) -> Any:
    """The settings that the arguments ask for.

    Args:
        commands: a dataclass of options, or one for every subcommand.
        arguments: the words after the program's name.
        program: its name.
        about: what it does, shown by ``--help``.

    Raises:
        SystemExit: after ``--help`` (code 0), or after a wrong option (code 2), with one sentence
            on stderr.
    """
    config = (tyro.conf.FlagCreatePairsOff,)
    errors = io.StringIO()
    known = () if isinstance(commands, type) else tuple(commands)
    try:
        with contextlib.redirect_stderr(errors):
            if isinstance(commands, type):
                return tyro.cli(
                    commands, args=arguments, prog=program, description=about, config=config
                )
            return tyro.cli(
                _choice(commands, brief=arguments[:1] in (["-h"], ["--help"])),
                args=arguments,
                prog=program,
                description=about,
                config=config,
            )
    except SystemExit as stop:
        if stop.code not in (0, None):
            sys.stderr.write(_sentence(errors.getvalue(), program, arguments, known))
        raise


def _choice(commands: Mapping[str, type], *, brief: bool) -> Any:
    """One of the dataclasses; `brief` describes each by the first paragraph of its docstring."""
    kinds = []
    for name, kind in commands.items():
        about = (inspect.getdoc(kind) or "").partition("\n\n")[0] if brief else None
        kinds.append(Annotated[kind, tyro.conf.subcommand(name, description=about)])
    return Union[tuple(kinds)]  # noqa: UP007, of as many as there are


def _sentence(message: str, program: str, arguments: Sequence[str], known: Sequence[str]) -> str:
    """One sentence from a boxed message: what was wrong, the nearest option, where help is."""
    command = arguments[0] if arguments and arguments[0] in known else ""
    if known and not command:
        said = f"{arguments[0]} is no experiment" if arguments else "no experiment was named"
        return f"{program}: {said}; choose {', '.join(known)} (`python {program} --help`).\n"
    # The message stands below its title in a box, drawn with lines or, in ASCII, with dashes.
    bare = [_FRAME.sub("", line).strip() for line in message.splitlines()]
    lines = [line for line in bare if line][1:]
    # It goes on to the first rule, over as many lines as the box is narrow.
    below = bare[bare.index(lines[0]) :] if lines else ["the options are wrong"]
    wrong = " ".join(takewhile(bool, below))
    if wrong.startswith("Unrecognized"):
        unknown = [word for word in arguments if word.startswith("-") and word in message]
        wrong = f"unknown option {' '.join(unknown) or wrong.partition(':')[2].strip()}"
    wrong = wrong.rstrip(".")
    near = next((line.split()[0] for line in lines[1:] if line.startswith("--")), None)
    hint = f"; did you mean {near}?" if near and near not in wrong else ";"
    help_with = " ".join(filter(None, [program, command, "--help"]))
    return f"{program}: {wrong}{hint} `python {help_with}` lists every option.\n"


def guarded(work: Callable[[], None], *, program: str) -> int:
    """Run `work`; the exit code, after one sentence on stderr where something was wrong."""
    try:
        work()
    except KeyboardInterrupt:
        sys.stderr.write(f"\n{program}: stopped; what is done is kept, the same command resumes.\n")
        return INTERRUPTED
    except (ValueError, OSError) as error:
        sys.stderr.write(f"{program}: {error}\n")
        return BAD_INPUT
    return 0
