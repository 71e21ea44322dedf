"""What a command is told by files: its settings, and the list of a sweep."""

import json
from functools import cache
from pathlib import Path, PosixPath
from random import Random

from ntkscale.experiments import EXPERIMENTS
from ntkscale.experiments.settings import configuration, restore
from ntkscale.faces.sweep.folder import JOBS, LIST, read_sweep
from ntkscale.runs.strict_json import read_json
from tests.faults import fuzz_mutations as mutations
from tests.faults.fuzz_formats import Files, Format


def _sweep_files() -> Files:
    axes = [{"option": "gamma0", "values": ["0.03", "1"]}, {"option": "seed", "values": ["0", "1"]}]
    points = [
        {"name": f"gamma0={g},seed={s}", "run": f"circle/gamma0={g},seed={s}", "options": {}}
        for g in ("0.03", "1")
        for s in ("0", "1")
    ]
    fixed = {"beta": ["0.5", "1.25"], "data": ["../mine.npz"]}
    listed = {"experiment": "circle", "axes": axes, "fixed": fixed, "points": points}
    job = {"cluster": "local", "id": "12_3", "folder": "submitit/1"}
    event = {"time": 1.5, "point": "gamma0=1,seed=0", "event": "died", "code": -9}
    return {
        LIST: json.dumps({"version": 1, **listed}).encode(),
        JOBS: json.dumps({"version": 1, "jobs": {"gamma0=1,seed=0": job}}).encode(),
        "events.jsonl": json.dumps(event).encode() + b"\n",
        "circle/gamma0=1,seed=0/results.json": b'{"version": 1, "finished": true}',
    }


def _damage_sweep(rng: Random, files: Files) -> None:
    name = rng.choice((LIST, LIST, LIST, JOBS, "events.jsonl"))
    files[name] = mutations.damage_text(rng, files[name])


def _read_sweep(place: Path, outside: Path) -> None:
    sweep = read_sweep(place)
    for point in sweep.plan.points:
        run = sweep.run(point)
        assert run.is_relative_to(place) and ".." not in run.parts and len(point.name) < 255
        assert run.parent.parent == place.resolve() and sweep.log(point).parent.parent == place
        sweep.finished(point)
    assert all(isinstance(event, dict) for event in sweep.events())
    for job in sweep.jobs().values():
        assert job["id"].replace("_", "").isdigit()


@cache
def _settings_files() -> Files:
    """The configuration of every command, as a run of it has it."""
    return {
        f"{name}.json": json.dumps({"version": 1, **configuration(name, one.settings())}).encode()
        for name, one in EXPERIMENTS.items()
    }


def _damage_settings(rng: Random, files: Files) -> None:
    name = rng.choice(list(files))
    files[name] = mutations.damage_text(rng, files[name])


def _read_settings(place: Path, outside: Path) -> None:
    for name, one in EXPERIMENTS.items():
        config = read_json(place / f"{name}.json")
        found, default = restore(one.settings, config, place), one.settings()
        for field in vars(default):
            value, kind = getattr(found, field), type(getattr(default, field))
            assert isinstance(value, kind | int if kind is float else kind) or kind is PosixPath


LIST_FORMATS = [
    Format("settings of commands", _settings_files, _damage_settings, _read_settings),
    Format(
        "sweep.json", _sweep_files, _damage_sweep, _read_sweep, linked=(LIST, JOBS, "events.jsonl")
    ),
]
