"""Multiply-adds that the kernel of a fully connected network takes: the roofline's numerator."""

import itertools

from benchmarks.ntk_peers.cases import Case


def multiply_adds(case: Case) -> float | None:
    """Multiply-adds of matrix products that the kernel needs; None where no formula stands here.

    With layers l = 1..L of widths d_0..d_L, C = d_L outputs, layer inputs A_l (n, d_{l-1}) and
    backward signals B_l (n, C, d_l):

    - forward, once: n d_{l-1} d_l for every layer;
    - backward, once an output: n C d_{l-1} d_l for layers 2 to L - 1 (the signal under the last
      layer is its weight row, and under the first none is needed);
    - the symmetric half of every A_l A_l^T: n^2 / 2 d_{l-1};
    - the symmetric half of every B_l B_l^T below the last layer, where it is the identity: one for
      each output for the trace, C n^2 / 2 d_l, and one of all outputs for the full kernel,
      (n C)^2 / 2 d_l.

    Additions, masks and elementwise products are not counted, so the true rate is a little higher.
    """
    if case.kind != "mlp":
        return None
    widths: list[int] = case.sizes["widths"]
    n, classes = case.n, case.classes
    layers = list(itertools.pairwise(widths))
    forward = n * sum(a * b for a, b in layers)
    backward = n * classes * sum(a * b for a, b in layers[1:-1])
    inputs = n**2 / 2 * sum(widths[:-1])
    pairs = (n * classes) ** 2 if case.output == "full" else classes * n**2
    signals = pairs / 2 * sum(widths[1:-1])
    return float(forward + backward + inputs + signals)
