"""Curvature of a trained network's loss: matrix products, Lanczos iteration, quadrature."""
