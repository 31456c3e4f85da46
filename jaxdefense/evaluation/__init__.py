"""Measuring: robust accuracy over a grid of radii, intervals, and what makes a number suspect."""

from jaxdefense.evaluation.robustness import Evaluations as Evaluations
from jaxdefense.evaluation.robustness import Robustness as Robustness
from jaxdefense.evaluation.robustness import interval as interval
from jaxdefense.evaluation.store import recall as recall
from jaxdefense.evaluation.sweep import sweep as sweep
