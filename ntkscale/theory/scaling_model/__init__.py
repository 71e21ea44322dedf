"""The solvable model of feature learning and scaling laws (Bordelon, Atanasov & Pehlevan 2024)."""

from ntkscale.theory.scaling_model.spectrum import Spectrum, measured, power_law

__all__ = ["Spectrum", "measured", "power_law"]
