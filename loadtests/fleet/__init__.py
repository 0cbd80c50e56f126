"""Replicas of the server as Kubernetes would run them: plain processes on addresses of their own,
driven by the Deployment's own probes, hooks and signals; behind a real Envoy or a balanced channel.
"""
