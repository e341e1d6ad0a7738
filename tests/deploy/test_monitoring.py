"""Alert rules and dashboard: each names metrics and labels that a daemon has, and promtool takes all expressions."""

import contextlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

import lib_usm
from tests.support.daemon import running_daemon
from tests.support.scraping import ask, families, metrics_of

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
RULES = yaml.safe_load((DEPLOY / "usmd-alerts.yml").read_text())
DASHBOARD = json.loads((DEPLOY / "usmd-dashboard.json").read_text())
ALERTS = [rule for group in RULES["groups"] for rule in group["rules"]]
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
METRIC = re.compile(r"\b((?:usmd|process)_\w+|up)\b(?:\{([^}]*)\})?")
LABEL = re.compile(r'(\w+)\s*=~?\s*"([^"]*)"')
BY_PROMETHEUS = {"job", "instance"}


def expressions():
    found = [(rule["alert"], rule["expr"]) for rule in ALERTS]
    found += [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]
    variables = DASHBOARD["templating"]["list"]
    return [*found, *((each["name"], each["definition"]) for each in variables if "definition" in each)]


def as_rule(expression):
    """An expression of a panel as Prometheus gets it from Grafana."""
    return expression.replace("$__rate_interval", "5m").replace("$job", "usmd").replace("$instance", ".*")


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    """Each sample's name, and the values of its labels, of a daemon whose memory has been short."""
    numbers = "max_regions = 9\nmax_hint_ranges = 9\nmax_faults = 9\nmemory_weight = 90\n"
    config = '[[policy.rules]]\nname = "app"\nmemory_max = "128KiB"\nmemory_min = "128KiB"\nswap_max = "64MiB"\n'
    config += f'deny_budget = "5%"\n{numbers}'
    config += f'[[policy.users]]\nuid = {os.getuid()}\nmemory_max = "160KiB"\nswap_max = "64MiB"\nmemory_min = "4KiB"\n'
    config += f"max_sessions = 4\n{numbers}"
    with (
        running_daemon(tmp_path_factory.mktemp("monitored"), "--memory", "256KiB", config=config) as daemon,
        lib_usm.connect(daemon.address, name="app") as client,
        contextlib.closing(metrics_of(daemon.admin_address)) as connection,
    ):
        client.mmap(512 << 10).write(0, b"x" * (512 << 10))
        found = {}
        for family in families(ask(connection)[2]).values():
            for sample in family.samples:
                kept = found.setdefault(sample.name, {})
                for label, value in sample.labels.items():
                    kept.setdefault(label, set()).add(value)
        return found


@pytest.mark.parametrize(("where", "expression"), expressions())
def test_every_metric_and_label_that_is_named_exists(labels, where, expression):
    named = METRIC.findall(expression)
    assert named, where
    for metric, selector in named:
        assert metric == "up" or metric in labels, f"{where} names {metric}"
        for label, wanted in LABEL.findall(selector):
            if label in BY_PROMETHEUS:
                continue
            assert label in labels[metric], f"{where} selects {metric} by {label}"
            assert set(wanted.split("|")) <= labels[metric][label], f"{where} selects {label}={wanted}"
    for grouped in re.findall(r"\b(?:by|without|on|ignoring) \(([^)]*)\)", expression):
        there = BY_PROMETHEUS.union(*(labels[metric] for metric, _ in named if metric != "up"))
        assert set(grouped.split(", ")) <= there, f"{where} groups by {grouped}"


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_the_legend_of_a_panel_names_labels_that_its_expression_keeps(labels, panel):
    for target in panel["targets"]:
        for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
            by = re.search(r"\bby \(([^)]*)\)", target["expr"])
            kept = set(by[1].split(", ")) if by else BY_PROMETHEUS.union(labels[METRIC.search(target["expr"])[1]])
            assert label in kept, (panel["title"], label)


def test_the_documentation_has_every_metric_and_alert_and_no_other(labels):
    text = (DEPLOY.parent / "docs" / "monitoring.md").read_text()
    said = set(re.findall(r"`((?:usmd|process)_\w+)", text)) - {"process_killed"}
    there = {re.sub("_(bucket|count|sum)$", "", name) for name in labels}
    assert said == there - {"process_open_fds"} | {"process_open_fds", "usmd_process_memory_max_bytes"}
    assert set(re.findall(r"\bUsmd\w+", text)) == {rule["alert"] for rule in ALERTS}


