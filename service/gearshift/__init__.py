"""gearshift serves each request from the most accurate model variant its latency budget allows."""

__version__ = "0.1.0"
