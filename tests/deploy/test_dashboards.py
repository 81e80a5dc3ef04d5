"""Grafana's dashboards ask for what there is."""

import json
import re

import promql_parser
import pytest
from manifests import named, overlay

from genloom_platform.observe.metrics import LABELS

BOARDS = ("training", "sweeps")
VALUES = {"run": "digits", "sweep": "rates", "metric": "loss", "__range": "1h"}


def board(root, name):
    return json.loads((root / f"deploy/grafana/{name}.json").read_text())


def queries(dashboard):
    for panel in dashboard["panels"]:
        yield from ((panel["title"], target["expr"]) for target in panel["targets"])


def selectors(node):
    """(metric, labels) of all that a parsed query reads."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node.name, {match.name for match in node.matchers.matchers}
    for part in ("expr", "lhs", "rhs", "vector_selector", "param"):
        if (inner := getattr(node, part, None)) is not None:
            yield from selectors(inner)
    for inner in getattr(node, "args", None) or []:
        yield from selectors(inner)


def filled(query):
    return re.sub(r"\$(\w+)", lambda found: VALUES[found[1]], query)


@pytest.fixture(scope="module")
def emitted(root):
    """The metrics of runs and of Ray's nodes, as Prometheus shows them, with the labels of ours."""
    import ray
    from ray.dashboard.modules.reporter import reporter_agent

    ours = (root / "platform/src/genloom_platform/observe/metrics.py").read_text()
    found = {}
    for kind, name, rest in re.findall(r'(Gauge|Counter)\(\s*"(\w+)",([^)]*\)?)', ours):
        extra = set(re.findall(r'"(\w+)"\)', rest))
        found[f"ray_{name}{'_total' if kind == 'Counter' else ''}"] = {*LABELS, *extra}
    assert len(found) == 8
    for name in reporter_agent.METRICS_GAUGES:
        found[f"ray_{name}"] = None
    # These two Ray counts in C++; its own dashboards name them.
    theirs = f"{ray.__path__[0]}/dashboard/modules/metrics/dashboards/default_dashboard_panels.py"
    with open(theirs) as file:
        text = file.read()
    for name in ("ray_resources", "ray_placement_groups"):
        assert f"{name}{{" in text
        found[name] = None
    return found


@pytest.mark.parametrize("name", BOARDS)
def test_every_query_parses_and_asks_for_metrics_and_labels_that_there_are(root, name, emitted):
    asked = set()
    for title, query in queries(board(root, name)):
        for metric, labels in selectors(promql_parser.parse(filled(query))):
            assert metric in emitted, title
            assert emitted[metric] is None or labels <= emitted[metric], title
            asked.add(metric)
    if name == "training":
        assert {metric for metric, labels in emitted.items() if labels is not None} <= asked


def test_a_query_that_is_broken_does_not_parse():
    with pytest.raises(ValueError, match="unclosed"):
        promql_parser.parse("sum by (run (ray_genloom_train_step)")
    assert list(selectors(promql_parser.parse('sum(rate(a{b="c"}[5m])) / d'))) == [
        ("a", {"b"}),
        ("d", set()),
    ]


@pytest.mark.parametrize("name", BOARDS)
def test_every_variable_that_is_asked_by_is_a_dashboards_own(root, name):
    dashboard = board(root, name)
    names = {variable["name"] for variable in dashboard["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(dashboard["panels"]))) - {"__range"}
    assert used <= names
    assert names - {"datasource"} <= used


@pytest.mark.parametrize("name", BOARDS)
def test_panels_lie_beside_each_other_and_have_numbers_of_their_own(root, name):
    panels = board(root, name)["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24


def test_a_sweeps_trials_are_found_by_their_runs_names(root):
    from genloom_platform.sweep.records import run_name

    variables = {v["name"]: v for v in board(root, "sweeps")["templating"]["list"]}
    pattern = variables["sweep"]["regex"].strip("/")
    assert re.fullmatch(pattern, run_name("learning-rates", 7))[1] == "learning-rates"
    assert not re.fullmatch(pattern, "digits")


def test_every_dashboard_reaches_grafana(root):
    files = {path.name for path in (root / "deploy/grafana").glob("*.json")}
    maps = [thing for thing in overlay("aws") if thing["metadata"]["name"].startswith("grafana-")]
    assert {key for thing in maps for key in thing["data"]} == files
    assert {thing["metadata"]["labels"]["grafana_dashboard"] for thing in maps} == {"1"}


def test_prometheus_of_a_helm_release_sees_the_monitors():
    for kind in ("PodMonitor", "ServiceMonitor"):
        assert named(overlay("aws"), kind)["metadata"]["labels"]["release"] == "kube-prometheus-stack"


def test_prometheus_reads_the_port_that_rays_pods_name():
    objects = overlay("aws")
    (endpoint,) = named(objects, "PodMonitor")["spec"]["podMetricsEndpoints"]
    cluster = named(objects, "RayCluster")["spec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        ports = group["template"]["spec"]["containers"][0]["ports"]
        assert {"name": endpoint["port"], "containerPort": 8080} in ports