def test_panels_do_not_overlap_and_fit_the_grid():
    taken = {}
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in taken, (panel["title"], taken[x, y])
                taken[x, y] = panel["title"]
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_every_alert_says_how_bad_it_is_what_is_wrong_and_what_to_look_at():
    assert len({rule["alert"] for rule in ALERTS}) == len(ALERTS)
    for rule in ALERTS:
        assert rule["labels"]["severity"] in ("warning", "critical"), rule["alert"]
        assert rule["annotations"].keys() == {"summary", "description"}, rule["alert"]
        assert "$labels.instance" in rule["annotations"]["summary"], rule["alert"]


def promtool(*arguments):
    path = shutil.which("promtool")
    if path is None:
        pytest.skip("promtool is not on this machine; the expressions are checked for names by the tests above")
    done = subprocess.run([path, *arguments], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_takes_the_rules_and_the_expressions_of_all_panels(tmp_path):
    rules = [
        {"record": f"panel:{number}", "expr": as_rule(target["expr"])}
        for number, (_, target) in enumerate((panel, target) for panel in PANELS for target in panel["targets"])
    ]
    path = tmp_path / "panels.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", str(DEPLOY / "usmd-alerts.yml"), str(path))


def test_alerts_of_more_than_a_comparison_with_a_number_fire(tmp_path):
    def series(text, values):
        at = 'job="usmd", instance="a"'
        return {"series": f"{text[:-1]}, {at}}}" if text.endswith("}") else f"{text}{{{at}}}", "values": values}

    firing = {
        "UsmdMemoryShort": [
            series('usmd_frames{state="free"}', "3x20"),
            series('usmd_watermark_frames{mark="low"}', "4x20"),
        ],
        "UsmdSwapNearlyFull": [
            series('usmd_swap_slots{device="a", state="used"}', "95x20"),
            series('usmd_swap_slots{device="a", state="free"}', "5x20"),
        ],
        "UsmdKeptMemoryHigh": [
            series('usmd_kept_frames{why="deny"}', "40x20"),
            series('usmd_kept_frames{why="pin"}', "40x20"),
            series('usmd_frames{state="free"}', "10x20"),
            series('usmd_frames{state="present"}', "90x20"),
        ],
        "UsmdSessionsNearLimit": [series("usmd_processes", "95x20"), series("usmd_max_processes", "100x20")],
        "UsmdFaultsFail": [series('usmd_failed_faults_total{outcome="out_of_memory"}', "0+60x20")],
        "UsmdLoopLate": [
            series('usmd_loop_lag_seconds_bucket{le="0.1"}', "0+1x20"),
            series('usmd_loop_lag_seconds_bucket{le="0.4"}', "0+100x20"),
            series('usmd_loop_lag_seconds_bucket{le="+Inf"}', "0+100x20"),
        ],
        "UsmdDown": [series("up", "0x20")],
        "UsmdFaultsLimited": [series('usmd_process_faults_limited{process="1", name="a", uid="0"}', "1 1 0 1 1x20")],
        "UsmdClientsFrozen": [
            series('usmd_process_frozen{process="1", name="a", uid="0"}', "1x20"),
            series('usmd_process_frozen{process="other", name="", uid=""}', "2x20"),
        ],
        "UsmdSwapRetirementStands": [series('usmd_swap_retiring_pages{device="a"}', "20x20")],
    }  # fmt: skip
    quiet = {
        "UsmdFaultsLimited": [series('usmd_process_faults_limited{process="1", name="a", uid="0"}', "0 0 1 0 0x20")],
        "UsmdSwapRetirementStands": [series('usmd_swap_retiring_pages{device="a"}', "900-1x20")],
    }
    tests = [
        {
            "interval": "1m",
            "input_series": given,
            "promql_expr_test": [
                {
                    "expr": f'count(ALERTS{{alertname="{alert}", alertstate="firing"}})',
                    "eval_time": "20m",
                    "exp_samples": expected,
                }
            ],
        }
        for wanted, expected in ((firing, [{"labels": "{}", "value": 1}]), (quiet, []))
        for alert, given in wanted.items()
    ]
    path = tmp_path / "tests.yml"
    path.write_text(yaml.safe_dump({"rule_files": [str(DEPLOY / "usmd-alerts.yml")], "tests": tests}))
    promtool("test", "rules", str(path))
