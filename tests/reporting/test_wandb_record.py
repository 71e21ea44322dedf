"""What is logged to W&B is what its offline record holds."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ntkscale.reporting import WandbLog
from ntkscale.schema import QUANTITIES
from tests.reference import wandb_record

README = Path(sys.modules["ntkscale.reporting"].__path__[0]) / "README.md"


def row(time: float | None, rng: np.random.Generator) -> dict[str, object]:
    """A row with every quantity of the schema."""
    entries: dict[str, object] = {"cell": "seed=0", "seed": 0, "note": None}
    for quantity in QUANTITIES.values():
        entries[quantity.name] = {
            "scalar": float(rng.lognormal()),
            "index": rng.lognormal(size=12).tolist(),
            "layer": rng.lognormal(size=10).tolist(),
        }[quantity.shape]
    return {**entries, "time": time, "step": int(rng.integers(1000))}


def test_the_offline_record_holds_every_documented_metric(tmp_path: Path) -> None:
    rng = np.random.default_rng()
    rows = [row(0.5 * i, rng) for i in range(3)]
    kernel = rng.random((300, 300))
    log = WandbLog(
        "offline", tmp_path, name="seed=0", group="g/r", config={"width": 8, "seed": [0]}
    )
    for entries in rows:
        log.log_kernel_picture("kernel", kernel, 0.25)
        log.log(entries)
    log.finish()
    log.log(rows[0])  # nothing, after the end

    found = [entries for entries in wandb_record.history(tmp_path) if "loss" in entries]
    assert len(found) == len(rows)
    for logged, entries in zip(found, rows, strict=True):
        for name, quantity in QUANTITIES.items():
            value = entries[name]
            if quantity.shape == "scalar":
                assert logged[name] == value
                continue
            assert isinstance(value, list)
            leading = value if quantity.shape == "layer" else value[:8]
            assert [logged[f"{name}/{i + 1:02d}"] for i in range(len(leading))] == leading
            assert f"{name}/{len(leading) + 1:02d}" not in logged
            if quantity.shape == "index":
                counts, bins = np.histogram(np.log10(value), bins=32)
                assert logged[f"{name}/log10.values"] == counts.tolist()
                assert logged[f"{name}/log10.bins"] == pytest.approx(bins.tolist())
        assert not {"cell", "seed", "note"} & logged.keys()

    axes = wandb_record.axes(tmp_path)
    for name, quantity in QUANTITIES.items():
        if name not in ("step", "time"):
            assert axes[name if quantity.shape == "scalar" else f"{name}/*"] == quantity.axis
    assert axes["kernel_pictures/*"] == "kernel_pictures/time"

    description = wandb_record.run(tmp_path)
    assert (description.display_name, description.run_group) == ("seed=0", "g/r")
    config = {item.key: item.value_json for item in description.config.update}
    assert config["width"] == "8" and config["seed"] == "[0]"


def test_the_documentation_names_what_is_logged() -> None:
    text = README.read_text()
    for name in QUANTITIES:
        assert f"`{name}`" in text or f"`{name}/" in text


def test_without_flow_time_everything_lies_on_steps(tmp_path: Path) -> None:
    log = WandbLog("offline", tmp_path, name="adam", group="g", config={})
    log.log(row(None, np.random.default_rng()))
    log.finish()
    axes = wandb_record.axes(tmp_path)
    assert {axes[q.name] for q in QUANTITIES.values() if q.shape == "scalar"} == {"step", ""}
    assert axes["loss"] == "step" and axes["kernel_growth/*"] == "step"
    assert "time" not in wandb_record.history(tmp_path)[0]


def test_kernel_pictures_show_the_kernel(tmp_path: Path) -> None:
    blocks = np.kron(np.array([[4.0, 0.0], [1.0, 4.0]]), np.ones((300, 300)))
    log = WandbLog("offline", tmp_path, name="n", group="g", config={})
    log.log_kernel_picture("kernel", blocks, 1.5)
    log.log_kernel_picture("signed", np.array([[1.0, -2.0], [0.0, 2.0]]), 2.5)
    log.finish()
    first, second = wandb_record.history(tmp_path)
    assert first["kernel_pictures/time"] == 1.5
    assert first["kernel_pictures/kernel.caption"] == "t = 1.5, scale to 4"
    picture = picture_of(tmp_path, first["kernel_pictures/kernel.path"])
    assert picture.shape == (256, 256, 3)
    bright, dark = picture[0, 0].astype(int), picture[0, -1].astype(int)
    assert bright.sum() > 300 > dark.sum()  # viridis: yellow above, dark violet below
    assert (picture[-1, -1] == picture[0, 0]).all() and (picture[-1, 0] != picture[0, -1]).any()
    red, blue = picture_of(tmp_path, second["kernel_pictures/signed.path"])[[1, 0], [1, 1]].astype(
        int
    )
    assert red[0] > red[2] and blue[2] > blue[0]


def test_figures_are_recorded_as_they_are(tmp_path: Path) -> None:
    rng = np.random.default_rng()
    sizes = {"shares": (12, 20, 3), "exponents": (7, 9, 3)}
    pixels = {name: rng.integers(0, 256, size, dtype=np.uint8) for name, size in sizes.items()}
    files = {name: tmp_path / f"{name}.png" for name in pixels}
    for name, file in files.items():
        Image.fromarray(pixels[name]).save(file)
    log = WandbLog("offline", tmp_path / "w", name="verdict", group="g", config={}, job="verdict")
    assert log.recording
    log.log_figures(files)
    log.finish()
    assert not log.recording
    log.log_figures(files)  # nothing, after the end
    log.conclude({"a": 1.0}, {})
    rows = wandb_record.history(tmp_path / "w")
    assert [row["figures.caption"] for row in rows] == list(pixels)
    for row, drawn in zip(rows, pixels.values(), strict=True):
        assert (picture_of(tmp_path / "w", row["figures.path"]) == drawn).all()
    assert "a" not in wandb_record.summary(tmp_path / "w")


def picture_of(folder: Path, path: str) -> np.ndarray:
    (file,) = folder.rglob(Path(path).name)
    return np.asarray(Image.open(file))


def test_several_records_are_open_at_once(tmp_path: Path) -> None:
    logs = [
        WandbLog("offline", tmp_path / str(i), name=f"seed={i}", group="g", config={})
        for i in range(3)
    ]
    for step in range(4):
        for i, log in enumerate(logs):
            log.log({"step": step, "time": float(step), "loss": 10.0 * i + step})
    for log in logs:
        log.finish()
    for i in range(3):
        losses = [entries["loss"] for entries in wandb_record.history(tmp_path / str(i))]
        assert losses == [10.0 * i + step for step in range(4)]


def test_numbers_that_are_not_finite_do_no_harm(tmp_path: Path) -> None:
    log = WandbLog("offline", tmp_path, name="n", group="g", config={})
    log.log({"step": 1, "time": 0.1, "loss": math.nan, "kernel_growth": [math.inf, -1.0, math.nan]})
    log.log({"step": 2, "time": 0.2, "loss": 1.0, "kernel_growth": []})
    log.log_kernel_picture("kernel", np.full((2, 2), math.nan), 0.1)
    log.finish()
    assert wandb_record.history(tmp_path)[1]["loss"] == 1.0
