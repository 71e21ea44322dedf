"""Typed options in, one clear sentence out: what `train.py` and `analyze.py` share."""

import contextlib
import errno
import inspect
import io
import re
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any, Union

import tyro

from ntkscale.ntk.memory import out_of_memory
from ntkscale.training import StopSignals

FAILED = 1
BAD_INPUT = 2
REQUEUE = 75
"""Stopped by SIGTERM or SIGUSR1 with all that is done on disk: start the same command again."""
INTERRUPTED = 130

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_SHUT = (errno.EACCES, errno.EPERM, errno.EROFS)

_FRAME = re.compile(r"[╭╮╰╯│─]|-{8,}")


def called(script: str) -> str:
    """What the program was called as: the name of an installed command, or that of the script."""
    name = Path(sys.argv[0]).name
    return name if name.startswith("ntkscale-") else script


def _typed(words: str) -> str:
    """A program and its words as one types them."""
    return f"python {words}" if words.partition(" ")[0].endswith(".py") else words


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
        return f"{program}: {said}; choose {', '.join(known)} (`{_typed(program)} --help`).\n"
    # The message stands below its title in a box, drawn with lines or, in ASCII, with dashes.
    bare = [_FRAME.sub("", line).strip() for line in message.splitlines()]
    lines = [line for line in bare if line][1:]
    # It goes on to the first rule, over as many lines as the box is narrow.
    below = bare[bare.index(lines[0]) :] if lines else ["the options are wrong"]
    wrong = " ".join(takewhile(bool, below))
    if wrong.startswith("Unrecognized"):
        unknown = [word for word in arguments if word.startswith("-") and word in message]
        wrong = f"unknown option {' '.join(unknown) or wrong.partition(':')[2].strip()}"
    # What a dataclass refuses comes with the name of the dataclass.
    wrong = re.sub(r"^Error parsing [A-Z]\w*: ", "", wrong).rstrip(".")
    near = next((line.split()[0] for line in lines[1:] if line.startswith("--")), None)
    hint = f"; did you mean {near}?" if near and near not in wrong else ";"
    help_with = " ".join(filter(None, [program, command, "--help"]))
    return f"{program}: {wrong}{hint} `{_typed(help_with)}` lists every option.\n"


def guarded(work: Callable[[], int | None], *, program: str) -> int:
    """Run `work`; its exit code, after one sentence on stderr where it is not 0.

    2: something was wrong; 130: Ctrl-C; 75 (EX_TEMPFAIL): SIGTERM or SIGUSR1, as batch systems send
    them at the end of a job or before it, and the same command goes on; 1: memory ran out, or a
    process was killed. Errors that nobody foresaw pass through.
    """
    with StopSignals() as stop:
        try:
            return work() or 0
        except KeyboardInterrupt:
            queue = stop.by not in (None, signal.SIGINT)
            how = f" by {stop.by.name}" if queue and stop.by is not None else ""
            what = f"stopped{how}; what is done is kept, the same command resumes."
            sys.stderr.write(f"\n{program}: {what}\n")
            return REQUEUE if queue else INTERRUPTED
        except ChildProcessError as error:
            sys.stderr.write(f"{program}: {_told(error)}\n")
            return FAILED
        except (ValueError, OSError) as error:
            sys.stderr.write(f"{program}: {_told(error)}\n")
            return BAD_INPUT
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            why = str(error).partition("\n")[0] or "no more could be had"
            sys.stderr.write(
                f"{program}: memory ran out ({why}); what is done is kept: make room, or ask for "
                "smaller networks or fewer samples.\n"
            )
            return FAILED


def _told(error: ValueError | OSError) -> str:
    """What was wrong, in one sentence; the system's own errors get their cure."""
    if not isinstance(error, OSError) or error.errno is None:
        said = str(error)  # may quote a file: nothing of that may steer the terminal
        return said if said.isprintable() else ascii(said)[1:-1]
    what = f"{error.filename or 'a file'}: {(error.strerror or 'unknown error').lower()}"
    if error.errno in _FULL:
        return f"{what}; make room, then the same command goes on from what is done."
    if error.errno in _SHUT:
        return f"{what}; change its permissions or choose another folder."
    return f"{what}."
