"""What theory says, in the arrays that networks produce: kernels, spectra and loss curves."""

from ntkscale.theory import infinite_width, scaling_model

__all__ = ["infinite_width", "scaling_model"]
