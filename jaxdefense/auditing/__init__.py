"""The audit: what a strict reviewer would say of a defence, with the evidence."""

from jaxdefense.auditing.audit import audit as audit
from jaxdefense.auditing.budgets import BUDGETS as BUDGETS
from jaxdefense.auditing.budgets import Budget as Budget
from jaxdefense.auditing.claims import Claim as Claim
from jaxdefense.auditing.claims import Verdict as Verdict
from jaxdefense.auditing.defence import Defence as Defence
from jaxdefense.auditing.result import Audit as Audit
from jaxdefense.auditing.result import Outcome as Outcome
