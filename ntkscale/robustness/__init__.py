"""Adversarial robustness of given functions: attacks and kernel features; it never trains.

Labels are class indices. A model is any callable x (n, ...) -> (n, C), or (n, 1) or (n,) for two
classes; one that offers `pullback` is differentiated in closed form.

Attacks
    Threat               the ball and the range that an attack stays in, exactly
    fgsm                 one step to the edge of the ball
    pgd                  small steps, clipped to ball and range
    apgd                 Auto-PGD: momentum, and a step that halves itself
    random_signs         the control: a change of equal size that knows nothing of the model
    loss_gradient        outputs and the gradient of a loss in the inputs
    per_sample_loss      the losses by name: margin, cross-entropy, dlr, mse
    correct              which samples get their class
    robust_accuracy      accuracy under an attack, with an exact interval
    sanity_checks        signs that an attack fails for reasons of its own

Kernels (callables, and functions f(x) = sum_j K(x, x_j) alpha_j with their gradient in x)
    InfiniteWidthKernel  of a fully connected network; ReLU's gradient in closed form
    InfiniteWidthCNNKernel  of a convolutional network, by autograd
    NetworkKernel        the empirical one of any module, of all its outputs
    KernelPredictor      what a kernel learns by any time, and its split into features
    Expansion            such a function: outputs, pullback, jacobian

Features of a kernel
    useful, robust       shares of right answers of many features at once, clean and attacked
    Shares               those, with exact intervals
    useful_features      which exceed chance, at a false-discovery rate
    rank_correlation     Spearman's, of index and robustness
    cumulative_accuracy  the leading features as classifiers
    gradient_images      the gradient of a feature's loss as an image
    feature_images       images optimised towards a feature
    feature_consistency  the same features in other kernels: overlap of eigenspaces, correlation
    subspace_overlap, principal_angles

Transfer
    transfer             accuracy under attacks made on other models, with controls
    gradient_cosine      do the gradients of two models agree
"""

from ntkscale.robustness.apgd import apgd
from ntkscale.robustness.attack_losses import correct, per_sample_loss
from ntkscale.robustness.consistency import (
    FeatureConsistency,
    feature_consistency,
    principal_angles,
    subspace_overlap,
)
from ntkscale.robustness.controls import random_signs
from ntkscale.robustness.expansion import Expansion
from ntkscale.robustness.features import CumulativeAccuracy, cumulative_accuracy
from ntkscale.robustness.fgsm import fgsm
from ntkscale.robustness.infinite_kernel import InfiniteWidthCNNKernel, InfiniteWidthKernel
from ntkscale.robustness.loss_gradient import Model, loss_gradient
from ntkscale.robustness.network_kernel import NetworkKernel
from ntkscale.robustness.pgd import pgd
from ntkscale.robustness.predictor import KernelPredictor
from ntkscale.robustness.robust_accuracy import RobustAccuracy, robust_accuracy
from ntkscale.robustness.sanity import sanity_checks
from ntkscale.robustness.shares import RankCorrelation, Shares, rank_correlation, useful_features
from ntkscale.robustness.threat import Threat
from ntkscale.robustness.transfer import Mean, Transfer, gradient_cosine, transfer
from ntkscale.robustness.usefulness import robust, useful
from ntkscale.robustness.visualise import feature_images, gradient_images

__all__ = [
    "CumulativeAccuracy",
    "Expansion",
    "FeatureConsistency",
    "InfiniteWidthCNNKernel",
    "InfiniteWidthKernel",
    "KernelPredictor",
    "Mean",
    "Model",
    "NetworkKernel",
    "RankCorrelation",
    "RobustAccuracy",
    "Shares",
    "Threat",
    "Transfer",
    "apgd",
    "correct",
    "cumulative_accuracy",
    "feature_consistency",
    "feature_images",
    "fgsm",
    "gradient_cosine",
    "gradient_images",
    "loss_gradient",
    "per_sample_loss",
    "pgd",
    "principal_angles",
    "random_signs",
    "rank_correlation",
    "robust",
    "robust_accuracy",
    "sanity_checks",
    "subspace_overlap",
    "transfer",
    "useful",
    "useful_features",
]
