"""The configuration of an experiment: its dataclasses, their bounds and checks, and Hydra's tree of YAML beside them.

A key is a field in `schema` and a line in the YAML of its group. Import it as `aegis_flower.configs`, a link to this folder.
"""

from aegis_flower.configs.check import parse_loss as parse_loss
from aegis_flower.configs.composition import compose as compose
from aegis_flower.configs.composition import explain_hydra as explain_hydra
from aegis_flower.configs.composition import from_hydra as from_hydra
from aegis_flower.configs.composition import register_schema as register_schema
from aegis_flower.configs.config import Config as Config
from aegis_flower.configs.config import from_dict as from_dict
from aegis_flower.configs.privacy_group import PrivacyConfig as PrivacyConfig
from aegis_flower.configs.rules import OPTIMISERS as OPTIMISERS
from aegis_flower.configs.rules import ROBUST as ROBUST
from aegis_flower.configs.run_config import CARRIED as CARRIED
from aegis_flower.configs.run_config import EXPERIMENT as EXPERIMENT
from aegis_flower.configs.run_config import OUTPUT as OUTPUT
from aegis_flower.configs.run_config import OVERRIDES as OVERRIDES
from aegis_flower.configs.run_config import carry as carry
from aegis_flower.configs.run_config import from_run_config as from_run_config
from aegis_flower.configs.run_config import overrides_from_run_config as overrides_from_run_config
from aegis_flower.configs.schema import DataConfig as DataConfig
from aegis_flower.configs.schema import EarlyStopConfig as EarlyStopConfig
from aegis_flower.configs.schema import EvaluationConfig as EvaluationConfig
from aegis_flower.configs.schema import ModelConfig as ModelConfig
from aegis_flower.configs.schema import PolicyConfig as PolicyConfig
from aegis_flower.configs.schema import RuntimeConfig as RuntimeConfig
from aegis_flower.configs.schema import ScheduleConfig as ScheduleConfig
from aegis_flower.configs.schema import SecaggConfig as SecaggConfig
from aegis_flower.configs.schema import StrategyConfig as StrategyConfig
from aegis_flower.configs.schema import SweepConfig as SweepConfig
from aegis_flower.configs.schema import TrackingConfig as TrackingConfig
from aegis_flower.configs.schema import VaultConfig as VaultConfig
