"""Reads what a running Prometheus has recorded; the page that it scrapes is telemetry's."""
