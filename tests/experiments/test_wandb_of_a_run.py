from pathlib import Path

from ntkscale import runs
from ntkscale.experiments import images
from tests.reference import wandb_record

LISTS = {
    "kernel_eigenvalues",
    "kernel_growth",
    "kernel_trace_by_layer",
    "kernel_distance_by_layer",
}


def test_the_offline_record_holds_what_the_run_recorded(tmp_path: Path) -> None:
    folder = images.run(
        images.ImagesSettings(
            size=120,
            test_size=30,
            width=(8,),
            gamma0=(1.0,),
            steps=20,
            probe=12,
            spectrum=40,
            runs=tmp_path,
        )
    )
    assert folder is not None
    metrics = runs.load(folder.path).metrics
    history = wandb_record.history(folder.path / "wandb")
    logged = {key for entries in history for key in entries}
    for name in set(metrics.columns) - {"cell", "width", "gamma0", "seed"}:
        assert name in logged or f"{name}/01" in logged, name
    assert any(key.startswith("kernel_pictures") for key in logged)
    losses = [entries["mse"] for entries in history if "mse" in entries]
    assert losses == metrics["mse"].to_list()
    assert wandb_record.axes(folder.path / "wandb")["kernel_distance"] == "time"
