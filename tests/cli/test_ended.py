"""Waiting for the end of processes that another one has started."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import psutil
import pytest

from onsembl.cli.server.ended import has_ended, wait_until_ended


@pytest.fixture
def child() -> Iterator[psutil.Process]:
    """A process whose parent does not wait for it when it ends."""
    with subprocess.Popen(["sh", "-c", "sleep 1000 & echo $!; exec sleep 1000"], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        process = psutil.Process(int(parent.stdout.readline()))
        yield process
        process.kill()
        parent.kill()


def test_one_that_its_parent_does_not_wait_for_has_ended(child: psutil.Process):
    assert not has_ended(child)
    assert wait_until_ended([child], 0.1) == [child]
    child.kill()
    assert wait_until_ended([child], 60) == []
    assert child.status() == psutil.STATUS_ZOMBIE
    assert has_ended(child)


def test_one_of_our_own_leaves_no_zombie():
    """As process 1 of a container, we are the parent of a server that has ended."""
    with subprocess.Popen(["true"]) as started:
        own = psutil.Process(started.pid)
        assert wait_until_ended([own], 60) == []
        assert not psutil.pid_exists(own.pid)
        assert wait_until_ended([own], 60) == []
