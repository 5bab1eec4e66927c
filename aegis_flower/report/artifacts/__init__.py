"""What a run leaves beside its report: the model, its plan, its card."""

from aegis_flower.report.artifacts.write import FEATURES as FEATURES
from aegis_flower.report.artifacts.write import files as files
from aegis_flower.report.artifacts.write import write_card as write_card
from aegis_flower.report.artifacts.write import write_model as write_model
