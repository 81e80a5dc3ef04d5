"""Which replicas a cluster has no node for."""

import pytest

from genloom_platform.serve import placement, wanted

SMALL, LARGE = {"CPU": 4.0}, {"CPU": 2.0, "GPU": 2.0, "accelerator_type:L4": 1.0}


@pytest.mark.parametrize(
    ("room", "more", "said"),
    [
        ({"cpus": 4}, [], None),
        ({"cpus": 2, "gpus": 2, "resources": {"accelerator_type:L4": 0.001}}, [], None),
        ({"cpus": 0, "gpus": 0.25}, [], None),
        ({"cpus": 5}, [], "takes 5 CPU of one node, and no node has that (at most 4 CPU)"),
        # No node has both, though the cluster does.
        (
            {"cpus": 4, "gpus": 1},
            [],
            "takes 4 CPU, 1 GPU of one node, and no node has that (at most 4 CPU, 2 GPU)",
        ),
        ({"resources": {"accelerator_type:H100": 0.001}}, [], "at most 4 CPU, 0 accelerator_type:H100"),
        # A machine that an autoscaler can bring counts as one that is there.
        ({"cpus": 8}, [{"CPU": 8.0}], None),
        ({"cpus": 8, "gpus": 1}, [{"CPU": 8.0}], "takes 8 CPU, 1 GPU"),
    ],
)
def test_a_replica_needs_one_node_that_has_all_it_takes(room, more, said):
    alone = wanted.checked({"models": [{"model": "a", **room}]}, "here")
    pool = wanted.checked({"models": [{"model": "a", "pool": "p"}], "pools": {"p": room}}, "here")
    for whose, asked in (("a", alone), ("pools.p", pool)):
        found = placement.lacking(placement.rooms(asked), [SMALL, LARGE, *more])
        assert (found is None) is (said is None)
        if said:
            assert found.startswith(f"{whose}: a replica ")
            assert said in found
