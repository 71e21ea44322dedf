"""neural-tangents: its three implementations of the empirical kernel, compiled, block by block."""

# JAX lives in an environment of its own.
# pyright: reportMissingImports=false

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.ntk_peers.cases import Case


def prepare(
    stored: dict[str, np.ndarray], case: Case, config: dict[str, Any], device: str
) -> Callable[[], np.ndarray]:
    """Blocks of the lower half, each by one compiled function."""
    import jax
    import neural_tangents as nt

    from benchmarks.ntk_peers.jax_models import load

    if device == "cuda" and jax.default_backend() != "gpu":
        raise NotImplementedError("this jaxlib has no CUDA support")
    forward, params, x = load(case, stored)
    full = case.output == "full"
    function = jax.jit(
        nt.empirical_ntk_fn(
            forward,
            trace_axes=() if full else (-1,),
            vmap_axes=0,
            implementation=config["implementation"],
        )
    )
    size, n = config["samples"], case.n
    # Compiled before the clock starts; the samples are a multiple of every block.
    function = function.lower(x[:size], x[:size], params).compile()
    # Its trace is a mean over the outputs.
    scale = 1 if full else case.classes

    def kernel() -> np.ndarray:
        whole = np.empty((n, n, *(2 * (case.classes,) if full else ())), np.float32)
        for first in range(0, n, size):
            for start in range(0, first + 1, size):
                left, right = x[first : first + size], x[start : start + size]
                part = np.asarray(function(left, right, params)) * scale
                whole[first : first + size, start : start + size] = part
                across = part.swapaxes(0, 1)
                whole[start : start + size, first : first + size] = (
                    across.swapaxes(2, 3) if full else across
                )
        return whole

    return kernel
