"""The executor `triton`: any server of the Open Inference Protocol as a pool of workers."""

from gearshift.executors.remote.executor import RemoteExecutor

__all__ = ["RemoteExecutor"]
