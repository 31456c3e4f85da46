"""Attacks: records of stages that can be called, swept, joined and repeated."""

from jaxdefense.attacks.attack import Attack as Attack
from jaxdefense.attacks.combinators import at_radius as at_radius
from jaxdefense.attacks.combinators import restarts as restarts
from jaxdefense.attacks.combinators import strongest as strongest
from jaxdefense.attacks.noise import gaussian as gaussian
from jaxdefense.attacks.pgd import adam_pgd as adam_pgd
from jaxdefense.attacks.pgd import bim as bim
from jaxdefense.attacks.pgd import fgsm as fgsm
from jaxdefense.attacks.pgd import mifgsm as mifgsm
from jaxdefense.attacks.pgd import pgd as pgd
from jaxdefense.attacks.registry import REGISTRY as REGISTRY
from jaxdefense.attacks.registry import make as make
from jaxdefense.attacks.search import Cost as Cost
from jaxdefense.attacks.search import Goal as Goal
from jaxdefense.attacks.search import Probe as Probe
from jaxdefense.attacks.search import Reading as Reading
from jaxdefense.attacks.search import Search as Search
from jaxdefense.attacks.search import Stage as Stage
from jaxdefense.attacks.search import State as State
