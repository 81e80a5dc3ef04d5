"""An endpoint behind HAProxy, in a process of its own: Ray Serve reads what this sets when it is imported.

python haproxy_endpoint.py PORT: tells when it answers, and ends when its standard input does.
"""

import sys

import ray
import serve_toys as toys

from genloom_platform.serve import launch, wanted
from genloom_platform.serve.sources import Given, Source

SOURCES = [Source("drawer@1", toys.drawer, 1700000000), Source("teller@4", toys.teller, 1700000000)]


def main() -> None:
    ray.cloudpickle.register_pickle_by_value(toys)
    models = [{"model": each.name, "cpus": 0.1} for each in SOURCES]
    values = {"models": models, "port": int(sys.argv[1]), "ingress": "haproxy"}
    shelf = Given({each.name: each for each in SOURCES})
    print("answers at", launch.start_shelf(wanted.checked(values, "the test"), shelf), flush=True)
    sys.stdin.read()
    launch.stop()
    ray.shutdown()


if __name__ == "__main__":
    main()
