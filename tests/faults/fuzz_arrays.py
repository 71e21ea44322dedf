"""Formats of arrays: user data, images, tiled kernels, theory solutions."""

import gzip
import io
import json
import math
import struct
import tempfile
import warnings
import zipfile
from functools import cache
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch

from ntkscale.ntk.tiles import verify
from ntkscale.tasks import arrays
from ntkscale.tasks.cifar5m import read_cifar5m
from ntkscale.tasks.idx import read_idx
from ntkscale.theory.dmft import Solution, solve_linear
from tests.faults import fuzz_headers as headers
from tests.faults import fuzz_mutations as mutations
from tests.faults.fuzz_formats import Files, Format, content
from tests.ntk.tiles_problem import Job

SAID = (ValueError, OSError)
_ARRAYS: tuple[dict[str, Any], ...] = (
    {},
    {"loss": "cross-entropy"},
    {"size": 5, "test_size": 3},
    {"dtype": torch.float64},
)


def npy_bytes(values: np.ndarray) -> bytes:
    """As `numpy.save` writes it."""
    file = io.BytesIO()
    np.lib.format.write_array(file, values, version=(1, 0))
    return file.getvalue()


@cache
def _bomb() -> bytes:
    """An npy file of 64 MB zeros, which deflate makes small."""
    head = "{'descr': '<f8', 'fortran_order': False, 'shape': (10, 838860), }".ljust(118) + "\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(head)) + head.encode() + bytes(67_108_800)


@cache
def _packed_bomb() -> bytes:
    return _zipped({"inputs.npy": _bomb(), "targets.npy": npy_bytes(np.arange(10.0))})


