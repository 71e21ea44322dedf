"""How descent learns a teacher's directions near the end of training (Zhou & Ge 2024)."""

from ntkscale.theory.local_analysis.certificate import Certificate, certify, dual, great_circle
from ntkscale.theory.local_analysis.laws import Minimiser, minimiser
from ntkscale.theory.local_analysis.measures import FAR, Features, angles, measure
from ntkscale.theory.local_analysis.objective import Objective
from ntkscale.theory.local_analysis.population import Population
from ntkscale.theory.local_analysis.richness import MeanField
from ntkscale.theory.local_analysis.sampled import Sampled, draw_samples
from ntkscale.theory.local_analysis.stages import (
    Student,
    balance,
    descend,
    early_step,
    penalty,
    second_layer,
    symmetric_start,
)
from ntkscale.theory.local_analysis.tail import NAMES, Tail, tail
from ntkscale.theory.local_analysis.teacher import Teacher, draw_teacher, violated

__all__ = [
    "FAR",
    "NAMES",
    "Certificate",
    "Features",
    "MeanField",
    "Minimiser",
    "Objective",
    "Population",
    "Sampled",
    "Student",
    "Tail",
    "Teacher",
    "angles",
    "balance",
    "certify",
    "descend",
    "draw_samples",
    "draw_teacher",
    "dual",
    "early_step",
    "great_circle",
    "measure",
    "minimiser",
    "penalty",
    "second_layer",
    "symmetric_start",
    "tail",
    "violated",
]
