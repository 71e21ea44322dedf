"""Who is measured: the project and its peers, the environment of each and what it may choose.

Plain Python alone, so that every environment can read it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.ntk_peers.cases import Case, row_bytes

Config = dict[str, Any]


@dataclass(frozen=True)
class Contender:
    """One way to the kernel.

    Attributes:
        adapter: module of this folder that calls it.
        function: the adapter's function that makes the timed call.
        environment: folder of its virtual environment, in the root of the repository.
        distributions: packages whose versions are printed, its own first.
        configs: the choices it is tuned over, for a case and a memory limit.
        compiles: its first call compiles; that time is left out.
    """

    adapter: str
    function: str
    environment: str
    distributions: tuple[str, ...]
    configs: Callable[[Case, int], list[Config]]
    compiles: bool = False


def block_sizes(case: Case, memory: int, *, outputs: int, count: int = 4) -> list[int]:
    """At least four sample counts of a block, the largest of which fits `memory` three times."""
    most = max(1, min(case.n, memory // (3 * outputs * row_bytes(case))))
    largest = 1 << (most.bit_length() - 1)
    sizes = [largest >> shift for shift in range(count) if largest >> shift]
    if case.n == most and case.n not in sizes:
        sizes.insert(0, case.n)
    return sizes


def _halves(case: Case, count: int = 4) -> list[int]:
    return [max(1, case.n >> shift) for shift in range(count)]


def _rows(case: Case, memory: int) -> list[Config]:
    """Blocks of Jacobian rows: of one output after the other where the trace allows it, of all."""
    together = [
        {"samples": size, "outputs": "all"}
        for size in block_sizes(case, memory, outputs=case.classes)
    ]
    if case.output == "full" or case.classes == 1:
        return together
    apart = [{"samples": size, "outputs": "one"} for size in block_sizes(case, memory, outputs=1)]
    return apart + together


def _products(case: Case, memory: int) -> list[Config]:
    """NTK-vector products: square blocks of samples."""
    # Each sample of the first side holds several times its rows, forward and backward.
    most = block_sizes(case, memory // 4, outputs=case.classes)[0]
    largest = min(64, 1 << (most.bit_length() - 1))
    return [{"samples": max(1, largest >> shift)} for shift in range(4)]


def _nngeometry(case: Case, memory: int) -> list[Config]:
    """Its Gram over batches of its loader; its Jacobian over blocks of samples."""
    gram = [{"method": "gram", "samples": size} for size in _halves(case)]
    return gram + [{"method": "jacobian", **config} for config in _rows(case, memory)]


def _asdl(case: Case, memory: int) -> list[Config]:
    """Hadamard products of layer Grams or per-sample gradients; rows or products for the full one.

    Its `empirical_direct_ntk` would be the one for the full kernel: in 0.1a5 it fails on any model.
    """
    if case.output == "full":
        rows = block_sizes(case, memory, outputs=case.classes)
        gradients = [{"method": "batch_gradient", "samples": size} for size in rows]
        return gradients + [{"method": "implicit", "samples": size} for size in _halves(case)]
    # It makes the gradients of a pair of blocks together.
    rows = block_sizes(case, memory // 2, outputs=1)
    return [
        *({"method": "class_wise_hadamard", "samples": size} for size in _halves(case)),
        *({"method": "class_wise_direct", "samples": size} for size in rows),
    ]


def _neural_tangents(case: Case, memory: int) -> list[Config]:
    """Structured derivatives over four blocks, the two other implementations over fewer."""
    structured = [size for size in (64, 16, 256, 1024) if size <= case.n]
    structured = structured if len(structured) > 3 else _halves(case)
    rows = block_sizes(case, memory, outputs=case.classes)
    return [
        *({"implementation": 3, "samples": size} for size in structured),
        *({"implementation": 1, "samples": size} for size in rows[:3]),
        *({"implementation": 2, "samples": size} for size in rows[-2:]),
    ]


PROJECT = "project"
CONTENDERS = {
    PROJECT: Contender(
        "project", "prepare", ".venv", ("ntkscale", "torch"), lambda case, memory: [{}]
    ),
    "torch.func-contraction": Contender(
        "torch_func", "prepare_contraction", ".venv-peers", ("torch",), _rows
    ),
    "torch.func-products": Contender(
        "torch_func", "prepare_products", ".venv-peers", ("torch",), _products
    ),
    "nngeometry": Contender(
        "nngeometry_peer", "prepare", ".venv-peers", ("nngeometry", "torch"), _nngeometry
    ),
    "asdl": Contender("asdl_peer", "prepare", ".venv-peers", ("asdfghjkl", "torch"), _asdl),
    "backpack": Contender(
        "backpack_peer", "prepare", ".venv-peers", ("backpack-for-pytorch", "torch"), _rows
    ),
    "neural-tangents": Contender(
        "neural_tangents_peer",
        "prepare",
        ".venv-jax",
        ("neural-tangents", "jax", "jaxlib"),
        _neural_tangents,
        compiles=True,
    ),
}
PEERS = [name for name in CONTENDERS if name != PROJECT]


def in_words(config: Config) -> str:
    """A configuration as it is printed."""
    return ", ".join(f"{key} {value}".replace("_", " ") for key, value in config.items()) or "auto"
