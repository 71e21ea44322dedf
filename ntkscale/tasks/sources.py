"""Where the raw images of each data set come from."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from ntkscale.tasks.cifar5m import read_cifar5m
from ntkscale.tasks.idx import read_idx

DataSet = Literal["digits", "fashion-mnist", "mnist", "cifar10", "cifar100", "cifar5m"]

_DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
_DEFAULT_FOLDER = Path("data")
WHITE = {"digits": 16}
"""The largest grey level where it is not 255."""
_DIGITS_TRAIN = 1437  # four fifths of 1,797; later samples come from other writers


@dataclass(frozen=True)
class RawImages:
    """A data set as it comes: uint8 images (n, C, H, W) and int64 class indices (n,)."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


def load_raw(
    name: str, data_dir: Path | None, download: bool, size: int | None = None
) -> RawImages:
    """Load a data set.

    Digits come with scikit-learn. The others are looked for in `data_dir`, or, if that is None, in
    Debian's folder (Fashion-MNIST) and in ``data``, where a download goes too.

    Args:
        name: one of `DataSet`.
        data_dir: folder with the data set's own files, or one that torchvision downloaded into.
        download: let torchvision fetch what is not there.
        size: training images that are needed. CIFAR-5M reads no more; the others come whole.

    Raises:
        ValueError: for an unknown name or a damaged file.
        FileNotFoundError: where the data set is missing, with the ways to get it.
        OSError: where a download fails.
    """
    if name not in get_args(DataSet):
        raise ValueError(f"unknown data set {name!r}: choose {', '.join(get_args(DataSet))}.")
    if name == "cifar5m":
        folder = data_dir if data_dir is not None else _DEFAULT_FOLDER / "cifar5m"
        return RawImages(*read_cifar5m(folder, size))
    return _LOADERS[name](data_dir, download)


def _digits(data_dir: Path | None, download: bool) -> RawImages:
    # Imported where used: scikit-learn takes a second that other tasks need not wait for.
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    images = bunch.images[:, None].astype(np.uint8)  # whole numbers, 0 to 16
    labels = bunch.target.astype(np.int64)
    cut = _DIGITS_TRAIN
    return RawImages(images[:cut], labels[:cut], images[cut:], labels[cut:])


def _fashion_mnist(data_dir: Path | None, download: bool) -> RawImages:
    return _idx_images("fashion-mnist", "FashionMNIST", data_dir, download)


def _mnist(data_dir: Path | None, download: bool) -> RawImages:
    return _idx_images("mnist", "MNIST", data_dir, download)


def _idx_images(name: str, class_name: str, data_dir: Path | None, download: bool) -> RawImages:
    roots = [data_dir] if data_dir is not None else [_DEFAULT_FOLDER]
    if data_dir is None and name == "fashion-mnist":
        roots.insert(0, _DEBIAN_FASHION_MNIST)
    folders = [folder for root in roots for folder in (root, root / class_name / "raw")]
    files = _find_idx(folders)
    if files is None and download:
        root = data_dir if data_dir is not None else _DEFAULT_FOLDER
        _download(name, class_name, root)
        files = _find_idx([root / class_name / "raw"])
    if files is None:
        raise _missing(name, folders)
    images, labels, test_images, test_labels = (read_idx(path) for path in files)
    for part, tags, path in ((images, labels, files[0]), (test_images, test_labels, files[2])):
        if part.ndim != 3 or tags.ndim != 1 or len(part) != len(tags):
            raise ValueError(
                f"{path} holds {part.shape} images for {tags.shape} labels: fetch it again."
            )
    return RawImages(
        images[:, None],
        labels.astype(np.int64),
        test_images[:, None],
        test_labels.astype(np.int64),
    )


def _find_idx(folders: list[Path]) -> list[Path] | None:
    stems = (
        "train-images-idx3-ubyte",
        "train-labels-idx1-ubyte",
        "t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte",
    )
    for folder in folders:
        found = [
            path
            for stem in stems
            for path in [
                next((p for p in (folder / stem, folder / f"{stem}.gz") if p.is_file()), None)
            ]
            if path is not None
        ]
        if len(found) == len(stems):
            return found
    return None


def _cifar10(data_dir: Path | None, download: bool) -> RawImages:
    return _cifar("cifar10", "CIFAR10", data_dir, download)


def _cifar100(data_dir: Path | None, download: bool) -> RawImages:
    return _cifar("cifar100", "CIFAR100", data_dir, download)


def _cifar(name: str, class_name: str, data_dir: Path | None, download: bool) -> RawImages:
    from torchvision import datasets

    kind = getattr(datasets, class_name)
    root = data_dir if data_dir is not None else _DEFAULT_FOLDER
    if not (root / kind.base_folder).is_dir():
        if not download:
            raise _missing(name, [root / kind.base_folder])
        _download(name, class_name, root)
    try:
        train, test = kind(root, train=True), kind(root, train=False)
    except RuntimeError as error:
        raise ValueError(f"{root / kind.base_folder} is damaged: fetch it again.") from error
    return RawImages(
        np.moveaxis(train.data, -1, 1),
        np.asarray(train.targets, dtype=np.int64),
        np.moveaxis(test.data, -1, 1),
        np.asarray(test.targets, dtype=np.int64),
    )


def _download(name: str, class_name: str, root: Path) -> None:
    from torchvision import datasets

    try:
        getattr(datasets, class_name)(root, download=True)
    except (OSError, RuntimeError) as error:
        raise OSError(
            f"downloading {name} into {root} failed ({error}): "
            "check the network, or give a folder that holds the files."
        ) from error


def _missing(name: str, folders: list[Path]) -> FileNotFoundError:
    folder = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}
    files = folder.get(name, "its four idx files")
    first = (
        "install Debian's package (apt install dataset-fashion-mnist)"
        if name == "fashion-mnist"
        else "convert your copy to an .npz of inputs and targets and name that file"
    )
    places = ", ".join(str(folder) for folder in folders)
    return FileNotFoundError(
        f"{name} was not found in {places}: {first}, give the folder that holds {files} "
        "(data_dir, --data-dir), or let torchvision fetch it (download=True, --download)."
    )


_LOADERS: dict[str, Callable[[Path | None, bool], RawImages]] = {
    "digits": _digits,
    "fashion-mnist": _fashion_mnist,
    "mnist": _mnist,
    "cifar10": _cifar10,
    "cifar100": _cifar100,
}
