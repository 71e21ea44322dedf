"""What `train.py scaling-model` solves for each of its figures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ntkscale.experiments.scaling_model.settings import ScalingModelSettings
from ntkscale.scaling import frontier, predict, regime
from ntkscale.scaling.compute_optimal import mean_mse
from ntkscale.theory import scaling_model

LATE = (1e5, 1e9)
"""Flow times between which the exponents at infinite width and data are fitted."""
_MODES_PER_DECADE = 30
_RANK = 4  # modes for each unit of width or data
_FIELD_STEPS = {
    False: 250,
    True: 100,
}  # quick or not; of the mean-field equations, whose cost goes as the cube
_SGD_LAST = 1e6  # flow time to which the expected lazy SGD is followed
_FRONTIER = {False: (256, 512, 1024, 2048, 4096), True: (128, 256, 512, 1024)}


@dataclass(frozen=True)
class Curve:
    """A loss curve.

    Attributes:
        key: gamma, seed and what else sets it apart; `kind` is "theory" or "draw".
        times, mse: (T,) flow times and mse.
    """

    key: dict[str, float | int | str]
    times: Float[ndarray, "T"]
    mse: Float[ndarray, "T"]


@dataclass(frozen=True)
class Found:
    """What a cell gave: curves, and numbers by name."""

    curves: Sequence[Curve] = ()
    numbers: dict[str, float | str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelCell:
    """One thing to solve, seconds of work.

    Attributes:
        part: figure it belongs to.
        key: what sets it apart there.
        solve: solves it.
    """

    part: str
    key: dict[str, float | int]
    solve: Callable[[], Found]


def cells(settings: ScalingModelSettings) -> list[ModelCell]:
    """All cells of the parts that are asked for, in order."""
    found: list[ModelCell] = []

    def add(part: str, key: dict[str, float | int], solve: Callable[[], Found]) -> None:
        found.append(ModelCell(part, key, solve))

    if "exponents" in settings.parts:
        for beta in sources(settings):
            add("exponents", {"beta": beta}, partial(_exponents, settings, beta))
    if "phases" in settings.parts:
        alphas, betas = phase_grid(settings)
        for alpha in alphas:
            for beta in betas:
                key = {"alpha": alpha, "beta": beta}
                add("phases", key, partial(_phase, settings, alpha, beta))
    for beta in settings.beta:
        if "curves" in settings.parts:
            add("curves", {"beta": beta}, partial(_infinite, settings, beta))
            for width in settings.width:
                key = {"beta": beta, "width": width}
                add("curves", key, partial(_finite, settings, beta, width))
        if "sgd" in settings.parts and regime(settings.alpha, beta) != "easy":
            for batch in settings.batch_size:
                key = {"beta": beta, "batch_size": batch}
                add("sgd", key, partial(_sgd, settings, beta, batch))
        if "data" in settings.parts:
            for points in settings.num_data:
                key = {"beta": beta, "num_data": points}
                add("data", key, partial(_data, settings, beta, points))
    return found


def sources(settings: ScalingModelSettings) -> list[float]:
    """Source exponents at which the exponent in time is solved."""
    count = 5 if settings.quick else 15
    grid = np.linspace(0.2, 2.0, count).round(3).tolist()
    return sorted({*grid, *settings.beta})


def phase_grid(settings: ScalingModelSettings) -> tuple[list[float], list[float]]:
    """alpha and beta of the phase diagrams."""
    if settings.quick:
        return [1.5, 2.5], [0.3, 0.7, 1.2, 2.2]
    return [1.25, 1.5, 1.75, 2.0, 2.5, 3.0], [0.2, 0.4, 0.6, 0.8, 1.1, 1.4, 1.7, 2.0, 2.4]


def _exponents(settings: ScalingModelSettings, beta: float) -> Found:
    times = np.geomspace(10.0, LATE[1], 70)
    return Found(
        [
            Curve(
                {"gamma": gamma, "kind": "theory"},
                times,
                scaling_model.solve(settings.alpha, beta, gamma, times),
            )
            for gamma in settings.gamma
        ]
    )


def _times(settings: ScalingModelSettings) -> Float[ndarray, "T"]:
    return np.geomspace(0.3, settings.horizon, 60)


def _infinite(settings: ScalingModelSettings, beta: float) -> Found:
    times = _times(settings)
    return Found(
        [
            Curve(
                {"gamma": gamma, "kind": "theory"},
                times,
                scaling_model.solve(settings.alpha, beta, gamma, times),
            )
            for gamma in settings.gamma
        ]
    )


def _finite(settings: ScalingModelSettings, beta: float, width: int) -> Found:
    """Draws of A_0 and their mean, lazy and rich."""
    times = _times(settings)
    curves = [
        Curve(
            {"gamma": gamma, "kind": "theory"},
            times,
            mean_mse(settings.alpha, beta, gamma, width, times),
        )
        for gamma in (0.0, settings.rich)
    ]
    spectrum = scaling_model.power_law(settings.alpha, beta, num_modes=_RANK * width)
    for seed in settings.seed:
        own = scaling_model.at_width(spectrum, width, seed=seed)
        for gamma in (0.0, settings.rich):
            mse = scaling_model.flow(own, gamma, times, rtol=1e-3).mse
            curves.append(Curve({"gamma": gamma, "kind": "draw", "seed": seed}, times, mse))
    return Found(curves)


def _sgd(settings: ScalingModelSettings, beta: float, batch: int) -> Found:
    """One-pass SGD at infinite width: expected where lazy, mean-field and simulated where rich."""
    alpha, rate, rich = settings.alpha, settings.learning_rate, settings.rich
    last = settings.horizon / 10
    binned = scaling_model.power_law(
        alpha,
        beta,
        num_modes=round(100 * _SGD_LAST ** (1 / alpha)),
        modes_per_decade=_MODES_PER_DECADE,
    )
    steps = np.unique(np.geomspace(1, _SGD_LAST / rate, 120).round())
    lazy = scaling_model.lazy_sgd(binned, steps, learning_rate=rate, batch_size=batch)
    curves = [Curve({"gamma": 0.0, "kind": "theory"}, rate * steps, lazy)]
    coarse = scaling_model.power_law(alpha, beta, num_modes=10**5, modes_per_decade=10)
    field_steps = _FIELD_STEPS[settings.quick]
    field_ = scaling_model.mean_field(
        coarse, rich, field_steps, learning_rate=rate, batch_size=float(batch)
    )
    kept = np.unique(np.geomspace(1, field_steps - 1, 40).round().astype(int))
    curves.append(Curve({"gamma": rich, "kind": "theory"}, field_.times[kept], field_.mse[kept]))
    # A loss jumps from step to step: a point is the mean over all steps up to the next.
    edges = np.unique(np.geomspace(1, last / rate, 50).round()).astype(int)
    middle = rate * (edges[:-1] + edges[1:] - 1) / 2
    modes = 300 if settings.quick else 800
    for gamma in (0.0, rich):
        simulated = scaling_model.simulate(
            scaling_model.power_law(alpha, beta, num_modes=modes),
            gamma,
            edges.tolist(),
            learning_rate=rate,
            batch_size=batch,
            exact=False,
            seeds=settings.seed,
        )
        if simulated.mean_mse is None:
            raise AssertionError("fresh batches have a mean over steps")
        for seed, mse in zip(settings.seed, simulated.mean_mse, strict=True):
            curves.append(Curve({"gamma": gamma, "kind": "draw", "seed": seed}, middle, mse[1:]))
    return Found(curves)


def _data(settings: ScalingModelSettings, beta: float, points: int) -> Found:
    """Fixed data, clean and noisy labels, lazy and rich, for every draw of the data."""
    spectrum = scaling_model.power_law(settings.alpha, beta, num_modes=_RANK * points)
    # Until every direction of the data is learned: the smallest eigenvalue is about P^-alpha.
    times = np.geomspace(0.3, 30.0 * points**settings.alpha, 90)
    curves = [
        Curve(
            {"gamma": gamma, "noise": noise, "kind": "draw", "seed": seed},
            times,
            scaling_model.finite_flow(
                spectrum, gamma, times, num_data=points, noise=noise, seed=seed, rtol=1e-3
            ).mse,
        )
        for gamma in (0.0, settings.rich)
        for noise in (0.0, settings.noise)
        for seed in settings.seed
    ]
    return Found(curves)


def _phase(settings: ScalingModelSettings, alpha: float, beta: float) -> Found:
    """Exponent of the compute frontier, and which terms of the loss are largest on it.

    Lazy super-easy tasks are learned by SGD with the smallest batch, all others by gradient flow:
    rich SGD has no average in closed form.
    """
    says = predict(alpha, beta)
    widths = _FRONTIER[settings.quick]
    numbers: dict[str, float | str | None] = {}
    for name, gamma in (("lazy", 0.0), ("rich", settings.rich)):
        batches = gamma == 0 and says.regime == "super-easy"
        sgd = (min(settings.batch_size), settings.learning_rate) if batches else ()
        power = says.best_width_lazy if gamma == 0 else says.best_width_rich
        compute = np.geomspace(
            (widths[0] / 8) ** (1 / power), (widths[-1] / 1.2) ** (1 / power), 80
        )
        curves = [mean_mse(alpha, beta, gamma, n, compute / n, *sgd) for n in widths]
        found = frontier(widths, [compute / n for n in widths], [m[None] for m in curves])
        whole = found.over(found.compute[0], found.compute[-1])
        numbers[name] = whole.exponent
        middle = len(found.compute) // 2
        width, time = float(found.width[middle]), float(found.time[middle])
        numbers |= {
            f"{name}_{term}": share
            for term, share in _shares(
                alpha, beta, gamma, width, time, float(found.mse[middle]), sgd
            ).items()
        }
    return Found((), numbers)


def _shares(
    alpha: float,
    beta: float,
    gamma: float,
    width: float,
    time: float,
    mse: float,
    sgd: tuple[()] | tuple[float, float],
) -> dict[str, float]:
    """Share of the loss that time, batches, the width's plateau and its transient have."""
    spectrum = scaling_model.power_law(
        alpha,
        beta,
        num_modes=round(min(1e9, 1e3 * (10 * time) ** (2 / alpha)) + 1e4),
        modes_per_decade=_MODES_PER_DECADE,
    )
    flow = float(scaling_model.flow(spectrum, gamma, [time], rtol=1e-3).mse[0])
    batch = 0.0
    if sgd:
        step = [round(time / sgd[1])]
        batches = scaling_model.lazy_sgd(spectrum, step, learning_rate=sgd[1], batch_size=sgd[0])
        # In whole steps and without batches, so that the step size does not count as noise.
        exact = scaling_model.lazy_sgd(spectrum, step, learning_rate=sgd[1], batch_size=None)
        batch = float(batches[0] - exact[0])
    model = scaling_model.plateau(spectrum, width=round(width)).mse
    rest = mse - flow - batch - model
    return {
        "time": flow / mse,
        "batch": batch / mse,
        "model": model / mse,
        "transient": rest / mse,
    }
