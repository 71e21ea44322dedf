"""Pieces of the parts `features` and `held-out`: a pair of classes, and the kernel's features.

f_t, the kernel's function at flow time t, and f_I, sums of its features over sets of indices, are
attacked in closed form. The first feature belongs to the largest eigenvalue.
"""

from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from ntkscale.experiments.adversarial_kernel.models import (
    Pair,
    held_out,
    pair_task,
    predictor,
    tested,
)
from ntkscale.experiments.adversarial_kernel.settings import AdversarialKernelSettings
from ntkscale.experiments.work import Desk, Piece
from ntkscale.robustness import (
    Expansion,
    KernelPredictor,
    Shares,
    fgsm,
    pgd,
    random_signs,
    rank_correlation,
    robust,
    useful,
    useful_features,
)

BEYOND = 200
"""Features from this one on count as far down the spectrum."""
SHUFFLES = 20
_ROWS = 500  # of a kernel with held-out samples, at a time


def feature_pieces(settings: AdversarialKernelSettings, pair: Pair, seed: int) -> list[Piece]:
    """What is asked for of one pair and seed."""
    key: dict[str, Any] = {"a": pair[0], "b": pair[1], "seed": seed}
    found = []
    if "features" in settings.parts:
        work = partial(_features, settings, pair, seed)
        found.append(Piece({"part": "features", **key}, work))
    if "held-out" in settings.parts:
        work = partial(_held_out, settings, pair, seed)
        found.append(Piece({"part": "held-out", **key}, work))
    return found


def feature_indices(settings: AdversarialKernelSettings, count: int) -> list[int]:
    """Features that are attacked one by one: the leading ones, the rest evenly on a log scale."""
    leading = min(settings.top + 1, count)
    rest = np.geomspace(leading, count, settings.features - leading + 1)[:-1]
    return sorted({*range(leading), *(int(i) for i in rest if i < count), count - 1})


def feature_counts(settings: AdversarialKernelSettings, count: int) -> list[int]:
    """Numbers of leading features that are tried as classifiers."""
    steps = {1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, settings.top, count}
    return sorted(k for k in steps if k <= count)


def learnable(fitted: KernelPredictor) -> int:
    """Number of features: of eigenvalues above rounding."""
    return int((fitted.eigenvalues > 0).sum())


def _features(
    settings: AdversarialKernelSettings, pair: Pair, seed: int, desk: Desk, piece: Piece
) -> dict[str, Any]:
    """Early stopping, leading features as classifiers, and single features under attack."""
    task = pair_task(settings, pair, seed)
    fitted = predictor(settings, task)
    x, labels = tested(task)
    few = slice(min(settings.attacked, len(x)))
    desk.tell(0.1, "early stopping")
    early = _many(settings, fitted.each_time(settings.stops), x, labels)
    first = settings.threat(settings.eps[0])
    for name, attack in (("pgd", pgd), ("fgsm", fgsm)) if settings.in_depth else ():
        right = []
        for time in settings.stops:
            f = fitted.at(time)
            moved = attack(f, x[few], labels[few], first)
            right.append(int(useful(f, moved, labels[few]).correct[0]))
        early[name] = right
    desk.tell(0.4, "leading features")
    count = learnable(fitted)
    counts = feature_counts(settings, count)
    cumulative = _many(settings, fitted.each_set(range(k) for k in counts), x, labels)
    desk.tell(0.6, "single features")
    chosen = feature_indices(settings, count)
    functions = fitted.each_feature(chosen)
    clean = useful(functions, x, labels)
    attacked = robust(functions, x[few], labels[few], first, dtype=torch.float32)
    for place, index in enumerate(chosen):
        desk.folder.append(
            {
                "cell": piece.name,
                **piece.key,
                "feature": index,
                "eigenvalue": float(fitted.eigenvalues[index]),
                "usefulness": float(clean.value[place]),
                "robustness": float(attacked.value[place]),
            }
        )
    return {
        "tested": len(x),
        "attacked": len(x[few]),
        "early": early,
        "counts": counts,
        "cumulative": cumulative,
        "index": chosen,
        "useful": clean.correct.tolist(),
        "robust": attacked.correct.tolist(),
        "spearman": {
            "robust": _spearman(chosen, attacked),
            "useful": _spearman(chosen, clean),
        },
    }


def _spearman(index: list[int], shares: Shares) -> list[float | None]:
    """Coefficient, p and interval of index and share; None where all shares are alike."""
    if np.ptp(shares.correct) == 0:
        return [None] * 4
    found = rank_correlation(np.array(index), shares.value)
    return [found.value, found.p_value, *found.interval]


def _many(
    settings: AdversarialKernelSettings, functions: Expansion, x: Tensor, labels: Tensor
) -> dict[str, Any]:
    """Right answers of functions side by side: clean, with random signs, attacked by each eps."""
    noisy = random_signs(x, settings.threat(settings.eps[0]))
    return {
        "clean": useful(functions, x, labels).correct.tolist(),
        "random": useful(functions, noisy, labels).correct.tolist(),
        "attacked": [
            robust(functions, x, labels, settings.threat(eps), dtype=torch.float32).correct.tolist()
            for eps in settings.eps
        ],
    }


