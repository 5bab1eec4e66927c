"""Feature plans: how columns of a table become numbers for a model. Public data, equal on all nodes, the same for inference.

Nothing here takes a bound or a vocabulary from rows, and nothing opens a vault. One file per verb: what a plan may say
(`columns`, `label`, `plan`), how a file says it (`read`), where a first draft comes from (`draft`), what fits a data set (`fit`),
which plan an experiment names (`choose`). pyarrow is imported by `values` alone, when a batch comes.
"""

from aegis_flower.features.choose import CHOSEN as CHOSEN
from aegis_flower.features.choose import chosen as chosen
from aegis_flower.features.choose import plan_of as plan_of
from aegis_flower.features.choose import spec_of as spec_of
from aegis_flower.features.draft import Draft as Draft
from aegis_flower.features.draft import draft as draft
from aegis_flower.features.fit import check_promises as check_promises
from aegis_flower.features.fit import check_types as check_types
from aegis_flower.features.label import TASKS as TASKS
from aegis_flower.features.label import Label as Label
from aegis_flower.features.label import Weight as Weight
from aegis_flower.features.plan import Applied as Applied
from aegis_flower.features.plan import Plan as Plan
from aegis_flower.features.read import load as load
from aegis_flower.features.read import parse as parse
from aegis_flower.features.read import write as write

__all__ = [
    "CHOSEN",
    "TASKS",
    "Applied",
    "Draft",
    "Label",
    "Plan",
    "Weight",
    "check_promises",
    "check_types",
    "chosen",
    "draft",
    "load",
    "parse",
    "plan_of",
    "spec_of",
    "write",
]
