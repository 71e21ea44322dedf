"""The same networks in JAX, on the weights that PyTorch drew; images lie channels last."""

# JAX lives in an environment of its own.
# pyright: reportMissingImports=false

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.ntk_peers.cases import Case

Params = dict[str, Any]


def load(case: Case, stored: dict[str, np.ndarray]) -> tuple[Callable[..., Any], Params, Any]:
    """Forward function, trainable parameters and inputs."""
    weights = {name: _layout(name, value) for name, value in stored.items() if name != "inputs"}
    buffers = ("running_mean", "running_var", "num_batches_tracked", "positions")
    params = {name: jnp.asarray(v) for name, v in weights.items() if not name.endswith(buffers)}
    fixed = {name: jnp.asarray(v) for name, v in weights.items() if name.endswith(buffers)}
    x = stored["inputs"]
    if x.ndim == 4:
        x = x.transpose(0, 2, 3, 1)
    forward = FORWARDS[case.kind]
    return lambda p, x: forward({**p, **fixed}, x, case.sizes), params, jnp.asarray(x)


def _layout(name: str, value: np.ndarray) -> np.ndarray:
    """Inputs before outputs, as JAX takes them; the kernel is the same."""
    if value.ndim == 4:
        return value.transpose(2, 3, 1, 0)
    return value.T if name.endswith("weight") and value.ndim == 2 else value


def _linear(p: Params, name: str, x: Any) -> Any:
    return x @ p[f"{name}.weight"] + p[f"{name}.bias"]


def _relu(x: Any) -> Any:
    return jnp.maximum(x, 0)


def _mlp(p: Params, x: Any, sizes: dict[str, Any]) -> Any:
    last = 2 * (len(sizes["widths"]) - 2)
    for layer in range(0, last, 2):
        x = _relu(_linear(p, str(layer), x))
    return _linear(p, str(last), x)


def _convolve(p: Params, name: str, x: Any, stride: int, padding: int) -> Any:
    return lax.conv_general_dilated(
        x,
        p[f"{name}.weight"],
        (stride, stride),
        [(padding, padding)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _cnn(p: Params, x: Any, sizes: dict[str, Any]) -> Any:
    count = len(sizes["channels"]) - 1
    for layer in range(0, 3 * count, 3):
        x = _relu(_convolve(p, str(layer), x, 1, 1) + p[f"{layer}.bias"])
        if layer < 3 * (count - 1):
            x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return _linear(p, str(3 * count + 1), x.mean((1, 2)))


def _batch_norm(p: Params, name: str, x: Any) -> Any:
    scale = p[f"{name}.weight"] * lax.rsqrt(p[f"{name}.running_var"] + 1e-5)
    return (x - p[f"{name}.running_mean"]) * scale + p[f"{name}.bias"]


def _resnet18(p: Params, x: Any, sizes: dict[str, Any]) -> Any:
    x = _relu(_batch_norm(p, "bn1", _convolve(p, "conv1", x, 1, 1)))
    for stage in range(1, 5):
        for block in range(2):
            name = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            y = _relu(_batch_norm(p, f"{name}.bn1", _convolve(p, f"{name}.conv1", x, stride, 1)))
            y = _batch_norm(p, f"{name}.bn2", _convolve(p, f"{name}.conv2", y, 1, 1))
            if f"{name}.downsample.0.weight" in p:
                x = _convolve(p, f"{name}.downsample.0", x, stride, 0)
                x = _batch_norm(p, f"{name}.downsample.1", x)
            x = _relu(x + y)
    return _linear(p, "fc", x.mean((1, 2)))


def _layer_norm(p: Params, name: str, x: Any) -> Any:
    centred = x - x.mean(-1, keepdims=True)
    scale = lax.rsqrt((centred * centred).mean(-1, keepdims=True) + 1e-5)
    return centred * scale * p[f"{name}.weight"] + p[f"{name}.bias"]


def _attention(p: Params, name: str, x: Any, heads: int) -> Any:
    n, tokens, width = x.shape
    qkv = _linear(p, f"{name}.qkv", x).reshape(n, tokens, 3, heads, width // heads)
    q, k, v = (qkv[:, :, i].transpose(0, 2, 1, 3) for i in range(3))
    weights = jax.nn.softmax(q @ k.swapaxes(-1, -2) / math.sqrt(width // heads), axis=-1)
    return _linear(p, f"{name}.out", (weights @ v).transpose(0, 2, 1, 3).reshape(n, tokens, width))


def _transformer(p: Params, x: Any, sizes: dict[str, Any]) -> Any:
    x = _linear(p, "embedding", x) + p["positions"]
    for block in range(sizes["blocks"]):
        name = f"blocks.{block}"
        y = _layer_norm(p, f"{name}.norm1", x)
        x = x + _attention(p, f"{name}.attention", y, sizes["heads"])
        y = _linear(p, f"{name}.mlp.0", _layer_norm(p, f"{name}.norm2", x))
        x = x + _linear(p, f"{name}.mlp.2", jax.nn.gelu(y, approximate=False))
    return _linear(p, "head", _layer_norm(p, "norm", x).mean(1))


FORWARDS = {"mlp": _mlp, "cnn": _cnn, "resnet18": _resnet18, "transformer": _transformer}
