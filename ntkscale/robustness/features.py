"""Sets of features as classifiers, clean and attacked."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ntkscale.robustness.attack_losses import correct
from ntkscale.robustness.fgsm import fgsm
from ntkscale.robustness.predictor import KernelPredictor
from ntkscale.robustness.shares import Shares
from ntkscale.robustness.threat import Threat
from ntkscale.robustness.usefulness import robust, useful


@dataclass(frozen=True)
class CumulativeAccuracy:
    """Accuracy of f_{<k}, the sum of the first k features, for several k.

    Attributes:
        counts: k.
        clean: of each, on the inputs as they are.
        robust: of each, on inputs attacked through it, one step of FGSM.
    """

    counts: tuple[int, ...]
    clean: Shares
    robust: Shares


def cumulative_accuracy(
    predictor: KernelPredictor,
    counts: Sequence[int],
    x: Float[Tensor, "m ..."],
    labels: Int[Tensor, "m"],
    threat: Threat,
) -> CumulativeAccuracy:
    """How accuracy and robustness grow with the number of leading features.

    Args:
        predictor: of one output or several.
        counts: k of each classifier, from 1 to the number of features.
        x, labels: held-out samples.
        threat: ball and range of the attack.

    Raises:
        ValueError: a count out of range, or labels that are not the predictor's.

    Cost: of one output as `robust`, with kernels shared between the classifiers; of several, as
    FGSM on each.
    """
    sets = [range(k) for k in counts]
    if predictor.targets.shape[1] == 1:
        functions = predictor.each_set(sets)
        clean, attacked = useful(functions, x, labels), robust(functions, x, labels, threat)
        return CumulativeAccuracy(tuple(counts), clean, attacked)
    counted = np.zeros((2, len(sets)), dtype=np.int64)
    for number, indices in enumerate(sets):
        f = predictor.features(indices)
        moved = fgsm(f, x, labels, threat)
        with torch.no_grad():
            right = [correct(f(inputs), labels) for inputs in (x, moved)]
        counted[:, number] = [int(r.sum()) for r in right]
    return CumulativeAccuracy(tuple(counts), Shares(counted[0], len(x)), Shares(counted[1], len(x)))
