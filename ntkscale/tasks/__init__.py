"""What networks are asked to learn, each task with what is known about it beforehand."""

from ntkscale.tasks.arrays import arrays
from ntkscale.tasks.circle import circle, circle_beta, circle_q
from ntkscale.tasks.images import images
from ntkscale.tasks.sources import DataSet
from ntkscale.tasks.targets import centred_one_hot, class_targets
from ntkscale.tasks.task import Loss, Task
from ntkscale.tasks.two_xor import two_xor

__all__ = [
    "DataSet",
    "Loss",
    "Task",
    "arrays",
    "centred_one_hot",
    "circle",
    "circle_beta",
    "circle_q",
    "class_targets",
    "images",
    "two_xor",
]