def _zipped(members: Files, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a name twice
        with zipfile.ZipFile(file, "w", method) as archive:
            for name, member in members.items():
                archive.writestr(zipfile.ZipInfo(name.rstrip("+")), member, method)
    return file.getvalue()


def _patched(rng: Random, packed: bytes) -> bytes:
    """A zip archive with wrong sizes, flags or methods in its directory, or damaged bytes."""
    found = bytearray(packed)
    start = found.find(b"PK\1\2") if rng.random() < 0.7 else 0
    for _ in range(rng.choice((1, 1, 2))):
        # Of a directory entry: flags, method, checksum, sizes, name, extra, offset.
        place = start + rng.choice((8, 10, 16, 20, 24, 28, 30, 42, 46))
        number = rng.choice((0, 1, 8, 9, 12, 14, 99, 0x800, 2**16 - 1, 2**31, 2**32 - 1))
        size = 4 if place - start in (16, 20, 24, 42) else 2
        found[place : place + size] = (number % 2 ** (8 * size)).to_bytes(size, "little")
    return bytes(found) if rng.random() < 0.8 else mutations.damage_bytes(rng, packed)


def _damage_zip(rng: Random, members: Files) -> bytes:
    if rng.random() < 0.5:
        name = rng.choice(list(members))
        members[name] = headers.damage_npy(rng, members[name])
    if rng.random() < 0.1:
        name = rng.choice(list(members))
        members[rng.choice(_NAMES)] = members.pop(name) if rng.random() < 0.5 else members[name]
    methods = (zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_DEFLATED)
    rare = (zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2)
    packed = _zipped(members, rng.choice(methods if rng.random() < 0.95 else rare))
    return _patched(rng, packed) if rng.random() < 0.4 else packed


_NAMES = (
    *("../inputs.npy", "/inputs.npy", "inputs", "inputs.npy+", "targets.npy+", "X.npy", "Y1.npy"),
    *("\x1b[2J.npy", "x" * 300, "a\nb.npy", "inputs.npy/", "C:\\inputs.npy"),
)


def _npz_files() -> Files:
    x, labels = np.arange(40.0).reshape(20, 2) / 7, np.arange(20) % 3
    return {"mine.npz": b"", "inputs": npy_bytes(x), "targets": npy_bytes(labels)}


def _damage_npz(rng: Random, files: Files) -> None:
    inputs, targets = files.pop("inputs"), files.pop("targets")
    if rng.random() < 0.002:
        files["mine.npz"] = _packed_bomb()
    elif rng.random() < 0.15:
        values: Any = rng.choice((
            np.array([[1, np.nan]] * 20), np.full((20, 2), 1e300), np.full((20, 2), np.inf),
            np.ones((20, 2), np.longdouble) * np.longdouble(10) ** 4000, np.ones((20, 2), bool),
            np.full((20, 1), 2**63, np.uint64), np.full(20, 10**12), np.full(20, 0.5),
            np.ones(20, bool),
            np.zeros((20, 0)), np.ones((20, 2, 3), np.float16), np.eye(20), np.ones((20, 2), "S1"),
        ))  # fmt: skip
        pair = [inputs, targets]
        pair[rng.randrange(2)] = npy_bytes(values)
        files["mine.npz"] = _zipped({"inputs.npy": pair[0], "targets.npy": pair[1]})
    else:
        files["mine.npz"] = _damage_zip(rng, {"inputs.npy": inputs, "targets.npy": targets})


def _read_npz(place: Path, outside: Path) -> None:
    path = place / "mine.npz"
    # Which question is asked follows from the file, so that it can be asked again.
    options = _ARRAYS[path.stat().st_size % len(_ARRAYS) if path.is_file() else 0]
    task = arrays(path, **options)
    with warnings.catch_warnings(), np.load(path, allow_pickle=False) as archive:
        warnings.simplefilter("ignore")  # a header as Python 2 wrote it
        x, y = archive["inputs.npy"], archive["targets.npy"]
    assert torch.isfinite(task.inputs).all() and torch.isfinite(task.targets).all()
    if not options.get("size"):
        expected = torch.from_numpy(x.astype(np.float64)).to(task.inputs.dtype)
        assert torch.equal(task.inputs, expected) and len(task.targets) == len(y)
        if task.labels is not None and y.ndim == 1:
            assert task.labels.tolist() == y.astype(np.int64).tolist()


def _idx_files() -> Files:
    return {"images": struct.pack(">4B3I", 0, 0, 8, 3, 4, 3, 2) + bytes(range(24))}


def _damage_idx(rng: Random, files: Files) -> None:
    raw = bytearray(files["images"])
    if rng.random() < 0.6:
        raw[rng.randrange(4)] = rng.choice((0, 1, 3, 8, 9, 13, 31, 64, 255))
    if rng.random() < 0.6:
        number = rng.choice((0, 1, 2, 3, 4, 24, 2**16, 2**31, 2**32 - 1))
        place = rng.choice((4, 8, 12))
        raw[place : place + 4] = struct.pack(">I", number)
    content = bytes(raw) if rng.random() < 0.6 else mutations.damage_bytes(rng, bytes(raw))
    if rng.random() < 0.5:
        content = gzip.compress(content, 1)
        content = content if rng.random() < 0.4 else mutations.damage_bytes(rng, content)
    if rng.random() < 0.002:  # 64 MB, and a header that announces four times as much, or this
        shape = (rng.choice((256, 64)), 1 << 10, 1 << 10)
        content = gzip.compress(struct.pack(">4B3I", 0, 0, 8, 3, *shape) + bytes(64 << 20), 1)
    files["images"] = content


def _read_idx(place: Path, outside: Path) -> None:
    found = read_idx(place / "images")
    raw = (place / "images").read_bytes()
    raw = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    axes = raw[3]
    assert list(found.shape) == list(struct.unpack(f">{axes}I", raw[4 : 4 + 4 * axes]))
    assert found.tobytes() == raw[4 + 4 * axes :]


@cache
def _cifar_files() -> Files:
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (12, 32, 32, 3)).astype(np.uint8)
    members = {"X.npy": npy_bytes(pixels), "Y.npy": npy_bytes(np.arange(12) % 10)}
    return {"part1.npz": _zipped(members, zipfile.ZIP_STORED), **members}


def _damage_cifar(rng: Random, files: Files) -> None:
    members = {name: files.pop(name) for name in ("X.npy", "Y.npy")}
    files["part10.npz"] = _damage_zip(rng, members)


def _read_cifar(place: Path, outside: Path) -> None:
    size = (None, 1, 13, 500_001)[(place / "part10.npz").stat().st_size % 4]
    x, y, test_x, test_y = read_cifar5m(place, size)
    assert x.dtype == test_x.dtype == np.uint8 and x.shape[1:] == test_x.shape[1:] == (3, 32, 32)
    assert len(x) == len(y) and len(test_x) == len(test_y) and x.flags.c_contiguous
    assert all(0 <= label <= 9 for label in [*y.tolist(), *test_y.tolist()])


@cache
def _tile_files() -> Files:
    with tempfile.TemporaryDirectory() as root:
        Job().run(Path(root) / "k.npy")
        return content(Path(root))


