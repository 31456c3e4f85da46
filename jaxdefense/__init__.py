"""Does this defence really make a classifier robust? Attacks, sweeps and audits in JAX."""

from jaxdefense import attacks as attacks
from jaxdefense import losses as losses
from jaxdefense.auditing import Defence as Defence
from jaxdefense.auditing import audit as audit
from jaxdefense.classifiers import Frozen as Frozen
from jaxdefense.classifiers import Normalized as Normalized
from jaxdefense.classifiers import Purified as Purified
from jaxdefense.classifiers import Randomized as Randomized
from jaxdefense.classifiers import Tempered as Tempered
from jaxdefense.convolutions import canonicalize as canonicalize
from jaxdefense.evaluation import Robustness as Robustness
from jaxdefense.evaluation import autoattack as autoattack
from jaxdefense.evaluation import craft as craft
from jaxdefense.evaluation import sweep as sweep
from jaxdefense.geometry import Ball as Ball
from jaxdefense.geometry import l1 as l1
from jaxdefense.geometry import l2 as l2
from jaxdefense.geometry import linf as linf
from jaxdefense.pixels import l0 as l0
from jaxdefense.programs import use_compilation_cache as use_compilation_cache
from jaxdefense.surrogates import bfloat16 as bfloat16
from jaxdefense.surrogates import bpda as bpda
from jaxdefense.surrogates import diverse as diverse
from jaxdefense.surrogates import ensemble as ensemble
from jaxdefense.surrogates import eot as eot
from jaxdefense.typing import example_keys as example_keys

__version__ = "0.1.0"
