"""The empirical neural tangent kernel of any ``nn.Module``, and what one measures on a kernel.

The kernel is the plain ``J J^T`` of the outputs' Jacobian with respect to the parameters; no
factor of width, richness or number of outputs is put in.

Kernels
    gram                 the kernel on one or two sets of inputs: traced, diagonal, full
    gram_by_parameter    the kernel of every parameter in one pass; their sum is the kernel
    plan                 what `gram` would do, its work, memory and time, before doing it
    verify               the damaged blocks of a kernel on disk (`gram(out=path)`)
    operator             the kernel as an operator that is never formed: products, leading
                         eigenpairs, trace, spectral density
    unwrap               the module under the wrappers of compilation and data parallelism

Measures (plain arrays in, plain numbers out; autograd goes through them)
    kernel_distance      1 - <K1, K2> / (|K1| |K2|), the distance S between two kernels' shapes
    kernel_change        |K2 - K1| / |K1|
    alignment            <K, Y Y^T> / (|K| |Y Y^T|)
    effective_rank       (tr K)^2 / tr K^2
    trace                sum of the diagonal
    eigensystem          eigenvalues, largest first, and eigenvectors with a fixed sign
    fix_signs            that sign, for eigenvectors from elsewhere
    target_power         squared target coefficient on each eigenvector, per sample

Eigenspaces (kernels traced over outputs or full; float64 out)
    trace_share          share of the trace in the leading eigenvalues
    squared_share        share of the squared eigenvalues in the leading ones
    eigenspace_part      the part of a kernel in its leading or last eigenspaces
    centred              the kernel of features less their mean over the samples
    polar                the path of a kernel as radius and angle

For any symmetric positive semi-definite operator, given as a function that multiplies by it
    largest_eigenvalues  block Lanczos, with a residual for every pair
    estimate_trace       Hutch++, with an interval
    spectral_density     stochastic Lanczos quadrature, with intervals
"""

from ntkscale.ntk.eigenspaces import (
    centred,
    eigenspace_part,
    polar,
    squared_share,
    trace_share,
)
from ntkscale.ntk.forward import unwrap
from ntkscale.ntk.kernel import gram, gram_by_parameter
from ntkscale.ntk.kernel_operator import KernelOperator
from ntkscale.ntk.matrix_free import operator
from ntkscale.ntk.measures import (
    alignment,
    effective_rank,
    kernel_change,
    kernel_distance,
    trace,
)
from ntkscale.ntk.plan import KernelPlan, ParameterPlan, plan
from ntkscale.ntk.spectrum.density import SpectralDensity, spectral_density
from ntkscale.ntk.spectrum.eigen import eigensystem, fix_signs, target_power
from ntkscale.ntk.spectrum.hutchpp import estimate_trace
from ntkscale.ntk.spectrum.interval import Estimate
from ntkscale.ntk.spectrum.lanczos import EigenPairs, largest_eigenvalues
from ntkscale.ntk.tiles import verify

__all__ = [
    "EigenPairs",
    "Estimate",
    "KernelOperator",
    "KernelPlan",
    "ParameterPlan",
    "SpectralDensity",
    "alignment",
    "centred",
    "effective_rank",
    "eigenspace_part",
    "eigensystem",
    "estimate_trace",
    "fix_signs",
    "gram",
    "gram_by_parameter",
    "kernel_change",
    "kernel_distance",
    "largest_eigenvalues",
    "operator",
    "plan",
    "polar",
    "spectral_density",
    "squared_share",
    "target_power",
    "trace",
    "trace_share",
    "unwrap",
    "verify",
]
