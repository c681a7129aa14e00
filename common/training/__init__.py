"""Training of all models: loop, checkpoints, processes."""

from common.training.engine import LossFunction, learning_rate_factor
from common.training.launch import is_main, launch
from common.training.loop import Curve, best_by, fit
from common.training.parts import WHOLE, Part
from common.training.speed import data_wait

__all__ = [
    "WHOLE",
    "Curve",
    "LossFunction",
    "Part",
    "best_by",
    "data_wait",
    "fit",
    "is_main",
    "launch",
    "learning_rate_factor",
]
