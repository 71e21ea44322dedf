"""The command line over `ntkscale.experiments`: no science, no numerics."""
