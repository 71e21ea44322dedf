"""Options of the circle: presets, axes, windows, what is refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from ntkscale import runs
from ntkscale.experiments.circle.cells import (
    cell,
    conditions,
    infinite_spectrum,
    modes_read,
    target,
    window,
)
from ntkscale.experiments.circle.experiment import CircleSettings, expand, run, settings_of
from ntkscale.experiments.circle.settings import PRESETS
from ntkscale.runs import RunFolderError


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("quick", [False, True])
def test_a_preset_is_written_out_and_names_every_cell_once(preset: str, quick: bool) -> None:
    settings = expand(CircleSettings(preset=preset, quick=quick))  # pyright: ignore[reportArgumentType]
    assert settings.preset == "none"
    assert expand(settings) == settings
    groups = list(conditions(settings))
    names = [cell(settings, condition).name for group in groups[:4] for condition in group]
    assert len(set(names)) == len(names)
    keys = [tuple(c.key(settings).items()) for group in groups for c in group]
    assert len(set(keys)) == len(keys)
    for group in groups:
        low, high = window(settings, group[0])
        assert 0 < low < high


def test_every_axis_is_crossed_with_every_other() -> None:
    settings = expand(
        CircleSettings(
            beta=(0.5, 1.0),
            power=(1, 2),
            phases=("aligned", "random"),
            draws=2,
            width=(64, 128),
            angles=8,
            points=64,
            gamma0=(0.5, 1.0),
            lazy=0.0,
            seed=(3, 5),
        )
    )
    every = [c for group in conditions(settings) for c in group]
    assert len(set(every)) == len(every) == 2 * 2 * 3 * 2 * 2 * 2
    assert settings.varying() == ["power", "phases", "width"]


def test_the_decay_and_beta_belong_to_each_power() -> None:
    for one in [c for g in conditions(CircleSettings(power=(1, 2, 3), angles=8)) for c in g]:
        assert one.q == pytest.approx(0.5 * one.power + 0.5)
    for one in [c for g in conditions(CircleSettings(q=(1.5,), power=(1, 2, 3))) for c in g]:
        assert one.beta == pytest.approx(1 / one.power)


def test_random_draws_share_the_spectrum_and_nothing_else() -> None:
    settings = expand(CircleSettings(phases=("aligned", "random"), draws=2, points=64, lazy=0.0))
    tasks = [target(settings, group[0]) for group in conditions(settings)]
    spectra = [task.targets[:, 0].numpy() for task in tasks]
    import numpy as np

    for one in spectra[1:]:
        np.testing.assert_allclose(
            np.abs(np.fft.rfft(one)), np.abs(np.fft.rfft(spectra[0])), atol=1e-10
        )
    assert abs(spectra[0] - spectra[1]).max() > 0.1
    assert abs(spectra[1] - spectra[2]).max() > 0.1


def test_test_points_lie_half_way_on_the_same_target() -> None:
    import numpy as np

    settings = CircleSettings(points=32)
    condition = next(conditions(settings))[0]
    task = target(settings, condition)
    assert task.test_inputs is not None and task.test_targets is not None
    theta = np.arctan2(*task.test_inputs.T.flip(0).numpy())
    k = np.arange(1, 16)
    expected = (k**-condition.q * np.cos(k * theta[:, None])).sum(1)
    np.testing.assert_allclose(task.test_targets[:, 0], expected, atol=1e-12)
    assert np.allclose(theta[0], np.pi / 32)


@pytest.mark.parametrize("power", [1, 2, 3])
def test_a_window_can_be_reached_with_the_steps_there_are(power: int) -> None:
    settings = CircleSettings(power=(power,), points=64, steps=120_000)
    condition = next(conditions(settings))[0]
    spectrum = infinite_spectrum(settings, condition)
    first, last = modes_read(settings, condition)
    assert first > power
    steps = window(settings, condition)[1] * float(spectrum.max()) / settings.step_fraction
    assert steps <= settings.steps / 3
    assert last == 8 or spectrum.max() / spectrum[last + 1] * 0.25 / 0.5 > settings.steps / 3


def test_a_run_of_an_earlier_version_is_refused_in_one_sentence(tmp_path: Path) -> None:
    settings = CircleSettings(
        beta=(0.5,), lazy=0.0, width=(16,), angles=8, points=32, steps=5, wandb="disabled"
    )
    folder = run(replace(settings, runs=tmp_path, name="run"))
    assert folder is not None
    assert settings_of(runs.load(folder.path)) == expand(
        replace(settings, runs=folder.path.parent, name="run", device="cpu", wandb="offline")
    )
    old = tmp_path / "old"
    shutil.copytree(folder.path, old)
    config = json.loads((old / "config.json").read_text())
    config["width"] = 16
    (old / "config.json").write_text(json.dumps(config))
    (old / "results.json").unlink()  # earlier versions put no seal on it
    with pytest.raises(RunFolderError, match=r"earlier version.*--name"):
        settings_of(runs.load(old))


def test_what_is_typed_wins_over_a_preset_even_where_it_is_the_default() -> None:
    name, value = "draws", PRESETS["phases"]["draws"]
    default = getattr(CircleSettings(), name)
    assert value != default
    assert getattr(expand(CircleSettings(preset="phases")), name) == value
    typed = CircleSettings(preset="phases", typed=(name,))
    assert getattr(expand(typed), name) == default
