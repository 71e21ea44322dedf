"""What theory says, in the arrays that networks produce: kernels, spectra and loss curves."""

from ntkscale.theory import (
    dmft,
    infinite_width,
    local_analysis,
    partially_trained,
    scaling_model,
)

__all__ = ["dmft", "infinite_width", "local_analysis", "partially_trained", "scaling_model"]
