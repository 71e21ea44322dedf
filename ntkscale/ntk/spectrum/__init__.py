"""Spectra of any symmetric positive semi-definite operator, dense or given by its products.

eigen       dense eigensystem, the sign of eigenvectors, a target's power along them
lanczos     leading eigenpairs (block Lanczos), a residual for every pair
hutchpp     trace (Hutch++), with an interval
density     spectral density (stochastic Lanczos quadrature), with intervals
krylov, quadrature, interval   what these share
"""
