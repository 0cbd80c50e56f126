"""Workers in processes of their own: what crashes there takes one batch with it, not the server."""

from gearshift.executors.isolated.executor import IsolatedExecutor

__all__ = ["IsolatedExecutor"]
