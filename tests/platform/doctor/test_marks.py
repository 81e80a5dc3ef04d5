"""Whether all machines of a cluster have the same store."""

import ray

from genloom_platform.doctor import marks
from genloom_platform.store import Store


def machine(node, address):
    return {"NodeID": node, "NodeManagerAddress": address, "Alive": True}


def test_a_machine_that_has_gone_since_it_was_listed_ends_no_training(
    ray_cluster, monkeypatch, tmp_path
):
    monkeypatch.setattr(ray, "nodes", lambda: [machine("ab" * 28, "10.0.0.9")])
    store = Store(tmp_path.as_uri())
    with marks.others_look(store):
        assert len(store.names(marks.FOLDER)) == 1
    assert store.names(marks.FOLDER) == []
