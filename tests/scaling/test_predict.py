"""regime and predict against balances of terms solved by brute force."""

import dataclasses

import numpy as np
import pytest
from scipy.optimize import root_scalar

from ntkscale.scaling import predict, regime
from ntkscale.theory import scaling_model


@pytest.mark.parametrize(
    ("alpha", "beta", "expected"),
    [
        (2.0, 0.5, "hard"),
        (2.0, 1.0, "easy"),
        (2.0, 1.49, "easy"),
        (2.0, 1.5, "super-easy"),
        (1.5, 4.0 / 3.0, "super-easy"),
        (1.5, 2.2, "super-easy"),
        (1.0, 1.0, "super-easy"),
        (0.8, 0.99, "hard"),
        (0.8, 1.0, "super-easy"),
        (0.3, 0.1, "hard"),
    ],
)
def test_regimes_and_ties(alpha, beta, expected):
    assert regime(alpha, beta) == expected
    assert predict(alpha, beta).regime == expected


@pytest.mark.parametrize("alpha", [1.1, 1.5, 2.0, 4.0])
@pytest.mark.parametrize("beta", [0.1, 0.5, 0.9, 1.05, 1.2, 1.6, 2.5])
def test_compute_optimum_balances_the_terms_of_the_loss(alpha, beta):
    """Minimise the sum of the two dominant terms over N at two budgets; compare the slopes."""
    prediction = predict(alpha, beta)
    faster = 1.0  # easier tasks gain nothing from learning features
    for rich in (False, True):
        if prediction.regime == "hard":
            faster = 2 / (1 + beta) if rich else 1.0

        def loss(log_n, log_c, faster=faster):
            log_t = log_c - log_n
            time = np.exp(-beta * faster * log_t)
            if prediction.regime == "hard":
                return time + np.exp(-alpha * beta * log_n)
            transient = np.exp(-log_n - (1 - 1 / alpha) * log_t)
            batch = np.exp(-(2 - 1 / alpha) * log_t)
            return transient + (batch if prediction.regime == "super-easy" else time)

        best = []
        for log_c in (200.0, 300.0):
            log_n = np.linspace(0, log_c, 200_001)
            values = loss(log_n, log_c)
            at = int(np.argmin(values))
            best.append((np.log(values[at]), log_n[at]))
        slopes = (np.array(best[1]) - np.array(best[0])) / 100.0
        found = (
            (prediction.compute_rich, prediction.best_width_rich)
            if rich
            else (prediction.compute_lazy, prediction.best_width_lazy)
        )
        assert found == pytest.approx((-slopes[0], slopes[1]), abs=2e-3)


@pytest.mark.parametrize("alpha", [1.2, 1.5, 3.0])
def test_without_batches_a_super_easy_task_is_balanced_as_an_easy_one(alpha):
    """The best N of t^-beta + t^-(1 - 1/alpha) / N, by brute force."""
    beta = 2 - 1 / alpha + float(np.random.default_rng().uniform(0.05, 1.0))
    says, sgd = predict(alpha, beta, batches=False), predict(alpha, beta)
    best = []
    for log_c in (200.0, 300.0):
        log_n = np.linspace(0, log_c, 200_001)
        log_t = log_c - log_n
        values = np.exp(-beta * log_t) + np.exp(-log_n - (1 - 1 / alpha) * log_t)
        at = int(np.argmin(values))
        best.append((np.log(values[at]), log_n[at]))
    slopes = (np.array(best[1]) - np.array(best[0])) / 100.0
    assert (says.compute_lazy, says.best_width_lazy) == pytest.approx(
        (-slopes[0], slopes[1]), abs=2e-3
    )
    assert (
        says.compute_lazy == says.compute_rich == pytest.approx(alpha * beta / (alpha * beta + 1))
    )
    assert says.compute_lazy > sgd.compute_lazy and says.regime == sgd.regime == "super-easy"
    assert all("batch" not in cross.before + cross.after for cross in says.crossovers_lazy)


@pytest.mark.parametrize(("alpha", "beta"), [(1.5, 0.5), (2.0, 1.2)])
def test_batches_say_nothing_of_harder_tasks(alpha, beta):
    assert predict(alpha, beta, batches=False) == predict(alpha, beta)


def test_table_values():
    hard = predict(2.0, 0.5)
    assert hard.time_rich == pytest.approx(2 / 3)
    assert hard.compute_lazy == pytest.approx(1 / 3)
    assert hard.compute_rich == pytest.approx(2 * 2 * 0.5 / (2 * 1.5 + 2))
    assert hard.kernel_growth == pytest.approx(1 / 3)
    assert hard.model == pytest.approx(1.0)
    assert hard.best_width_rich == pytest.approx(2 / (2 + 2 * 1.5))
    easy = predict(2.0, 1.25)
    assert easy.time_rich == easy.time_lazy == 1.25
    assert easy.kernel_growth == 0.0
    assert easy.model == pytest.approx(2.0)
    assert easy.data == pytest.approx(2.5)
    assert easy.compute_rich == pytest.approx(2.5 / 3.5)
    assert easy.width_transient_lazy == pytest.approx(0.5)
    assert predict(1.5, 2.5).compute_lazy == pytest.approx(1 - 1 / 3)
    assert predict(1.5, 2.5).batch_transient_rich == pytest.approx(2 - 1 / 1.5)
    with pytest.raises(dataclasses.FrozenInstanceError):
        hard.alpha = 3.0  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(("alpha", "beta"), [(2.0, 0.5), (2.0, 1.5), (0.7, 0.5)])
