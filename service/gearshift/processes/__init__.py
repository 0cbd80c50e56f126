"""Several serving processes behind one port, kept by one that does not serve.

The parent listens, hands each accepted connection to the process with the fewest, replaces what
dies and asks all for their pages. Each process has cores and workers of its own.
"""

from gearshift.processes.fleet import Fleet
from gearshift.processes.messages import Orders
from gearshift.processes.pages import Pages
from gearshift.processes.parent import Parent
from gearshift.processes.shares import Share, bind, divide, usable_cores, usable_workers
from gearshift.processes.supervisor import Post, Supervisor
from gearshift.processes.topology import topology
from gearshift.processes.total import Total

__all__ = [
    "Fleet",
    "Orders",
    "Pages",
    "Parent",
    "Post",
    "Share",
    "Supervisor",
    "Total",
    "bind",
    "divide",
    "topology",
    "usable_cores",
    "usable_workers",
]
