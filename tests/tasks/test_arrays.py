from pathlib import Path

import numpy as np
import pytest
import torch

from ntkscale.tasks import Task, arrays, centred_one_hot


def save(path: Path, **values: np.ndarray) -> Path:
    np.savez(path / "mine.npz", allow_pickle=True, **values)
    return path / "mine.npz"


def test_values_are_taken_as_they_are(tmp_path: Path) -> None:
    x, y = np.random.randn(9, 4, 2), np.random.randn(9, 3)  # noqa: NPY002
    task = arrays(save(tmp_path, inputs=x, targets=y), dtype=torch.float64)
    assert task.name == "mine"
    assert np.array_equal(task.inputs.numpy(), x)
    assert np.array_equal(task.targets.numpy(), y)
    column = arrays(save(tmp_path, inputs=x, targets=y[:, 0]))
    assert column.targets.shape == (9, 1)


def test_split_is_disjoint_and_seeded(tmp_path: Path) -> None:
    x = np.arange(40.0).reshape(20, 2)
    path = save(tmp_path, inputs=x, targets=x[:, 0])
    task = arrays(path, test_size=6, seed=1)
    assert task.test_inputs is not None
    firsts = [*task.inputs[:, 0].tolist(), *task.test_inputs[:, 0].tolist()]
    assert sorted(firsts) == x[:, 0].tolist()
    assert torch.equal(task.targets[:, 0], task.inputs[:, 0])
    assert torch.equal(task.inputs, arrays(path, test_size=6, seed=1).inputs)
    assert not torch.equal(task.inputs, arrays(path, test_size=6, seed=2).inputs)
    assert arrays(path, size=5, test_size=3).inputs.shape == (5, 2)


@pytest.mark.parametrize("one_hot", [True, False])
def test_classes(tmp_path: Path, one_hot: bool) -> None:
    labels = np.array([2, 0, 1, 1, 2])
    targets = np.eye(3)[labels] if one_hot else labels
    path = save(tmp_path, inputs=np.ones((5, 1)), targets=targets)
    task = arrays(path, loss="cross-entropy", dtype=torch.float64)
    assert task.labels is not None
    assert task.labels.tolist() == labels.tolist()
    assert np.allclose(task.targets.numpy(), np.eye(3)[labels] - 1 / 3)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"inputs": np.ones((3, 2))}, r"has no array 'targets' \(it has inputs\)"),
        ({"inputs": np.ones((3, 2)), "targets": np.ones(4)}, "do not fit"),
        ({"inputs": np.ones(3), "targets": np.ones(3)}, "do not fit"),
        ({"inputs": np.ones((3, 2)), "targets": np.ones((3, 1, 1))}, "do not fit"),
        ({"inputs": np.ones((0, 2)), "targets": np.ones(0)}, "inputs in .* is empty"),
        ({"inputs": np.ones((2, 2)) * 1j, "targets": np.ones(2)}, "give real numbers"),
        ({"inputs": np.array([["a"]]), "targets": np.ones(1)}, "give real numbers"),
        ({"inputs": np.array([[object()]]), "targets": np.ones(1)}, "plain arrays"),
        (
            {"inputs": np.array([[0, 1], [2, np.nan], [np.inf, 0]]), "targets": np.ones(3)},
            r"inputs in .* holds nan at index \[1, 1\] \(2 such values\)",
        ),
        (
            {"inputs": np.ones((2, 2)), "targets": np.array([0, -np.inf])},
            r"targets in .* holds -inf at index \[1\]",
        ),
    ],
)
def test_bad_arrays_are_one_sentence(tmp_path: Path, values: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        arrays(save(tmp_path, **values))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("targets", [[0.5, 1.0], [-1, 0], [[1, 1], [0, 1]], [[2, 0], [0, 1]]])
def test_targets_that_are_no_classes(tmp_path: Path, targets: list) -> None:
    path = save(tmp_path, inputs=np.ones((2, 2)), targets=np.array(targets))
    with pytest.raises(ValueError, match="as cross-entropy needs"):
        arrays(path, loss="cross-entropy")


def test_bad_files_and_sizes(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no file"):
        arrays(tmp_path / "absent.npz")
    np.save(tmp_path / "one.npy", np.ones(3))
    (tmp_path / "text.npz").write_text("hello")
    (tmp_path / "empty.npz").write_bytes(b"")
    whole = save(tmp_path, inputs=np.ones((50, 2)), targets=np.ones(50))
    data = whole.read_bytes()
    (tmp_path / "cut.npz").write_bytes(data[:300])
    (tmp_path / "flipped.npz").write_bytes(data[:200] + bytes([data[200] ^ 1]) + data[201:])
    for name in ("one.npy", "text.npz", "empty.npz", "cut.npz", "flipped.npz"):
        with pytest.raises(ValueError, match="is not an npz of plain arrays"):
            arrays(tmp_path / name)
    for size, test_size in ((51, 0), (0, 0), (None, 50), (None, -1)):
        with pytest.raises(ValueError, match="do not fit into the 50 samples"):
            arrays(whole, size=size, test_size=test_size)


def test_task_checks_and_moves() -> None:
    x, y = torch.randn(4, 2), torch.randn(4, 1)
    task = Task("t", x, y, labels=torch.arange(4), tail=0.5)
    moved = task.to(dtype=torch.float64)
    assert moved.labels is not None
    assert (moved.inputs.dtype, moved.labels.dtype) == (torch.float64, torch.int64)
    assert (moved.tail, moved.name) == (0.5, "t")
    with pytest.raises(ValueError, match="do not fit"):
        Task("t", x, y[:3])
    with pytest.raises(ValueError, match="do not fit"):
        Task("t", x, y[:, 0])
    with pytest.raises(ValueError, match="needs class labels"):
        Task("t", x, y, loss="cross-entropy")
    with pytest.raises(ValueError, match="belong together"):
        Task("t", x, y, test_inputs=x)
    with pytest.raises(ValueError, match="outside 0"):
        centred_one_hot(torch.tensor([0, 3]), 3)
