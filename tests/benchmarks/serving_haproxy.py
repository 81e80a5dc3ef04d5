"""A model of the benchmark's behind HAProxy, in a process of its own: Ray Serve is told at its import.

python serving_haproxy.py MODEL PORT: tells when it answers, and ends when its standard input does.
"""

import sys

import ray
from benchmarks import serving_models

from genloom_platform.serve import launch, wanted
from genloom_platform.serve.sources import Given, Source


def main() -> None:
    model, port = sys.argv[1], int(sys.argv[2])
    ray.cloudpickle.register_pickle_by_value(serving_models)
    name = f"{model}@1"
    values = {"models": [{"model": name}], "port": port, "ingress": "haproxy"}
    shelf = Given({name: Source(name, serving_models.MODELS[model], 0)})
    print("answers at", launch.start_shelf(wanted.checked(values, "the benchmark"), shelf), flush=True)
    sys.stdin.read()
    launch.stop()
    ray.shutdown()


if __name__ == "__main__":
    main()
