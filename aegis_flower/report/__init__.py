"""The report of a run or a sweep: its facts, its words, its pages and files. Nothing here decides anything."""

from aegis_flower.report.model import NOT_PRIVATE as NOT_PRIVATE
from aegis_flower.report.model import AuditReport as AuditReport
from aegis_flower.report.model import ClientReport as ClientReport
from aegis_flower.report.model import ConfigReport as ConfigReport
from aegis_flower.report.model import EvaluationReport as EvaluationReport
from aegis_flower.report.model import LostClient as LostClient
from aegis_flower.report.model import MeasuredReport as MeasuredReport
from aegis_flower.report.model import MechanismReport as MechanismReport
from aegis_flower.report.model import Refusal as Refusal
from aegis_flower.report.model import ResultsReport as ResultsReport
from aegis_flower.report.model import RoundReport as RoundReport
from aegis_flower.report.model import RoundSeconds as RoundSeconds
from aegis_flower.report.model import RunInfo as RunInfo
from aegis_flower.report.model import RunReport as RunReport
from aegis_flower.report.model import SecAggReport as SecAggReport
from aegis_flower.report.model import TimingsReport as TimingsReport
from aegis_flower.report.model import VersionsReport as VersionsReport
from aegis_flower.report.terminal import print_report as print_report
from aegis_flower.report.write import HTML_NAME as HTML_NAME
from aegis_flower.report.write import JSON_NAME as JSON_NAME
from aegis_flower.report.write import ReportPaths as ReportPaths
from aegis_flower.report.write import load_report as load_report
from aegis_flower.report.write import write_report as write_report
from aegis_flower.report.write import write_reports as write_reports

__all__ = [
    "AuditReport",
    "ClientReport",
    "ConfigReport",
    "EvaluationReport",
    "LostClient",
    "MechanismReport",
    "Refusal",
    "ReportPaths",
    "ResultsReport",
    "RoundReport",
    "RoundSeconds",
    "RunInfo",
    "RunReport",
    "SecAggReport",
    "TimingsReport",
    "VersionsReport",
    "load_report",
    "print_report",
    "write_report",
    "write_reports",
]