def test_model_bottleneck_by_its_deterministic_equivalent(alpha, beta):
    """L(N) = sum power kappa / (lambda + kappa), N = sum lambda / (lambda + kappa)."""
    k = np.geomspace(1, 1e9, 20_001)
    weight = np.gradient(k)
    spectrum, power = k**-alpha, k ** -(alpha * beta + 1)

    def bottleneck(width):
        def excess(log_kappa):
            return (weight * spectrum / (spectrum + np.exp(log_kappa))).sum() - width

        kappa = np.exp(root_scalar(excess, bracket=(-60.0, 20.0)).root)
        return (weight * power * kappa / (spectrum + kappa)).sum()

    # For alpha < 1 a width counts once the tail's ridge lies inside the spectrum.
    widths = (1e3, 1e4) if alpha > 1 else (1e5, 1e7)
    fallen = bottleneck(widths[0]) / bottleneck(widths[1])
    slope = np.log(fallen) / np.log(widths[1] / widths[0])
    assert slope == pytest.approx(predict(alpha, beta).model, abs=0.08)


def test_small_alpha_stays_finite():
    for beta in (0.2, 0.9, 1.0, 3.0):
        prediction = predict(0.4, beta)
        values = [v for v in dataclasses.astuple(prediction) if isinstance(v, float)]
        assert np.isfinite(values).all()
        assert prediction.batch_transient_lazy == 0.0
        assert prediction.best_width_lazy + prediction.best_time_lazy == pytest.approx(1.0)


@pytest.mark.parametrize(("alpha", "beta"), [(0.0, 1.0), (-1.0, 1.0), (1.0, 0.0), (2.0, np.nan)])
def test_bad_exponents(alpha, beta):
    for call in (regime, predict):
        with pytest.raises(ValueError, match="positive finite"):
            call(alpha, beta)


@pytest.mark.parametrize(("alpha", "beta"), [(1.5, 0.4), (1.5, 1.15), (2.5, 1.9), (0.8, 0.5)])
@pytest.mark.parametrize("kind", ["lazy", "rich"])
def test_terms_are_equal_where_one_takes_over(alpha, beta, kind):
    """Exponents in N of the two terms at t = N^x; N large, B fixed."""
    says = predict(alpha, beta)

    def exponent(term, x):
        return {
            "time": -x * getattr(says, f"time_{kind}"),
            "batch transient": -x * getattr(says, f"batch_transient_{kind}"),
            "width transient": -1 - x * getattr(says, f"width_transient_{kind}"),
            "model": -says.model,
        }[term]

    crossovers = getattr(says, f"crossovers_{kind}")
    by_width = [one for one in crossovers if one.resource == "width"]
    assert by_width[-1].after == "model"
    assert [one.exponent for one in by_width] == sorted(one.exponent for one in by_width)
    for one in by_width:
        before, after = exponent(one.before, one.exponent), exponent(one.after, one.exponent)
        assert before == pytest.approx(after)
        # Before it the one is larger, after it the other.
        assert exponent(one.before, one.exponent - 0.1) > exponent(one.after, one.exponent - 0.1)
        assert exponent(one.before, one.exponent + 0.1) < exponent(one.after, one.exponent + 0.1)


def test_the_batch_takes_over():
    says = predict(1.5, 2.2)
    first = says.crossovers_lazy[0]
    assert (first.before, first.after, first.resource) == ("time", "batch transient", "batch")
    # t^-beta = (eta / B) t^-batch
    x = first.exponent
    assert -x * says.time_lazy == pytest.approx(-1 - x * says.batch_transient_lazy)


def test_when_a_curve_turns_rich():
    """The kernel has doubled at t_gamma: two gammas, solved."""
    beta, times = 0.5, np.geomspace(1, 1e9, 400)
    spectrum = scaling_model.power_law(2.0, beta, num_modes=10**7, modes_per_decade=20)
    when = []
    for gamma in (1e-2, 1e-3):
        scale = scaling_model.flow(spectrum, gamma, times, rtol=1e-3).kernel_scale
        when.append(float(np.interp(2.0, scale, times)))
    found = np.log10(when[1] / when[0])
    assert found == pytest.approx(predict(2.0, beta).lazy_to_rich, rel=0.15)
    assert predict(2.0, 1.2).lazy_to_rich is None


def test_noisy_data_by_the_balance_of_bias_and_variance():
    alpha, beta = 1.7, 0.6
    says, k = predict(alpha, beta), np.geomspace(1, 1e12, 100_000)
    loss, best = [], []
    for points in (1e8, 1e12):
        total = k ** (-alpha * beta) + k / points
        loss.append(total.min())
        best.append(k[total.argmin()])
    assert np.log(loss[0] / loss[1]) / np.log(1e4) == pytest.approx(says.data_noisy, abs=1e-3)
    modes = np.log(best[1] / best[0]) / np.log(1e4)
    assert alpha * modes == pytest.approx(says.stop_time_lazy, abs=1e-3)
    assert alpha * (1 + beta) / 2 * modes == pytest.approx(says.stop_time_rich, abs=1e-3)


@pytest.mark.parametrize(("alpha", "beta"), [(1.5, 1.15), (2.5, 1.3)])
def test_an_easy_task_passes_through_the_width_transient(alpha, beta):
    first, last = predict(alpha, beta).crossovers_lazy
    assert (first.before, first.after) == ("time", "width transient")
    assert (last.before, last.after) == ("width transient", "model")
    # t^-beta = N^-1 t^-(1 - 1/alpha)
    assert first.exponent == pytest.approx(1 / (beta - 1 + 1 / alpha))
