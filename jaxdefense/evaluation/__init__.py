"""Measuring: robust accuracy over a grid of radii, intervals, and what makes a number suspect."""

from jaxdefense.evaluation.autoattack import AutoAttack as AutoAttack
from jaxdefense.evaluation.autoattack import autoattack as autoattack
from jaxdefense.evaluation.certificates import Certificate as Certificate
from jaxdefense.evaluation.certificates import certify as certify
from jaxdefense.evaluation.expense import Latency as Latency
from jaxdefense.evaluation.expense import flops as flops
from jaxdefense.evaluation.expense import latency as latency
from jaxdefense.evaluation.expense import parameters as parameters
from jaxdefense.evaluation.gradients import Amplitude as Amplitude
from jaxdefense.evaluation.gradients import gradient_amplitude as gradient_amplitude
from jaxdefense.evaluation.landscape import Surface as Surface
from jaxdefense.evaluation.landscape import loss_surface as loss_surface
from jaxdefense.evaluation.reliability import Check as Check
from jaxdefense.evaluation.reliability import reliability as reliability
from jaxdefense.evaluation.robustness import Evaluations as Evaluations
from jaxdefense.evaluation.robustness import Robustness as Robustness
from jaxdefense.evaluation.robustness import interval as interval
from jaxdefense.evaluation.static import Crafted as Crafted
from jaxdefense.evaluation.static import StaticAccuracy as StaticAccuracy
from jaxdefense.evaluation.static import craft as craft
from jaxdefense.evaluation.store import recall as recall
from jaxdefense.evaluation.sweep import sweep as sweep
