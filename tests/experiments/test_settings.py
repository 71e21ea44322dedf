"""What a run's configuration says is what it was made with."""

from pathlib import Path

import pytest

from ntkscale.experiments import dmft, kernel_evolution
from ntkscale.experiments.dmft import DmftSettings
from ntkscale.experiments.kernel_evolution import KernelEvolutionSettings
from ntkscale.experiments.settings import configuration, restore


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        (DmftSettings(preset="linear", typed=("learning_rate",)), "learning_rate"),
        (KernelEvolutionSettings(preset="fashion-mlp", typed=("batch_size",)), "batch_size"),
    ],
)
def test_a_run_is_read_with_what_was_typed_even_where_it_is_the_default(
    typed: DmftSettings | KernelEvolutionSettings, name: str, tmp_path: Path
) -> None:
    expand = dmft.expand if isinstance(typed, DmftSettings) else kernel_evolution.expand
    made = expand(typed)  # pyright: ignore[reportArgumentType]
    config = configuration("an experiment", made)
    read = expand(restore(type(typed), config, tmp_path / "a"))  # pyright: ignore
    assert getattr(read, name) == getattr(made, name) == getattr(type(typed)(), name)
    assert configuration("an experiment", read) == config


def test_torchrun_is_refused_where_it_cannot_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="does not spread over torchrun"):
        dmft.run(DmftSettings(runs=tmp_path))
    assert list(tmp_path.iterdir()) == []
