"""`onsembl up --instances`: several processes behind one port."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import psutil
import pytest
from cli.test_up import SIGN_IN, sign_in
from prometheus_client.parser import text_string_to_metric_families
from support.control_center import ControlCenter

from onsembl.cli.server.ended import wait_until_ended


def children(center: ControlCenter) -> dict[int, psutil.Process]:
    """The processes that serve."""
    found = psutil.Process(center.process.pid).children()
    return {child.pid: child for child in found if "onsembl.cli.server.instance_process" in child.cmdline()}


def named(center: ControlCenter) -> set[str]:
    """The processes of which the center shows metrics."""
    families = text_string_to_metric_families(center.get("/metrics").text)
    return {
        sample.labels["process"]
        for family in families
        if family.name == "process_resident_memory_bytes"
        for sample in family.samples
    }


@pytest.mark.seconds(6)
def test_instances_share_a_port_and_end_with_their_parent(folder: Path):
    """Both answer on one port, with one Realtime and with the metrics of all. One that is killed is started again, and
    the log names it. No process outlives its parent."""
    with ControlCenter(folder, "--instances", "2") as center:
        center.ready()
        assert "with 2 instances" in center.output
        assert named(center) == {"instance-1", "instance-2", "realtime"}
        fleet = [line for line in center.get("/metrics").text.splitlines() if line.startswith("onsembl_commands{")]
        assert len(fleet) == len(set(fleet)) and not any("process=" in line for line in fleet)
        assert sign_in(center, *SIGN_IN.search(center.output).groups()).status_code == 200
        before = children(center)
        assert len(before) == 3
        list(before.values())[1].kill()
        center.wait_for("instance-2 has failed and starts again")
        while len(named(center)) < 3:
            time.sleep(0.2)  # each look takes from the time of the start
        (successor,) = children(center).keys() - before.keys()
        assert psutil.pid_exists(successor)
        serving = list(children(center).values())
        center.stop(signal.SIGKILL)
        assert len(serving) == 3
        assert wait_until_ended(serving, 60) == []
