"""The verbs as plain functions, in the order a model travels: the public Python API.

Each stage reads what the one before wrote and writes one JSON document: plan.json, quantized.json,
bundle/manifest.json, measurement.json, validation.json, report.json.
"""

from edgeq.workflow.analyze import Analyzed, analyze
from edgeq.workflow.compare import compare
from edgeq.workflow.device import deploy, host_key, probe, profile, trust
from edgeq.workflow.diagnosis import Diagnosis, diagnose
from edgeq.workflow.doctor import doctor
from edgeq.workflow.fleet import Watch, deploy_all, folder_of, profile_all, run_all, validate_all
from edgeq.workflow.history import export, plotted, since
from edgeq.workflow.plan import Checked, Wish, check, default_output, plan, read_model
from edgeq.workflow.quantize import Refused, build, holds, quantize
from edgeq.workflow.run import report, run
from edgeq.workflow.validate import validate

__all__ = [
    "Analyzed",
    "Checked",
    "Diagnosis",
    "Refused",
    "Watch",
    "Wish",
    "analyze",
    "build",
    "check",
    "compare",
    "default_output",
    "deploy",
    "deploy_all",
    "diagnose",
    "doctor",
    "export",
    "folder_of",
    "holds",
    "host_key",
    "plan",
    "plotted",
    "probe",
    "profile",
    "profile_all",
    "quantize",
    "read_model",
    "report",
    "run",
    "run_all",
    "since",
    "trust",
    "validate",
    "validate_all",
]
