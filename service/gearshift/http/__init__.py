"""The HTTP side: metrics, health and a page for people, on a port and a thread of their own."""

from gearshift.http.app import create_app
from gearshift.http.server import HttpServer

__all__ = ["HttpServer", "create_app"]
