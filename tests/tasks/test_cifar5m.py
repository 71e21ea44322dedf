"""A tiny folder of files like those that CIFAR-5M comes in."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from ntkscale.tasks import images
from ntkscale.tasks.cifar5m import read_cifar5m


def small_cifar5m(folder: Path, names: list[str], save: Callable[..., None]) -> list[np.ndarray]:
    rng = np.random.default_rng()
    folder.mkdir()
    parts = []
    for i, count in enumerate((30, 24, 36)):
        pixels = rng.integers(0, 256, (count, 32, 32, 3)).astype(np.uint8)
        parts.append(pixels)
        x, y = (name.format(i) for name in names)
        # The label can be read off the first pixel.
        save(folder / f"cifar5m_part{i + 8}.npz", **{x: pixels, y: pixels[:, 0, 0, 0] % 10})
    return parts


@pytest.mark.parametrize("names", [["X", "Y"], ["X{}", "Y{}"]], ids=["plain", "numbered"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_images_come_in_the_order_of_the_files(
    tmp_path: Path, names: list[str], save: Callable[..., None]
) -> None:
    folder = tmp_path / "cifar5m"
    first, second, last = small_cifar5m(folder, names, save)
    x, y, test_x, test_y = read_cifar5m(folder, None)
    # part10 comes last; a sixth of it is the test set, and not among the others.
    everything = np.concatenate([first, second, last[6:]])
    assert np.array_equal(x, np.moveaxis(everything, -1, 1))
    assert np.array_equal(test_x, np.moveaxis(last[:6], -1, 1))
    assert np.array_equal(y, x[:, 0, 0, 0] % 10)
    assert np.array_equal(test_y, test_x[:, 0, 0, 0] % 10)
    some, labels, *_ = read_cifar5m(folder, 41)
    assert np.array_equal(some, x[:41])
    assert np.array_equal(labels, y[:41])


def test_it_is_a_task_like_the_others(tmp_path: Path) -> None:
    folder = tmp_path / "cifar5m"
    small_cifar5m(folder, ["X", "Y"], np.savez)
    task = images("cifar5m", data_dir=folder, size=50, dtype=torch.float64)
    assert task.inputs.shape == (50, 3, 32, 32)
    assert task.test_inputs is not None
    assert task.test_inputs.shape == (6, 3, 32, 32)
    channels = task.inputs.transpose(0, 1).flatten(1)
    torch.testing.assert_close(channels.mean(1), torch.zeros(3).double(), atol=1e-9, rtol=0)


def test_wrong_folders_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match="cifar5m was not found in"):
        images("cifar5m", data_dir=tmp_path)
    folder = tmp_path / "cifar5m"
    small_cifar5m(folder, ["X", "Y"], np.savez)
    with pytest.raises(ValueError, match="size must be from 1 to 84, got 85"):
        images("cifar5m", data_dir=folder, size=85)
    monkeypatch.setattr("ntkscale.tasks.cifar5m.MOST", 80)
    with pytest.raises(ValueError, match="say how many to read"):
        images("cifar5m", data_dir=folder)
    path = folder / "cifar5m_part9.npz"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"part9\.npz is damaged"):
        images("cifar5m", data_dir=folder, size=10)
    np.savez(path, X=np.zeros((4, 8, 8, 3), np.uint8), Y=np.zeros(4))
    with pytest.raises(ValueError, match="not CIFAR-5M"):
        images("cifar5m", data_dir=folder, size=10)
