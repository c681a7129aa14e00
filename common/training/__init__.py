"""Training of all models: loop, checkpoints, processes."""

from common.training.engine import WHOLE, LossFunction, Part, learning_rate_factor
from common.training.launch import is_main, launch
from common.training.loop import Curve, best_by, fit

__all__ = ["WHOLE", "Curve", "LossFunction", "Part", "best_by", "fit", "is_main", "launch", "learning_rate_factor"]
