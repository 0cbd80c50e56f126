"""The ONNX Runtime executor."""

from gearshift.executors.onnx.executor import OnnxExecutor
from gearshift.executors.onnx.session import DATATYPES, rehearse

__all__ = ["DATATYPES", "OnnxExecutor", "rehearse"]
