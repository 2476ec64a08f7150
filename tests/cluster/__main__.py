"""`python3 -m tests.cluster up|down|obstacle`: the cluster that CLUSTER names (local, kind or existing), for `make`.

`up` does nothing if it runs already, `down` nothing if it does not. `obstacle` prints why there can be none and fails,
or prints nothing. Only `local` makes a cluster of this machine.
"""

from __future__ import annotations

import os
import sys

from hack.cache import locked
from hack.console import Stop
from tests.cluster import choice, existing, kind, local
from tests.cluster.processes import StartError

_CLUSTERS = {"local": local, "kind": kind, "existing": existing}


def main(action: str) -> None:
    name = choice.cluster(os.environ)
    if name not in _CLUSTERS or action in {"up", "obstacle"}:
        problem = choice.obstacle(name)
        if problem is not None:
            raise Stop(f"{problem}; the choices are root on Linux, CLUSTER=kind with Docker, or CLUSTER=existing")
    if action == "up":
        with locked("cluster"):
            _CLUSTERS[name].up()
    elif action == "down":
        with locked("cluster"):
            _CLUSTERS[name].down()


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except (Stop, StartError) as error:
        sys.exit(str(error))
