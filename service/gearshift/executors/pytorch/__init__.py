"""The PyTorch executor (extra `torch`)."""

from gearshift.executors.pytorch.executor import TorchExecutor, installed, rehearse

__all__ = ["TorchExecutor", "installed", "rehearse"]
