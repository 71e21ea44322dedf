"""Architectures in one richness parameterization.

Every network computes f = w . phi(h) / (gamma0 N), minus its value at initialisation, learns by
dtheta/dt = -gamma^2 grad L with gamma = gamma0 sqrt(N), and so has a tangent kernel
K = gamma^2 df/dtheta . df'/dtheta of order one at any width N and richness gamma0.
"""

from ntkscale.networks.activations import Activation, activation
from ntkscale.networks.cnn import CNN
from ntkscale.networks.mlp import MLP
from ntkscale.networks.network import Network
from ntkscale.networks.parameterization import Parameterization
from ntkscale.networks.resnet import ResNet
from ntkscale.networks.resnet20 import ResNet20

__all__ = [
    "CNN",
    "MLP",
    "Activation",
    "Network",
    "Parameterization",
    "ResNet",
    "ResNet20",
    "activation",
]
