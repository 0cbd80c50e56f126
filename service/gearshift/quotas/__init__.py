"""Quotas from outside: the file that people write, the table that processes share."""

from gearshift.quotas.file import QuotaFile, read
from gearshift.quotas.table import Table

__all__ = ["QuotaFile", "Table", "read"]
