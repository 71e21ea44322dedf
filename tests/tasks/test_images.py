import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from ntkscale.tasks import DataSet, images
from ntkscale.tasks.idx import read_idx

DEBIAN = Path("/usr/share/datasets/fashion-mnist")


def write_idx(path: Path, values: np.ndarray) -> None:
    header = struct.pack(">BBBB", 0, 0, 8, values.ndim) + struct.pack(
        f">{values.ndim}I", *values.shape
    )
    data = header + values.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def small_mnist(folder: Path, seed: int, suffix: str = "") -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {
        "train-images-idx3-ubyte": rng.integers(0, 256, (120, 6, 5)),
        "train-labels-idx1-ubyte": rng.permutation(np.arange(120) % 10),
        "t10k-images-idx3-ubyte": rng.integers(0, 256, (40, 6, 5)),
        "t10k-labels-idx1-ubyte": rng.permutation(np.arange(40) % 10),
    }
    for name, values in arrays.items():
        write_idx(folder / f"{name}{suffix}", values)
    return arrays


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("nested", [True, False])
def test_folder_of_idx_files(tmp_path: Path, name: DataSet, suffix: str, nested: bool) -> None:
    inner = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}[name]
    arrays = small_mnist(tmp_path / inner / "raw" if nested else tmp_path, 3, suffix)
    task = images(name, data_dir=tmp_path, dtype=torch.float64)
    pixels = arrays["train-images-idx3-ubyte"].astype(float)
    mean, std = pixels.mean(), pixels.std()
    assert task.inputs.shape == (120, 1, 6, 5)
    expected = {
        (p.tobytes()): int(label)
        for p, label in zip(
            np.round((pixels - mean) / std, 6), arrays["train-labels-idx1-ubyte"], strict=True
        )
    }
    assert task.labels is not None
    for x, label in zip(task.inputs, task.labels, strict=True):
        assert expected[np.round(x[0].numpy(), 6).tobytes()] == label
    assert task.inputs.square().mean().item() == pytest.approx(1.0)
    assert task.test_inputs is not None
    assert task.test_inputs.shape == (40, 1, 6, 5)


def test_digits_and_balanced_nested_subsets() -> None:
    whole = images("digits")
    assert whole.inputs.shape == (1437, 1, 8, 8)
    assert whole.inputs.square().mean().item() == pytest.approx(1.0, abs=1e-5)
    assert whole.test_inputs is not None
    assert whole.test_inputs.shape == (360, 1, 8, 8)
    size = int(torch.randint(20, 300, ()))
    small = images("digits", size=size, test_size=0, seed=2)
    assert small.labels is not None
    counts = small.labels.bincount(minlength=10)
    assert counts.max() - counts.min() <= 1
    larger = images("digits", size=size + 37, seed=2)
    assert torch.equal(larger.inputs[:size], small.inputs)
    other = images("digits", size=size, seed=3)
    assert not torch.equal(other.inputs, small.inputs)
    assert small.test_inputs is None
    assert small.test_targets is None
    # The same sample is the same input in every subset.
    rows = {x.numpy().tobytes() for x in whole.inputs}
    assert all(x.numpy().tobytes() in rows for x in small.inputs)


def test_targets_of_classes() -> None:
    task = images("digits", size=50, dtype=torch.float64)
    assert task.labels is not None
    expected = torch.eye(10, dtype=torch.float64)[task.labels] - 0.1
    torch.testing.assert_close(task.targets, expected)
    assert task.outputs == 10

    pair = images("digits", size=30, classes=(7, 3))
    assert pair.labels is not None
    assert pair.targets.shape == (30, 1)
    assert torch.equal(pair.targets[:, 0], 2.0 * pair.labels - 1)
    swapped = images("digits", size=30, classes=(3, 7))
    assert torch.equal(swapped.inputs, pair.inputs)
    assert torch.equal(swapped.targets, -pair.targets)
    # The first class named is label 0: its samples are the sevens of the whole set.
    whole = images("digits")
    assert whole.labels is not None
    sevens = {x.numpy().tobytes() for x in whole.inputs[whole.labels == 7]}
    assert all(
        (x.numpy().tobytes() in sevens) == (y == 0)
        for x, y in zip(pair.inputs, pair.labels, strict=True)
    )

    entropy = images("digits", size=30, classes=(3, 7), loss="cross-entropy")
    assert entropy.targets.shape == (30, 2)
    assert torch.equal(entropy.targets.sum(1), torch.zeros(30))