_MANIFEST = "k.npy.manifest.json"


def _damage_tiles(rng: Random, files: Files) -> None:
    if rng.random() < 0.6:
        files[_MANIFEST] = mutations.damage_text(rng, files[_MANIFEST])
    else:
        files["k.npy"] = headers.damage_npy(rng, files["k.npy"])


def _read_tiles(place: Path, outside: Path) -> None:
    damaged = verify(place / "k.npy")
    if damaged and (place / "k.npy").stat().st_size < len(_tile_files()["k.npy"]):
        return  # cut short, and said to be
    said = json.loads((place / _MANIFEST).read_bytes())
    table, block, found = said["sha256"], said["block"], np.load(place / "k.npy", mmap_mode="r")
    assert list(found.shape) == said["shape"] and len(table) == math.ceil(found.shape[0] / block)
    for i, row in enumerate(table):
        for j, checksum in enumerate(row):
            region = tuple(slice(k * block, (k + 1) * block) for k in (i, j))
            listed = any(
                region[0].start == r.start and region[1].start == c.start for r, c in damaged
            )
            own = sha256(np.ascontiguousarray(found[region]).tobytes()).hexdigest()
            assert (own == checksum) != listed


def _damage_tile_job(rng: Random, files: Files) -> None:
    """What a kill may leave, and what it never leaves."""
    if rng.random() < 0.6:
        manifest = json.loads(files.pop(_MANIFEST))
        table = manifest.pop("sha256")
        lines = [json.dumps(manifest)]
        for i in range(len(table)):
            for j in range(i + 1):
                sums = [table[i][j]] if i == j else [table[i][j], table[j][i]]
                lines.append(json.dumps({"block": [i, j], "sha256": sums}))
        journal = ("\n".join(lines) + "\n").encode()
        rank = rng.choice(("0", "1", "7", "99999999999999999999", "²"))
        files["k.npy.partial"] = files.pop("k.npy")
        files[f"k.npy.partial.{rank}.jsonl"] = mutations.damage_text(rng, journal)
        if rng.random() < 0.3:
            files["k.npy.partial"] = mutations.damage_bytes(rng, files["k.npy.partial"])
    else:
        _damage_tiles(rng, files)


def _run_tile_job(place: Path, outside: Path) -> None:
    job = Job()
    found = job.run(place / "k.npy")
    assert np.array_equal(found, job.expected())
    del found
    assert verify(place / "k.npy") == []


@cache
def _solution_files() -> Files:
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with tempfile.TemporaryDirectory() as root:
        solved = solve_linear(
            x, torch.tensor([1.0, -1.0, 0.5]), depth=2, gamma0=1.0, learning_rate=0.1, steps=3
        )
        solved.save(Path(root) / "solution.safetensors")
        return content(Path(root))


def _damage_solution_header(rng: Random, metadata: dict[str, Any]) -> None:
    text = mutations.damage_text(rng, metadata["solution"].encode())
    metadata["solution"] = text.decode("utf-8", "replace")


def _damage_solution(rng: Random, files: Files) -> None:
    name = "solution.safetensors"
    files[name] = headers.damage_safetensors(rng, files[name], _damage_solution_header)


def _read_solution(place: Path, outside: Path) -> None:
    found = Solution.load(place / "solution.safetensors")
    assert isinstance(found, Solution) and all(phi.ndim for phi in found.phi)


ARRAY_FORMATS = [
    Format("own data (.npz)", _npz_files, _damage_npz, _read_npz, SAID, ("mine.npz",)),
    Format("idx images", _idx_files, _damage_idx, _read_idx, SAID, ("images",)),
    Format("CIFAR-5M", _cifar_files, _damage_cifar, _read_cifar, SAID),
    Format("tiled kernel", _tile_files, _damage_tiles, _read_tiles, SAID, ("k.npy", _MANIFEST)),
    Format(
        "tiled kernel goes on", _tile_files, _damage_tile_job, _run_tile_job, SAID,
        ("k.npy.partial", "k.npy.lock", _MANIFEST, "k.npy.partial.0.jsonl", f"{_MANIFEST}.tmp",
         "k.npy.partial.0.jsonl.tmp"),
        writes=True,
    ),
    Format(
        "theory solution", _solution_files, _damage_solution, _read_solution, SAID,
        ("solution.safetensors",),
    ),
]  # fmt: skip
