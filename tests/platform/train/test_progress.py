"""What is said of a report, and to whom."""

import pytest

from genloom_platform.config import RunConfig
from genloom_platform.store import Store
from genloom_platform.sweep.alone import Silent
from genloom_platform.train.progress import Report, figures
from genloom_platform.train.worker import Job, Rank


def test_a_report_is_told_by_its_newest_step_and_its_pace():
    report = Report(20, [{"loss": 0.5}, {"loss": 0.123456, "accuracy": 1.0}], 1234.5, {})
    assert figures(report) == "loss 0.1235  accuracy 1  1,234 rows/s"
    assert figures(Report(20, [], 12, {})) == "12 rows/s"


@pytest.mark.parametrize(("rank", "said"), [
    (0, "step 1,020/2,000  loss 0.125  64 rows/s\n"), (1, ""),
])  # fmt: skip
def test_the_first_worker_alone_writes_each_report_to_its_log(tmp_path, capsys, rank, said):
    config = RunConfig(generator={"name": "example"}, data="digits", steps=2000)
    job = Job(
        Store(tmp_path.as_uri()), "one", config, "digits@0", inbox=None, attempt=1, workers=2, step=0
    )
    one = Rank(job, rank, lambda stream, number: iter(()), Silent())
    assert one._report(None, Report(1020, [{"loss": 0.125}], 64.0, {})) is False
    assert capsys.readouterr().out == said
