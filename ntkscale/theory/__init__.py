"""What theory says, in the arrays that networks produce: kernels, spectra and loss curves."""

from ntkscale.theory import dmft, infinite_width, scaling_model

__all__ = ["dmft", "infinite_width", "scaling_model"]
