"""One random draw of a model of finite width on finite data, in the eigenbasis of its features.

The model sees inputs through u = A_0 psi / sqrt(N) (u = psi at N = infinity). Its gradient, on all
inputs or on P of them, is diag(s) (theta - c) once the features' covariance is diagonalised; what
it predicts is w* - v = V c.

Modes beyond the spectrum's rows are too many and too weak to be learned one by one. Together they
are noise: their share of the features is white, sum_{k > M} lambda_k / N per feature at width N,
and their share of the target is noise on the labels. At N = infinity white features are the
samples' own directions, tail_trace / P on the diagonal of the kernel matrix over P, useless on
fresh inputs.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ntkscale.theory.scaling_model.spectrum import Spectrum

LARGEST = 2**31
"""Bytes of the largest array that a draw may hold."""


@dataclass(frozen=True)
class Features:
    """The features of one draw.

    Attributes:
        eigenvalues: s, of the covariance of the features over the inputs trained on.
        target: theta, the coefficients that fit these inputs best; the flow ends at c = theta.
        readout: V, what the coefficients c mean in the spectrum's rows: w* - v = V c. None: c is
            that already.
        ridge: mse that a unit |c|^2 adds on fresh inputs through the modes beyond the rows.
        train_floor: train mse at c = theta; None where data are unlimited.
        samples: features of the training points, in the same basis; None where data are unlimited.
        labels: their noisy labels.
    """

    eigenvalues: Float[ndarray, "r"]
    target: Float[ndarray, "r C"]
    readout: Float[ndarray, "M r"] | None
    ridge: float
    train_floor: float | None = None
    samples: Float[ndarray, "P r"] | None = None
    labels: Float[ndarray, "P C"] | None = None

    def unlearned(
        self, spectrum: Spectrum, coefficients: Float[ndarray, "... r C"]
    ) -> Float[ndarray, "... M C"]:
        """v = w* - V c."""
        learned = coefficients if self.readout is None else self.readout @ coefficients
        return spectrum.target - learned

    def mse(
        self, spectrum: Spectrum, coefficients: Float[ndarray, "... r C"]
    ) -> Float[ndarray, "..."]:
        """mse on fresh inputs against the clean target, summed over outputs."""
        v = self.unlearned(spectrum, coefficients)
        inside = (spectrum.eigenvalues[:, None] * np.square(v)).sum((-1, -2))
        return inside + self.ridge * np.square(coefficients).sum((-1, -2)) + spectrum.tail_power


def draw(
    spectrum: Spectrum,
    *,
    width: int | None,
    num_data: int | None,
    noise: float,
    seed: int,
) -> Features:
    """Draw A_0 (N, M) with N(0, 1) entries, Gaussian inputs and label noise; diagonalise once.

    Args:
        spectrum: rows of single modes.
        width: N; None: infinite.
        num_data: P; None: unlimited.
        noise: standard deviation sigma of the label noise, for each output.
        seed: of everything drawn. Width and data have streams of their own: the same seed gives the
            same A_0 with any data, and the same data at any width.

    Raises:
        ValueError: rows stand for several modes, width or num_data is not a positive whole number,
            noise is negative, or an array would exceed 2 GiB.

    Cost: O(min(N, P, M)^2 max(N, P, M)), memory O(N M + P M).
    """
    check_limits(spectrum, width=width, num_data=num_data, noise=noise)
    lam, modes = spectrum.eigenvalues, len(spectrum.eigenvalues)
    for rows, name in ((width, "width"), (num_data, "num_data")):
        if rows is not None and rows * modes * 8 > LARGEST:
            raise ValueError(
                f"{name} = {rows:,} times {modes:,} modes exceeds 2 GiB; take fewer modes: those "
                "beyond the rows act as a ridge anyway."
            )
    if num_data is not None and width is not None and num_data * width * 8 > LARGEST:
        raise ValueError(f"num_data = {num_data:,} times width = {width:,} exceeds 2 GiB.")
    of_width, of_data, of_noise = np.random.SeedSequence(seed).spawn(3)
    mixing = None
    if width is not None:
        mixing = np.random.default_rng(of_width).standard_normal((width, modes)) / np.sqrt(width)
    ridge = 0.0 if width is None else spectrum.tail_trace / width
    if num_data is None:
        if mixing is None:
            return Features(lam, spectrum.target, None, 0.0)
        values, left, right = _singular(mixing * np.sqrt(lam))
        target = (right @ (np.sqrt(lam)[:, None] * spectrum.target)) * values[:, None]
        eigenvalues = np.square(values) + ridge
        return Features(eigenvalues, target / eigenvalues[:, None], mixing.T @ left, ridge)

    inputs, labels, noises = _training_set(spectrum, num_data, noise, of_data, of_noise)
    seen = inputs if mixing is None else inputs @ mixing.T
    if mixing is not None and ridge > 0:
        seen = seen + np.sqrt(ridge) * noises.standard_normal(seen.shape)
    seen, labels = seen / np.sqrt(num_data), labels / np.sqrt(num_data)
    own = spectrum.tail_trace / num_data if mixing is None else 0.0
    if own > 0:
        # Each sample has a direction of its own: the kernel matrix has full rank.
        values, left = np.linalg.eigh(seen @ seen.T)
        eigenvalues = np.maximum(values, 0.0) + own
        back = (seen.T @ left) / np.sqrt(eigenvalues)
    else:
        values, left, right = _singular(seen)
        eigenvalues, back = np.square(values), right.T
    along = left.T @ labels
    rest = max(0.0, float(np.square(labels).sum() - np.square(along).sum()))
    readout = back if mixing is None else mixing.T @ back
    target = along / np.sqrt(eigenvalues)[:, None]
    samples = left * np.sqrt(eigenvalues * num_data)
    return Features(eigenvalues, target, readout, ridge, rest, samples, labels * np.sqrt(num_data))


def draw_unprojected(
    spectrum: Spectrum, *, width: int, num_data: int | None, noise: float, seed: int
) -> tuple[Features, Float[ndarray, "M M"]]:
    """Features of a network whose A leaves the span of A_0: psi, with A_0^T A_0 / N.

    The same seed gives the A_0 and the data of `draw`. Modes beyond the rows are noise on the
    labels of a training set and nothing else.

    Raises:
        ValueError: as `draw`.
    """
    check_limits(spectrum, width=width, num_data=num_data, noise=noise)
    modes = len(spectrum.eigenvalues)
    of_width, of_data, of_noise = np.random.SeedSequence(seed).spawn(3)
    mixing = np.random.default_rng(of_width).standard_normal((width, modes)) / np.sqrt(width)
    samples = labels = None
    if num_data is not None:
        samples, labels, _ = _training_set(spectrum, num_data, noise, of_data, of_noise)
    features = Features(
        spectrum.eigenvalues,
        spectrum.target,
        np.eye(modes),
        0.0,
        None if num_data is None else 0.0,
        samples,
        labels,
    )
    return features, mixing.T @ mixing


def check_limits(
    spectrum: Spectrum, *, width: int | None, num_data: int | None, noise: float
) -> None:
    """Refuse what a draw cannot be made of.

    Raises:
        ValueError: as `draw` says.
    """
    if (spectrum.count != 1).any():
        raise ValueError(
            "finite width and finite data need a row for every mode, but rows of this spectrum "
            "stand for several; build it without modes_per_decade."
        )
    check_sizes(width=width, num_data=num_data, noise=noise)


def check_sizes(*, width: int | None, num_data: int | None, noise: float) -> None:
    """Refuse widths, numbers of data and noises that are none.

    Raises:
        ValueError: one is not positive and whole, or noise is negative.
    """
    for value, name in ((width, "width"), (num_data, "num_data")):
        if value is not None and (value < 1 or value != int(value)):
            raise ValueError(f"{name} must be a whole number of at least 1, got {value}.")
    if not 0 <= noise < np.inf:
        raise ValueError(f"noise is a standard deviation, at least 0; got {noise}.")


def _training_set(
    spectrum: Spectrum,
    num_data: int,
    noise: float,
    of_data: np.random.SeedSequence,
    of_noise: np.random.SeedSequence,
) -> tuple[Float[ndarray, "P M"], Float[ndarray, "P C"], np.random.Generator]:
    """Inputs psi and labels with their noise, and the stream that the noise was drawn from."""
    inputs = np.random.default_rng(of_data).standard_normal(
        (num_data, len(spectrum.eigenvalues))
    ) * np.sqrt(spectrum.eigenvalues)
    labels = inputs @ spectrum.target
    noises = np.random.default_rng(of_noise)
    labels += noise * noises.standard_normal(labels.shape)
    own = spectrum.tail_power / labels.shape[1]
    labels += np.sqrt(own) * noises.standard_normal(labels.shape)
    return inputs, labels, noises


def _singular(
    matrix: Float[ndarray, "n m"],
) -> tuple[Float[ndarray, "r"], Float[ndarray, "n r"], Float[ndarray, "r m"]]:
    """Singular values and vectors above rounding, from the smaller Gram matrix."""
    small = matrix @ matrix.T if len(matrix) <= matrix.shape[1] else matrix.T @ matrix
    squares, vectors = np.linalg.eigh(small)
    kept = squares > np.finfo(np.float64).eps * len(small) * squares[-1]
    values, vectors = np.sqrt(squares[kept]), vectors[:, kept]
    if len(matrix) <= matrix.shape[1]:
        return values, vectors, (vectors.T @ matrix) / values[:, None]
    return values, (matrix @ vectors) / values, vectors.T
