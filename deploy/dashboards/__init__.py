"""The Grafana dashboards as code: `python -m deploy.dashboards` writes their JSON.

Made of the types of Grafana's own foundation SDK, so that mypy knows every key. Nothing of them
is edited by hand: what is changed in Grafana is lost with the next release of the chart.
"""
