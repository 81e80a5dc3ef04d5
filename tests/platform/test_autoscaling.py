"""What a cluster's autoscaler can bring it to."""

import pytest

from genloom.errors import RequestError
from genloom_platform import autoscaling


def test_the_machines_are_those_that_the_cluster_tells(monkeypatch):
    monkeypatch.delenv(autoscaling.VARIABLE, raising=False)
    assert list(autoscaling.machines()) == []
    monkeypatch.setenv(autoscaling.VARIABLE, " CPU=4 + 2*CPU=8, GPU=1,accelerator_type:L4=1")
    large = {"CPU": 8.0, "GPU": 1.0, "accelerator_type:L4": 1.0}
    assert autoscaling.machines() == [{"CPU": 4.0}, large, large]
    assert autoscaling.total(autoscaling.machines()) == {"CPU": 20, "GPU": 2, "accelerator_type:L4": 2}


@pytest.mark.parametrize(
    "told", ["84 CPUs", "CPU", "many*CPU=8", "CPU=4+8*", "CPU=-1", "CPU=inf", "=4"]
)
def test_what_is_no_list_of_machines_is_told_with_what_is_one(monkeypatch, told):
    monkeypatch.setenv(autoscaling.VARIABLE, told)
    with pytest.raises(RequestError) as caught:
        autoscaling.machines()
    assert str(caught.value).startswith(f"GENLOOM_AUTOSCALES_TO = {told!r}: it tells the machines that")
    assert "as in CPU=4+10*CPU=8,GPU=1" in str(caught.value)