def _held_out(
    settings: AdversarialKernelSettings, pair: Pair, seed: int, desk: Desk, piece: Piece
) -> dict[str, Any]:
    """How many features far down are useful, on many samples, and whether they are robust.

    Two controls: held-out labels shuffled, where whatever is found is chance; and training labels
    shuffled, where a feature keeps its direction and loses the sign that it learned.
    """
    task = pair_task(settings, pair, seed)
    fitted = predictor(settings, task)
    x, labels = held_out(settings, pair, seed, settings.size)
    count = learnable(fitted)
    beyond = min(BEYOND, count // 2)
    signs = feature_signs(fitted, x)
    y = (2 * labels - 1).double()
    correct = _right(signs, y)
    shares = Shares(correct, len(x))
    found = useful_features(shares)
    for index in range(count):
        desk.folder.append(
            {
                "cell": piece.name,
                **piece.key,
                "feature": index,
                "usefulness": float(shares.value[index]),
                "found": bool(found[index]),
            }
        )
    generator = torch.Generator().manual_seed(seed)
    chance, flipped = [], []
    own = _learned_signs(fitted, fitted.targets[:, 0])[:count]
    for _ in range(SHUFFLES):
        order = torch.randperm(len(y), generator=generator).to(y.device)
        again = Shares(_right(signs, y[order]), len(x))
        chance.append(int(useful_features(again)[beyond:].sum()))
        order = torch.randperm(len(fitted.targets), generator=generator).to(y.device)
        other = _learned_signs(fitted, fitted.targets[order, 0])[:count]
        turned = np.where((own == other).cpu().numpy(), correct, len(x) - correct)
        flipped.append(int(useful_features(Shares(turned, len(x)))[beyond:].sum()))
    desk.tell(0.6, "sets of features")
    far = np.flatnonzero(found[beyond:]) + beyond
    few = slice(min(settings.attacked, len(x)))
    threat = settings.threat(settings.eps[0])
    attacked: list[int] = []
    if len(far):
        best = far[np.argsort(-correct[far], kind="stable")][: settings.features]
        functions = fitted.each_feature(best.tolist())
        attacked = robust(
            functions, x[few], labels[few], threat, dtype=torch.float32
        ).correct.tolist()
    # Chosen on one half of the samples and tried on the other, or they would look better.
    half = len(x) // 2
    good = useful_features(Shares(_right(signs[:half], y[:half]), half))
    chosen = (np.flatnonzero(good[beyond:]) + beyond).tolist()
    sets = {
        f"first {settings.top}": list(range(min(settings.top, count))),
        f"all but the first {settings.top}": list(range(min(settings.top, count - 1), count)),
        f"from {beyond} on": list(range(beyond, count)),
        f"useful, from {beyond} on": chosen,
        f"the others from {beyond} on": sorted({*range(beyond, count)} - {*chosen}),
        "all": list(range(count)),
    }
    sets = {name: own for name, own in sets.items() if own}
    functions = fitted.each_set(sets.values())
    rest = slice(half, half + (settings.test_size or len(x)))
    return {
        "samples": len(x),
        "features": count,
        "beyond": beyond,
        "found": int(found.sum()),
        "found_beyond": len(far),
        "best_beyond": float(shares.value[beyond:].max()),
        "chance": chance,
        "training_shuffled": flipped,
        "attacked": len(x[few]),
        "robust": attacked,
        "sets": {
            "name": list(sets),
            "size": [len(own) for own in sets.values()],
            "of": len(x[rest]),
            "clean": useful(functions, x[rest], labels[rest]).correct.tolist(),
            "attacked": robust(
                functions, x[rest], labels[rest], threat, dtype=torch.float32
            ).correct.tolist(),
        },
    }


def feature_signs(fitted: KernelPredictor, x: Float[Tensor, "m ..."]) -> Float[Tensor, "m k"]:
    """Signs of all features at x, from the kernel in blocks of rows."""
    count = learnable(fitted)
    _, vectors = fitted.eigenpairs(range(count))
    directions = vectors * _learned_signs(fitted, fitted.targets[:, 0])[:count]
    with torch.no_grad():
        blocks = [
            (fitted.kernel(rows, fitted.inputs).double() @ directions).sign()
            for rows in x.split(_ROWS)
        ]
    return torch.cat(blocks)


def _right(signs: Float[Tensor, "m k"], y: Float[Tensor, "m"]) -> Int[ndarray, "k"]:
    """How often each feature has the sign of y; zero never has."""
    return ((y @ signs + (signs != 0).sum(0)) / 2).round().long().cpu().numpy()


def _learned_signs(fitted: KernelPredictor, targets: Float[Tensor, "P"]) -> Float[Tensor, "n"]:
    """Signs of v_i . y, which features take from the training targets."""
    return (fitted.eigenvectors.mT @ targets).sign()


def shares_of(correct: list[int] | Int[ndarray, "k"], total: int) -> Shares:
    """Counts as they stand in a record."""
    return Shares(np.asarray(correct, dtype=np.int64), total)
