"""How far networks of finite width are from the theory of infinite width, and how fast that falls.

`compare` trains networks beside a solution and returns, for every width, seed and kernel, its
alignment with theory and its relative error. Fluctuations of a network are of order width^-1/2, and
so is its error; the mean over seeds is nearer.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import torch
from jaxtyping import Float
from scipy.stats import t as student
from torch import Tensor

from ntkscale.experiments.dmft.wide_networks import Descent, average, train_networks
from ntkscale.scaling import fit_power_law
from ntkscale.theory.dmft import Fields, Solution

Row = dict[str, float | int | str | None]

CONFIDENCE = 0.95
_FIT_WIDTHS = 5  # what `fit_power_law` needs
_LEAST_WIDTHS = 3  # two points lie on a line whatever they are
_STRAIGHT = 0.9  # r^2 below which log(error) against log(width) is called no line


@dataclass(frozen=True)
class Slope:
    """How an error falls with width.

    Attributes:
        kernel, part: which error.
        exponent: p of error ~ width^-p.
        interval: 95 %.
        r_squared: share of the variance of log(mean error) that the law explains.
        reason: why there is no law; empty: nothing against it. There is none with fewer than three
            widths, r^2 below .9, or an interval that holds 0; the exponent is kept, flagged.
        widths: first and last.
    """

    kernel: str
    part: str
    exponent: float
    interval: tuple[float, float]
    r_squared: float
    reason: str
    widths: tuple[int, int]


@dataclass(frozen=True)
class Comparison:
    """Networks against theory.

    Attributes:
        errors: rows of width, seed (null: the mean of outputs and kernels over seeds), kernel
            (phi1 ... phiL, g1 ... gL, ntk, outputs), part (all: every pair of times; final: the
            last slice), alignment tr(K1^T K2) / (|K1| |K2|) and relative error |K1 - K2| / |K2| in
            Frobenius norms, K2 that of theory.
        means: mean over seeds of outputs and kernels, by width.
    """

    errors: pl.DataFrame
    means: dict[int, Solution]

    def slopes(self, part: str = "all") -> list[Slope]:
        """Slopes of the mean error of single networks against width, one a kernel."""
        return slopes(self.errors, part)


def compare(
    solution: Solution,
    descent: Descent,
    *,
    widths: Sequence[int],
    seeds: Sequence[int],
    progress: Callable[[int, int], object] | None = None,
) -> Comparison:
    """Train networks of several widths and seeds on the times of a solution, and compare.

    Args:
        solution: of theory (`at_times` makes one of few times, which is cheaper to compare with).
        descent: what was solved. For gradient flow give it a learning rate that is a fraction of
            the distance between times.
        widths: N of the networks.
        seeds: of their initial weights.
        progress: called with steps done and their number, over all networks.

    Raises:
        ValueError: no width or no seed; the solution's times are no whole numbers of steps; its
            points, layers or gamma0 are not those of `descent`. A solution of the lazy limit
            (gamma0 = 0) is compared with networks of any gamma0.
    """
    if not len(widths) or not len(seeds):
        raise ValueError("no widths or no seeds: give at least one of each.")
    looks = look_steps(solution, descent)
    rows: list[Row] = []
    means: dict[int, Solution] = {}
    each = len(seeds) * (looks[-1] + 1)
    for position, width in enumerate(widths):

        def tell(done: int, total: int, position: int = position) -> None:
            if progress is not None:
                progress(position * each + done, len(widths) * each)

        found = list(train_networks(descent, width=width, seeds=seeds, looks=looks, progress=tell))
        means[width] = average(found)
        for seed, network in [*zip(seeds, found, strict=True), (None, means[width])]:
            rows += [{"width": width, "seed": seed, **row} for row in errors(network, solution)]
    return Comparison(pl.DataFrame(rows, infer_schema_length=None), means)


def look_steps(solution: Solution, descent: Descent) -> list[int]:
    """Steps of gradient descent at which a network is at the times of a solution.

    Raises:
        ValueError: see `compare`.
    """
    ratio = solution.times.cpu() * (1 - descent.momentum) / descent.learning_rate
    looks = ratio.round()
    if bool(((ratio - looks).abs() > 1e-6 * (1 + looks)).any()):
        raise ValueError(
            f"the solution's times are no multiples of learning_rate {descent.learning_rate:g}; "
            "give the one that it was solved with."
        )
    points = len(torch.as_tensor(descent.x))
    points += 0 if descent.x_test is None else len(torch.as_tensor(descent.x_test))
    if solution.depth != descent.depth or solution.phi[0].shape[1] != points:
        raise ValueError(
            f"the solution has {solution.depth} layers and {solution.phi[0].shape[1]} points, "
            f"networks {descent.depth} and {points}; solve what they learn."
        )
    if solution.gamma0 and not math.isclose(solution.gamma0, descent.gamma0):
        raise ValueError(
            f"the solution has gamma0 = {solution.gamma0:g}, networks {descent.gamma0:g}; solve "
            "what they learn."
        )
    return [int(look) for look in looks]


def same_times(one: Solution, other: Solution) -> bool:
    """Whether two solutions are at the same times; one that ended early is not."""
    return one.times.shape == other.times.shape and torch.allclose(
        one.times.cpu(), other.times.cpu(), rtol=1e-6, atol=1e-9
    )


def standard_error_of_mean(single: Sequence[float], mean: float) -> float:
    """Relative standard error of the mean of networks, from errors against theory.

    The mean of e^2 over networks is the square of their mean's error and their variance about that
    mean, so distances to theory give the scatter, however far theory is.

    Args:
        single: relative errors e of single networks.
        mean: that of the mean of their kernels.

    Returns:
        nan for one network, whose scatter is not known, and where a network diverged.
    """
    if len(single) < 2:
        return math.nan
    squares = sum(error**2 for error in single) / len(single)
    return math.sqrt(max(squares - mean**2, 0.0) / (len(single) - 1))


def at_times(solution: Solution, count: int, *, until: float = math.inf) -> Solution:
    """The solution at `count` of its times, evenly spread, the first and the last among them.

    Responses are left out: sums over them need every time.

    Args:
        solution: any.
        count: how many times, or all if there are fewer.
        until: the last time that counts, for comparison with one that ended early.
    """
    last = max(int((solution.times <= until * (1 + 1e-9)).sum()), 1) - 1
    count = min(count, last + 1)
    kept = sorted({round(i * last / max(count - 1, 1)) for i in range(count)})

    def both(kernel: Tensor) -> Tensor:
        return kernel[kept].movedim(kernel.ndim // 2, 0)[kept].movedim(0, kernel.ndim // 2)

    fields = solution.fields
    if fields is not None:
        fields = Fields(tuple(h[kept] for h in fields.h), tuple(z[kept] for z in fields.z))
    error = dict(solution.standard_error)
    if "mse" in error:
        error["mse"] = error["mse"][kept]
    error |= {name: error[name][:, kept] for name in ("phi_at", "g_at") if name in error}
    return replace(
        solution,
        times=solution.times[kept],
        loss=solution.loss[kept],
        mse=solution.mse[kept],
        test_mse=None if solution.test_mse is None else solution.test_mse[kept],
        outputs=solution.outputs[kept],
        phi=tuple(both(kernel) for kernel in solution.phi),
        g=tuple(both(kernel) for kernel in solution.g),
        ntk=solution.ntk[kept],
        forward_responses=(),
        backward_responses=(),
        fields=fields,
        standard_error=error,
    )


def errors(network: Solution, theory: Solution) -> Iterator[Row]:
    """Alignment and relative error of every kernel and of the outputs; see `Comparison`."""
    pairs: dict[str, tuple[Tensor, Tensor]] = {}
    for name in ("phi", "g"):
        both = zip(getattr(network, name), getattr(theory, name), strict=True)
        pairs |= {f"{name}{layer}": pair for layer, pair in enumerate(both, start=1)}
    pairs["ntk"] = network.ntk, theory.ntk
    pairs["outputs"] = network.outputs, theory.outputs
    for name, (one, other) in pairs.items():
        yield {"kernel": name, "part": "all", **_distance(one, other)}
        two_times = name not in ("ntk", "outputs")
        one, other = (final(k) if two_times else k[-1] for k in (one, other))
        yield {"kernel": name, "part": "final", **_distance(one, other)}


def final(kernel: Float[Tensor, "T All ..."]) -> Float[Tensor, "All ..."]:
    """The kernel of the last time with itself."""
    return kernel[-1].select(kernel.ndim // 2 - 1, -1)


def slopes(frame: pl.DataFrame, part: str = "all") -> list[Slope]:
    """Slopes of the errors of single networks, averaged over seeds, against width.

    Networks of different seeds are independent: each seed gives a slope, and their mean and
    Student's interval are the answer. One seed leaves it to `fit_power_law`, which needs five
    widths.

    Args:
        frame: rows of `Comparison.errors`.
        part: ``"all"`` or ``"final"``.
    """
    own = frame.filter((pl.col("part") == part) & pl.col("seed").is_not_null())
    found = []
    for kernel in dict.fromkeys(own["kernel"].to_list()):
        rows = own.filter(pl.col("kernel") == kernel)
        table = rows.pivot(on="seed", index="width", values="error").sort("width").drop_nulls()
        widths = table["width"].to_numpy().astype(float)
        if len(widths) < 2:
            continue
        found.append(_slope(kernel, part, widths, table.drop("width").to_numpy()))
    return found


def _slope(
    kernel: str, part: str, widths: np.ndarray, error: Float[np.ndarray, "widths seeds"]
) -> Slope:
    ends = int(widths[0]), int(widths[-1])
    logs = np.log(error.mean(axis=1))
    line = np.polynomial.Polynomial.fit(np.log(widths), logs, 1)(np.log(widths))
    spread = float(((logs - logs.mean()) ** 2).sum())
    goodness = 1 - float(((logs - line) ** 2).sum()) / spread if spread else float("nan")
    count = error.shape[1]
    if count > 1:
        each = -np.polyfit(np.log(widths), np.log(error), 1)[0]
        half = student.ppf(0.5 + CONFIDENCE / 2, count - 1) * each.std(ddof=1) / count**0.5
        mean = float(each.mean())
        interval = (mean - float(half), mean + float(half))
        reason = _against(len(widths), goodness, interval)
        return Slope(kernel, part, mean, interval, goodness, reason, ends)
    if len(widths) < _FIT_WIDTHS:
        reason = f"one seed needs {_FIT_WIDTHS} widths for an interval"
        slope = -float(np.polyfit(np.log(widths), logs, 1)[0])
        return Slope(kernel, part, slope, (-np.inf, np.inf), goodness, reason, ends)
    fit = fit_power_law(widths, error[:, 0], window=(widths[0], widths[-1]))
    reason = fit.reason or _against(len(widths), goodness, fit.interval)
    return Slope(kernel, part, fit.exponent, fit.interval, goodness, reason, ends)


def _against(widths: int, goodness: float, interval: tuple[float, float]) -> str:
    """What speaks against a power law; empty if nothing does."""
    if widths < _LEAST_WIDTHS:
        return f"fewer than {_LEAST_WIDTHS} widths"
    if not goodness >= _STRAIGHT:
        return f"r^2 {goodness:.2f}"
    if interval[0] <= 0 <= interval[1]:
        return "interval holds 0"
    return ""


def _distance(one: Tensor, other: Tensor) -> dict[str, float]:
    other = other.to(one)
    size = float(other.norm())
    # Outputs at initialisation are zero in both.
    if not size or not float(one.norm()):
        return {"alignment": float("nan"), "error": float("nan")}
    return {
        "alignment": float((one * other).sum() / one.norm()) / size,
        "error": float((one - other).norm()) / size,
    }
