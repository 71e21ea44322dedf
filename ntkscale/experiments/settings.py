"""The options every experiment shares: where it runs, what it is called and what it records."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import torch
from tyro.conf import Suppress, arg

from ntkscale.runs import RunFolderError

# What `--help` calls a value: short, so that an option and its meaning share a line.
Floats = Annotated[tuple[float, ...], arg(metavar="X ...")]
Ints = Annotated[tuple[int, ...], arg(metavar="N ...")]
Integer = Annotated[int, arg(metavar="N")]
Number = Annotated[float, arg(metavar="X")]
Text = Annotated[str, arg(metavar="TEXT")]
NAME = arg(metavar="NAME")

Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["float32", "float64"]
WandbMode = Literal["offline", "online", "disabled"]


@dataclass(frozen=True)
class Common:
    """Options of every experiment."""

    name: Text = ""
    """run folder; else from the options"""
    runs: Path = Path("runs")
    """where run folders go"""
    device: Annotated[Device, NAME] = "auto"
    """auto, cpu, cuda or mps"""
    typed: Suppress[tuple[str, ...]] = field(default=(), compare=False)
    """options that were typed, which a preset must leave alone even where they are the default"""


@dataclass(frozen=True)
class Recorded(Common):
    """Options of every experiment with a W&B record."""

    wandb: Annotated[WandbMode, NAME] = "offline"
    """offline, online or disabled"""


@dataclass(frozen=True)
class Training(Recorded):
    """Options of every experiment that trains cells side by side."""

    workers: Integer = 0
    """processes side by side; 0: as it pays"""


Settings = TypeVar("Settings", bound=Common)

# Where a run lies, how it is logged and by how many processes say nothing of its result: a
# run may be moved, or resumed with another --wandb, and stays the same run.
_NOT_CONFIGURATION = frozenset({"name", "runs", "workers", "wandb", "typed"})


def configuration(experiment: str, settings: Common) -> dict[str, Any]:
    """Everything that decides the result of a run, as JSON-able values.

    Args:
        experiment: name of the command.
        settings: its options; paths become strings, tuples become lists.
    """
    values = {
        key: value for key, value in asdict(settings).items() if key not in _NOT_CONFIGURATION
    }
    values["device"] = resolve_device(settings.device).type
    return {"experiment": experiment, **json.loads(json.dumps(values, default=str))}


def restore(kind: type[Settings], config: dict[str, Any], path: Path) -> Settings:
    """The settings that `configuration` wrote, with `name` and `runs` from where the run lies.

    Presets are written out in them: all count as typed, or a preset would take back what was typed
    and happened to be the default.

    Raises:
        RunFolderError: an option has a value of another kind than it takes.
    """
    known = {field.name for field in fields(kind)}
    hints = get_type_hints(kind)
    for key in known & config.keys():
        if not _fits(hints[key], config[key]):
            raise RunFolderError(
                f"{path / 'config.json'} has {config[key]!a:.40} as {key}, which that option does "
                "not take; restore it from a copy, or start the run anew in another folder."
            )
    values = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in config.items()
        if key in known
    }
    return kind(**{**values, "name": path.name, "runs": path.parent, "typed": tuple(values)})


def _fits(kind: Any, value: Any) -> bool:
    """Whether a value of JSON is one of an option of that type."""
    origin, choices = get_origin(kind), get_args(kind)
    if origin is Literal:
        return isinstance(value, str) and value in choices
    if origin is tuple:
        if not isinstance(value, list):
            return False
        if choices[-1] is Ellipsis:
            return all(_fits(choices[0], one) for one in value)
        return len(value) == len(choices) and all(map(_fits, choices, value))
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, str if kind is Path else kind)


def resolve_device(device: Device) -> torch.device:
    """The device an option names.

    Raises:
        ValueError: the device is not there.
    """
    if device == "auto":
        # Apple's GPUs have no float64, so they have to be asked for.
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: no CUDA device is visible; use --device auto or cpu.")
    if device == "mps" and not torch.backends.mps.is_available():
        raise ValueError("--device mps: no Apple GPU is available; use --device auto or cpu.")
    return torch.device(device)


def with_preset(settings: Settings, preset: Mapping[str, Any]) -> Settings:
    """The settings with a preset's values wherever none was given: what is typed wins."""
    defaults = {field.name: field.default for field in fields(settings)}
    open_fields = {
        name: value
        for name, value in preset.items()
        if name not in settings.typed and getattr(settings, name) == defaults[name]
    }
    return replace(settings, **open_fields)


def equal_but_for_seeds(one: Common, other: Common, *free: str) -> bool:
    """Whether two sets of options ask for the same, but for seeds, where things are, and `free`."""
    free = (*(field.name for field in fields(Training)), "seed", "data_dir", "download", *free)
    return all(
        getattr(one, field.name) == getattr(other, field.name)
        for field in fields(other)
        if field.name not in free
    )


def data_folder(data_dir: str) -> Path | None:
    """Where image files are, if ``--data-dir`` says so."""
    return Path(data_dir) if data_dir else None


def require_positive(**values: float | tuple[float, ...]) -> None:
    """Refuse an empty list, or an entry that is twice there or not above zero, by its option."""
    for name, value in values.items():
        entries = value if isinstance(value, tuple) else (value,)
        option = "--" + name.replace("_", "-")
        for entry in entries:
            if not 0 < entry < math.inf:
                raise ValueError(f"{option} {entry} must be above 0.")
        require_distinct(**{name: entries})


def require_distinct(**values: tuple[float, ...]) -> None:
    """Refuse an empty list, or an entry that is twice there, by its option."""
    for name, entries in values.items():
        option = "--" + name.replace("_", "-")
        if not entries:
            raise ValueError(f"{option} is empty; give at least one value.")
        if len(set(entries)) < len(entries):
            raise ValueError(f"{option} has a value twice; give each once.")
