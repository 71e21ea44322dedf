"""Deep linear mean-field equations by sweeps over the whole history, as the notebooks do them."""

import numpy as np
from numpy import ndarray


def sweep_linear(
    kernel: ndarray,
    y: ndarray,
    weights: ndarray,
    *,
    depth: int,
    gamma0: float,
    sweeps: int,
    responses: bool = True,
) -> dict:
    """Jacobi sweeps with full inverses; (I - CD) of size TP. Two-time kernels in (t, mu) order."""
    num, times, layers = len(y), len(weights), depth
    n, eg = num * times, gamma0 / num
    h0 = np.tile(kernel, (times, times))
    h, g = [h0] * layers, [np.ones((times, times))] * layers
    a, b = [np.zeros((n, times))] * layers, [np.zeros((times, n))] * layers
    delta = np.tile(y, (times, 1))
    f, last, ntk = np.zeros((times, num)), np.zeros((times, n)), np.zeros((times, num, num))
    for _ in range(sweeps):
        new_h, new_g, new_a, new_b = list(h), list(g), list(a), list(b)
        for k in range(layers):
            below = h[k - 1] if k else h0
            above = g[k + 1] if k + 1 < layers else np.ones((times, times))
            seen = (below * delta.reshape(-1)).reshape(n, times, num).sum(-1)
            c = eg * seen * np.repeat(weights, num, axis=0)
            d = eg * np.repeat(above * weights, num, axis=1) * delta.reshape(-1)
            if responses:
                c = c + (a[k - 1] if k else 0)
                d = d + (b[k + 1] if k + 1 < layers else 0)
            x = np.linalg.inv(np.eye(n) - c @ d)
            y_ = np.linalg.inv(np.eye(times) - d @ c)
            new_a[k], new_b[k] = x @ c, y_ @ d
            new_h[k] = x @ (below + c @ above @ c.T) @ x.T
            new_g[k] = y_ @ (above + d @ below @ d.T) @ y_.T
            last = (y_ @ (d @ below + above @ c.T) @ x.T) / gamma0
        h, g, a, b = new_h, new_g, new_a, new_b
        ntk = np.zeros((times, num, num))
        for t in range(times):
            block = slice(t * num, (t + 1) * num)
            for k in range(layers + 1):
                under = h[k - 1][block, block] if k else kernel
                ntk[t] += under * (g[k][t, t] if k < layers else 1.0)
        if responses:
            f = np.stack([last[t, t * num : (t + 1) * num] for t in range(times)])
        else:
            f = np.zeros((times, num))
            for t in range(times):
                for s in range(t):
                    f[t] += weights[t, s] / num * ntk[s] @ delta[s]
                delta[t] = y - f[t]
        delta = y - f
    return {"outputs": f, "h": h, "g": g, "a": a, "b": b, "ntk": ntk}
