"""What theory says, in the arrays that networks produce: kernels, spectra and loss curves."""

from ntkscale.theory import arc_cosine, scaling_model

__all__ = ["arc_cosine", "scaling_model"]
