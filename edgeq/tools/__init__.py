"""External compilers, each in a virtual environment of its own, driven as a subprocess.

Their pins contradict one another and edgeq's, so nothing of them is imported here: `install` makes the environment,
`find` says where it is, and `run` is the one choke point through which outside programs are started.
"""

from edgeq.tools.environments import Status, Tool, find, folder, recipe, remove, status, statuses
from edgeq.tools.installing import install
from edgeq.tools.running import Finished, last_line, program, run
from edgeq.tools.table import TABLE, Recipe

__all__ = [
    "TABLE",
    "Finished",
    "Recipe",
    "Status",
    "Tool",
    "find",
    "folder",
    "install",
    "last_line",
    "program",
    "recipe",
    "remove",
    "run",
    "status",
    "statuses",
]
