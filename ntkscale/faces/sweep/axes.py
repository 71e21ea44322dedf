"""From the words of a command to a list of runs: values between commas are axes, `0..4` a range."""

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

MOST_POINTS = 10_000
ONLY = "run"
"""Name of the one point of a sweep without axes."""

NOT_LISTED = ("runs", "wandb", "workers")
"""Options that say nothing of the result: a sweep goes on with others."""

_RANGE = re.compile(r"(-?\d+)\.\.(-?\d+)")


@dataclass(frozen=True)
class Axis:
    """An option, named as a field, and its values in the order typed."""

    option: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Point:
    """One run of a sweep.

    Attributes:
        name: of its run folder: its values on the axes.
        options: all that decides its result, by the names of fields, as words.
    """

    name: str
    options: Mapping[str, tuple[str, ...]]

    def words(self) -> list[str]:
        """Its options as they are typed."""
        return _typed(self.options)


@dataclass(frozen=True)
class Plan:
    """The list of runs of a sweep, the same for the same command.

    Attributes:
        experiment: name of the command.
        axes: in the order typed; the last one varies fastest.
        fixed: options that all points share.
        beside: words that decide no result: how a run is recorded, by how many processes.
        runs: where run folders go, as typed; empty: not typed.
    """

    experiment: str
    axes: tuple[Axis, ...]
    fixed: Mapping[str, tuple[str, ...]]
    beside: tuple[str, ...] = ()
    runs: str = ""

    @property
    def points(self) -> list[Point]:
        """All of them, in order."""
        names = [axis.option for axis in self.axes]
        points = []
        for values in itertools.product(*(axis.values for axis in self.axes)):
            own = dict(zip(names, values, strict=True))
            points.append(
                Point(
                    ",".join(f"{name}={value}" for name, value in own.items()) or ONLY,
                    {**self.fixed, **{name: (value,) for name, value in own.items()}},
                )
            )
        return points


def plan(words: Sequence[str], commands: Mapping[str, type]) -> Plan:
    """The list of runs that the words ask for.

    Args:
        words: a command as typed, without the options of the sweep itself.
        commands: settings by the name of their command.

    Raises:
        ValueError: an axis that is none, an option twice, or too many runs.
    """
    if not words or words[0] not in commands:
        named = f"{words[0]} is no experiment" if words else "no experiment was named"
        raise ValueError(f"{named}; choose {', '.join(commands)}, before any option.")
    hints = get_type_hints(commands[words[0]])
    axes: list[Axis] = []
    options: dict[str, tuple[str, ...]] = {}
    for name, values in _options(words[1:]):
        if name in options or any(axis.option == name for axis in axes):
            raise ValueError(f"{_option(name)} is given twice; give it once.")
        parts = [split(name, value, hints) for value in values]
        if all(part is None for part in parts) or name in ("runs", "wandb"):
            options[name] = tuple(values)
            continue
        if len(parts) > 1 or name == "workers":
            raise ValueError(
                f"{_option(name)} {' '.join(values)} is no axis: values between commas become "
                "runs, values set apart by spaces stay in one run; give only one of the two."
            )
        axes.append(Axis(name, _distinct(name, parts[0] or [])))
    if "name" in options:
        raise ValueError("--name names one run; give the sweep a name with --sweep.")
    count = 1
    for axis in axes:
        count *= len(axis.values)
    if count > MOST_POINTS:
        raise ValueError(f"these are {count:,} runs; at most {MOST_POINTS:,} make one sweep.")
    beside = {name: options.pop(name) for name in NOT_LISTED if name in options}
    runs = beside.pop("runs", ("",))
    return Plan(words[0], tuple(axes), options, tuple(_typed(beside)), " ".join(runs))


def in_one_run(words: Sequence[str], commands: Mapping[str, type]) -> list[str]:
    """The words of one run: `0..4` and `0,1` are the several values of an option that takes them.

    Raises:
        ValueError: several values for an option that takes one.
    """
    if not words or words[0] not in commands:
        return list(words)
    hints = get_type_hints(commands[words[0]])
    name, spread = "", [words[0]]
    for word in words[1:]:
        head, equals, value = word.partition("=")
        if head.startswith("--"):
            name = head[2:].replace("-", "_")
            if not equals:
                spread.append(word)
                continue
        else:
            head, value = "", word
        parts = split(name, value, hints)
        if parts is None:
            spread.append(word)
        elif takes_several(hints[name]):
            spread += [*filter(None, [head]), *parts]
        else:
            raise ValueError(
                f"{_option(name)} {value} are several values for an option that takes one; with "
                "--launcher local each becomes a run of its own."
            )
    return spread


def split(name: str, word: str, hints: Mapping[str, Any]) -> list[str] | None:
    """The values in one word, or None where it is one value, or may hold commas itself.

    Args:
        name: of the field it is for.
        word: as typed.
        hints: types of the fields. Numbers and choices are split, text, paths and pairs are not.

    Raises:
        ValueError: an empty value, or a range that is none.
    """
    kind = hints.get(name)
    if get_origin(kind) is tuple:
        # A pair of numbers is one value.
        kind = get_args(kind)[0] if takes_several(kind) else None
    number = kind in (int, float)
    if not number and get_origin(kind) is not Literal:
        return None
    if "," not in word and not (number and ".." in word):
        return None
    values: list[str] = []
    for part in word.split(","):
        if not part:
            raise ValueError(f"{_option(name)} {word} has an empty value between commas.")
        values += _numbers(name, part, kind) if number else [part]
    return values


def _numbers(name: str, part: str, kind: type) -> list[str]:
    """One number, or those of a range, each in its shortest form."""
    if ".." in part:
        found = _RANGE.fullmatch(part)
        if found is None:
            raise ValueError(
                f"{_option(name)} {part} is no range; ranges are of whole numbers, such as 0..4."
            )
        first, last = int(found[1]), int(found[2])
        if not 0 <= last - first < MOST_POINTS:
            raise ValueError(
                f"{_option(name)} {part} must go up, by fewer than {MOST_POINTS:,} numbers."
            )
        return [str(value) for value in range(first, last + 1)]
    try:
        return [repr(kind(part)).removesuffix(".0")]
    except ValueError:
        what = "whole number" if kind is int else "number"
        raise ValueError(f"{_option(name)}: {part} is no {what}.") from None


def _options(words: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Options by the names of their fields, each with its words."""
    found: list[tuple[str, list[str]]] = []
    for word in words:
        if word.startswith("--"):
            head, equals, value = word.partition("=")
            found.append((head[2:].replace("-", "_"), [value] if equals else []))
        elif found:
            found[-1][1].append(word)
        else:
            raise ValueError(f"{word} stands before any option; leave it out.")
    return found


def _distinct(name: str, values: Sequence[str]) -> tuple[str, ...]:
    if len(set(values)) < len(values):
        raise ValueError(f"{_option(name)} has a value twice; give each once.")
    return tuple(values)


def takes_several(kind: Any) -> bool:
    """Whether an option of that type holds any number of values in one run."""
    return get_origin(kind) is tuple and get_args(kind)[-1] is Ellipsis


def _typed(options: Mapping[str, Sequence[str]]) -> list[str]:
    return [word for name, values in options.items() for word in (_option(name), *values)]


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