@pytest.mark.parametrize(("name", "classes"), [("cifar10", 10), ("cifar100", 100)])
def test_cifar_by_torchvision(
    name: DataSet, classes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torchvision.datasets

    rng = np.random.default_rng(0)

    class Small:
        base_folder = "cifar-10-batches-py"

        def __init__(self, root: Path, train: bool = True, download: bool = False) -> None:
            (Path(root) / self.base_folder).mkdir(exist_ok=True)
            count = 4 * classes if train else 2 * classes
            self.data = rng.integers(0, 256, (count, 32, 32, 3)).astype(np.uint8)
            self.data[..., 1] //= 2
            self.targets = [i % classes for i in range(count)]

    monkeypatch.setattr(torchvision.datasets, name.upper(), Small)
    with pytest.raises(FileNotFoundError, match="download=True"):
        images(name, data_dir=tmp_path)
    task = images(name, data_dir=tmp_path, download=True, size=20)
    assert task.outputs == classes
    assert task.inputs.shape == (20, 3, 32, 32)
    channels = images(name, data_dir=tmp_path).inputs.transpose(0, 1).flatten(1)
    torch.testing.assert_close(channels.mean(1), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(channels.std(1, correction=0), torch.ones(3))


def test_failed_download_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision.datasets

    def fails(root: Path, download: bool) -> None:
        raise RuntimeError("no route to host")

    monkeypatch.setattr(torchvision.datasets, "MNIST", fails)
    with pytest.raises(OSError, match=r"downloading mnist into .* failed \(no route to host\)"):
        images("mnist", data_dir=tmp_path, download=True)


def test_missing_data_set_names_three_ways(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        images("fashion-mnist", data_dir=tmp_path / "nowhere")
    message = str(caught.value)
    for words in ("apt install dataset-fashion-mnist", "data_dir", "download=True"):
        assert words in message
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="the package dataset-fashion-mnist is not there")
def test_fashion_mnist_of_debian() -> None:
    task = images("fashion-mnist", size=200, test_size=100)
    assert task.inputs.shape == (200, 1, 28, 28)
    assert task.inputs.square().mean().item() == pytest.approx(1.0, abs=0.15)
    raw = read_idx(DEBIAN / "t10k-labels-idx1-ubyte.gz")
    assert np.bincount(raw).tolist() == [1000] * 10


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "imagenet"}, "unknown data set 'imagenet': choose digits"),
        ({"size": 5000}, "size must be from 1 to 1437, got 5000"),
        ({"size": 0}, "size must be"),
        ({"test_size": -1}, "test_size must be from 0 to 360"),
        ({"classes": (3, 3)}, "two different ones"),
        ({"classes": (3, 10)}, "two different ones"),
        ({"loss": "hinge"}, "unknown loss"),
    ],
)
def test_bad_options_are_one_sentence(options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        images(**{"name": "digits", **options})


def test_damaged_idx_files(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_idx(path, np.arange(24).reshape(2, 3, 4))
    assert read_idx(path).tolist() == np.arange(24).reshape(2, 3, 4).tolist()
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole + b"x", whole[:9], gzip.compress(whole)[:-9]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="is damaged"):
            read_idx(path)
    for other in (b"", b"PK", b"\0\0\x0d\x01\0\0\0\0"):
        path.write_bytes(other)
        with pytest.raises(ValueError, match="is not an idx file"):
            read_idx(path)


@pytest.mark.parametrize("scale", ["standard", "pixels"])
def test_scales_differ_by_one_shift_and_one_factor_alone(tmp_path: Path, scale: str) -> None:
    arrays = small_mnist(tmp_path, 5)
    task = images("mnist", data_dir=tmp_path, size=70, scale=scale, dtype=torch.float64)  # pyright: ignore[reportArgumentType]
    pixels = arrays["train-images-idx3-ubyte"].astype(float)
    back = task.inputs[:, 0] * (pixels.std() if scale == "standard" else 255.0)
    back = back + (pixels.mean() if scale == "standard" else 0.0)
    grey = back.round() + 0.0  # no negative zeros
    torch.testing.assert_close(back, grey, rtol=0, atol=1e-9)
    known = {image.tobytes() for image in pixels}
    assert all(image.numpy().tobytes() in known for image in grey)


def test_pixels_of_digits_reach_from_black_to_white() -> None:
    task = images("digits", scale="pixels")
    assert (float(task.inputs.min()), float(task.inputs.max())) == (0.0, 1.0)


def test_an_unknown_scale_is_refused() -> None:
    with pytest.raises(ValueError, match="standard or pixels"):
        images("digits", scale="bytes")  # pyright: ignore[reportArgumentType]
