"""What features look like: gradients of their loss, and images that excite them.

Values in [0, 1], ready to be shown.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from ntkscale.robustness.expansion import Expansion
from ntkscale.robustness.predictor import KernelPredictor


def gradient_images(
    f: Expansion, x: Float[Tensor, "n ..."], labels: Int[Tensor, "n"]
) -> Float[Tensor, "n ..."]:
    """Gradient in x of the logistic loss (several outputs: cross-entropy), shifted to [0, 1].

    Each image is shifted and scaled by its own least and largest value; a zero gradient is grey.

    Raises:
        ValueError: labels that are not classes of f.

    Source: Tsilivis & Kempe 2022 (arXiv 2210.05577), the gradients of single features.
    """
    outputs, pull = f.pullback(x)
    labels = labels.to(outputs.device)
    classes = max(2, outputs.shape[1])
    if labels.shape != (len(x),) or not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise ValueError(
            f"labels must be one class of 0 to {classes - 1} an image, got shape "
            f"{tuple(labels.shape)}: number the classes from 0."
        )
    if outputs.shape[1] == 1:
        y = (2 * labels[:, None] - 1).to(outputs)
        cotangent = -y * torch.sigmoid(-y * outputs)
    else:
        cotangent = outputs.softmax(1) - F.one_hot(labels, classes)
    return _normalised(pull(cotangent)).to(x.dtype)


def feature_images(
    predictor: KernelPredictor,
    indices: Sequence[int],
    *,
    label: int = 1,
    steps: int = 600,
    step: float = 0.001,
    grey: float = 0.5,
) -> tuple[Float[Tensor, "k ..."], Float[Tensor, "k"]]:
    """Images in [0, 1] whose tangent features point along those of each eigenvector.

    From a grey image, sign steps up the cosine of J(x) with sum_j v_ij J(x_j),

        cos = Theta(x, X) v_i / sqrt(Theta(x, x) lambda_i P).

    Args:
        predictor: of one output, or of several that share a kernel.
        indices: of the features.
        label: 1 climbs towards the class of +1, 0 towards that of -1; of several outputs, along
            the eigenvector and against it.
        steps, step: 600 of .001 in the source.
        grey: of the first image.

    Returns:
        The images, and their cosines.

    Raises:
        ValueError: an index out of range or of an eigenvalue that is zero, a label other than 0
            and 1, or the joint kernel of a network of several outputs.

    Source: Loo et al. 2022 (arXiv 2210.12030).
    """
    count, (points, *shape) = len(indices), predictor.inputs.shape
    if label not in (0, 1):
        raise ValueError(f"label must be 0 or 1, got {label}.")
    if len(predictor.eigenvalues) != points:
        raise ValueError(
            "images are optimised for kernels of one output: give a network of one output, or a "
            "kernel that all outputs share."
        )
    values, vectors = predictor.eigenpairs(indices)
    if bool((values <= 0).any()):
        raise ValueError(
            "a feature of eigenvalue zero has no direction: leave out the last indices."
        )
    sign = float(2 * label - 1)
    if predictor.targets.shape[1] == 1:
        sign = sign * torch.where(vectors.mT @ predictor.targets < 0, -1.0, 1.0)[:, 0]
    functions = predictor.columns(vectors * sign / (values * points).sqrt())
    x = predictor.inputs.new_full((count, *shape), grey)
    for _ in range(steps):
        outputs, pull = functions.pullback(x)
        along = outputs.diagonal()
        squared, slope = _square_norm(predictor, x)
        each = torch.eye(count, dtype=outputs.dtype, device=x.device)
        # Up to a positive factor a sample, which no sign sees.
        climb = _times(squared, pull(each)) - _times(along / 2, slope)
        x = (x + step * climb.sign()).clamp(0, 1)
    with torch.no_grad():
        cosine = functions(x).diagonal() / _square_norm(predictor, x)[0].sqrt()
    return x, cosine


def _square_norm(
    predictor: KernelPredictor, x: Float[Tensor, "k ..."]
) -> tuple[Float[Tensor, "k"], Float[Tensor, "k ..."]]:
    """Theta(x, x) of every image and its gradient."""
    with torch.enable_grad():
        moved = x.detach().requires_grad_()
        values = predictor.kernel(moved, None).diagonal()
        (slopes,) = torch.autograd.grad(values.sum(), moved)
    return values.detach(), slopes


def _times(factors: Float[Tensor, "k"], images: Float[Tensor, "k ..."]) -> Float[Tensor, "k ..."]:
    return factors.to(images).reshape(-1, *[1] * (images.ndim - 1)) * images


def _normalised(images: Float[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
    flat = images.flatten(1)
    low, high = flat.amin(1, keepdim=True), flat.amax(1, keepdim=True)
    span = torch.where(high > low, high - low, 1.0)
    return torch.where(high > low, (flat - low) / span, 0.5).reshape(images.shape)
