"""The names, units and axes of everything that is recorded.

A network, a theory and a dashboard use these names for the same thing, so a curve can be fitted,
drawn or logged without asking where it came from. The files on disk (`metrics.jsonl`,
`kernels/*.safetensors`) and the W&B record carry exactly these names.
"""

from dataclasses import dataclass
from typing import Literal

Axis = Literal["time", "step"]


@dataclass(frozen=True)
class Quantity:
    """One recorded quantity.

    Attributes:
        name: column in `metrics.jsonl` and key of the W&B record.
        unit: physical unit; ``"1"`` for a pure number, ``"target^2"`` for a squared target.
        shape: ``"scalar"``, or the meaning of the entries of a list, e.g. ``"index"``.
        meaning: one sentence, with the formula.
        axis: what it is plotted against.
    """

    name: str
    unit: str
    shape: str
    meaning: str
    axis: Axis = "time"


SECTIONS: dict[str, tuple[Quantity, ...]] = {
    "axes": (
        Quantity("step", "steps", "scalar", "number of optimiser steps taken", "step"),
        Quantity("time", "flow time", "scalar", "t = sum of eta; df/dt = K (y - f) / P", "time"),
    ),
    # How well the network does.
    "losses": (
        Quantity("loss", "target^2", "scalar", "what is optimised: 1/(2P) sum |y - f|^2, or nats"),
        Quantity(
            "mse", "target^2", "scalar", "mean over training points of |y - f|^2, without 1/2"
        ),
        Quantity(
            "theory_mse",
            "target^2",
            "scalar",
            "mse of theory: lazy flow of K_0, infinite width (mean-field), or 2 proven_loss",
        ),
        Quantity("test_mse", "target^2", "scalar", "mean over test points of |y - f|^2"),
    ),
    "accuracy": (
        Quantity(
            "accuracy", "1", "scalar", "share of training points with the right largest output"
        ),
        Quantity(
            "test_accuracy", "1", "scalar", "share of test points with the right largest output"
        ),
    ),
    "optimisation": (
        Quantity("epoch", "epochs", "scalar", "passes through the training set", "step"),
        Quantity("learning_rate", "flow time", "scalar", "eta, the flow time of one step", "step"),
    ),
    # What the kernel does. K = gamma^2 df/dtheta . df/dtheta' / C on the probe set, n points.
    "kernel evolution": (
        Quantity("kernel_distance", "1", "scalar", "S(K_0, K_t) = 1 - <K_0, K_t> / (|K_0| |K_t|)"),
        Quantity(
            "kernel_velocity",
            "1 / flow time",
            "scalar",
            "S(K_s, K_t) / (t - s) between this snapshot and the one before",
        ),
        Quantity("kernel_change", "1", "scalar", "|K_t - K_0| / |K_0| in the Frobenius norm"),
        Quantity(
            "kernel_alignment",
            "1",
            "scalar",
            "<K_t, Y Y^T> / (|K_t| |Y Y^T|), Y the probe's targets (n x C)",
        ),
        Quantity("kernel_trace", "1", "scalar", "tr K_t / n"),
        Quantity("effective_rank", "1", "scalar", "(tr K_t)^2 / tr K_t^2"),
        Quantity(
            "kernel_trace_by_layer", "1", "layer", "tr K_t / n of each parameter, in named order"
        ),
        Quantity(
            "kernel_distance_by_layer",
            "1",
            "layer",
            "S(K_0, K_t) of each parameter, in named order",
        ),
    ),
    "spectra": (
        Quantity(
            "kernel_eigenvalues", "1", "index", "leading eigenvalues of K_t / n, largest first"
        ),
        Quantity(
            "kernel_growth",
            "1",
            "index",
            "u_i^T K_t u_i / n for the leading unit eigenvectors u_i of K_0, largest first",
        ),
    ),
    # Leading ones, w_i the eigenvalues, as many in the sum as the run's option says.
    "eigenspaces": (
        Quantity(
            "trace_share", "1", "scalar", "sum of the leading w_i over the sum of all, of K_t"
        ),
        Quantity(
            "squared_share", "1", "scalar", "sum of the leading w_i^2 over the sum of all, of K_t"
        ),
        Quantity("centred_trace_share", "1", "scalar", "trace_share of H K_t H, H = 1 - 11^T / n"),
        Quantity(
            "centred_squared_share", "1", "scalar", "squared_share of H K_t H, H = 1 - 11^T / n"
        ),
    ),
    # How far the network went.
    "geometry": (
        Quantity(
            "movement", "1", "scalar", "|theta_t - theta_0| / |theta_0|, all parameters together"
        ),
        Quantity("hidden_movement", "1", "scalar", "|H_t - H_0| / |H_0| of last preactivations"),
        Quantity("hidden_rms_movement", "1", "scalar", "root mean square entry of H_t - H_0"),
        Quantity("feature_kernel_distance", "1", "scalar", "S(Phi_0, Phi_t), Phi of last features"),
    ),
    # Under attack; the kernel's again on the probe as attacked now, by the iterated attack on the
    # network as it is.
    "adversarial": (
        Quantity(
            "fgsm_accuracy",
            "1",
            "scalar",
            "share of test points still right after one attack step of eps",
        ),
        Quantity(
            "robust_accuracy",
            "1",
            "scalar",
            "share of test points still right after iterated attack (PGD) on the network as it is",
        ),
        Quantity(
            "noise_accuracy",
            "1",
            "scalar",
            "share of test points still right under random signs of eps",
        ),
        Quantity(
            "transfer_accuracy",
            "1",
            "scalar",
            "share of test points still right as attacked through a kernel's f_t at the same t",
        ),
        Quantity(
            "gradient_cosine",
            "1",
            "scalar",
            "cosine of the input gradients of the network and of a kernel's f_t, mean over tests",
        ),
        *(
            Quantity(f"adversarial_{name}", "1", "scalar", f"{name} on the probe attacked at t")
            for name in (
                "kernel_distance",
                "kernel_change",
                "trace_share",
                "squared_share",
                "centred_trace_share",
                "centred_squared_share",
            )
        ),
    ),
    # How fast it must learn: networks of which the last hidden layer is trained.
    "partially trained": (
        Quantity("instantaneous_rate", "1 / flow time", "scalar", "-dL/dt / L, L = mse / 2"),
        Quantity(
            "proven_rate", "1 / flow time", "scalar", "(2/n) lambda_min(G) min_a A_aa, below it"
        ),
        Quantity("proven_loss", "target^2", "scalar", "L(0) exp(-integral of the proven rate)"),
        Quantity(
            "active_fraction", "1", "scalar", "least share of active neurons over training points"
        ),
    ),
    # What a student has learned of its teacher; mass_j = |a_j| |w_j|.
    "teacher and student": (
        Quantity("objective", "target^2", "scalar", "mse + lambda / 2 (|a|^2 + |W|^2)"),
        Quantity("mass", "target", "scalar", "sum of the neurons' masses"),
        *(
            Quantity(f"far_{d}", "1", "scalar", f"share of mass over {d} degrees from any teacher")
            for d in (5, 10, 20)
        ),
        Quantity("weighted_angle", "degrees", "scalar", "to the nearest teacher, mean by mass"),
        Quantity("largest_angle", "degrees", "scalar", "of neurons with some mass"),
        Quantity("group_error", "target", "scalar", "largest |sum of a_j w_j near i - a_i* w_i*|"),
        Quantity(
            "capture", "1", "scalar", "|P w|^2 / |w|^2, P on the teacher's span, mean by mass"
        ),
        Quantity("rows_capture", "1", "scalar", "the same with all neurons alike"),
    ),
}
"""Every recorded quantity, by what belongs together on a dashboard; the axes first."""

QUANTITIES: dict[str, Quantity] = {
    quantity.name: quantity for section in SECTIONS.values() for quantity in section
}
"""Every recorded quantity by name."""
