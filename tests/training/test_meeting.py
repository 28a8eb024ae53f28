"""How patient machines are with each other, what they know of themselves, and what they say when it fails."""

from __future__ import annotations

import os
import socket
import time

import pytest

from dove_core.config import LaunchConfig
from dove_core.training import network
from dove_core.training.meeting import arrange

SOME = LaunchConfig(nodes="2", rendezvous="127.0.0.1:29400", lost_after=20, meet_within=90)


def test_settings_reach_the_launcher():
    configs = arrange(SOME).configs
    assert configs["join_timeout"] == 90
    assert configs["keep_alive_interval"] * configs["keep_alive_max_attempt"] == 20
    assert configs["last_call_timeout"] == 10  # a machine that is cut off has ended before
    assert configs["read_timeout"] == 20


def test_a_machine_that_knows_itself_as_127_0_1_1_gives_the_address_that_leads_outside(monkeypatch):
    monkeypatch.setattr(network, "_source", lambda host, port: "127.0.1.1" if host == "node1" else "10.0.0.4")
    monkeypatch.setattr(socket, "gethostbyname", lambda host: "127.0.1.1")
    assert network.address_towards("node1", 29400) == "10.0.0.4"
    assert network.is_own("node1", "10.0.0.4")


def test_an_interface_is_known_by_its_address_and_chosen_unless_one_is_given(monkeypatch):
    assert network.interface_of("127.0.0.1") == "lo"
    assert network.interface_of("192.0.2.77") is None
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    network.choose_interface("127.0.0.1", 9)
    assert os.environ["GLOO_SOCKET_IFNAME"] == "lo"
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "mine")
    network.choose_interface("127.0.0.1", 9)
    assert os.environ["GLOO_SOCKET_IFNAME"] == "mine"


@pytest.fixture
def connected():
    """A listener, and both ends of a connection to it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        here = socket.create_connection(server.getsockname())
        there, _ = server.accept()
        with here, there:
            yield server, here, there


def test_only_connections_to_the_meeting_point_are_given_up_early(connected):
    server, here, there = connected
    with network.giving_up_after(12, server.getsockname()[1]):
        while not here.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE):
            time.sleep(0.05)
    assert here.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 12_000
    assert here.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 3
    assert there.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0


def test_broken_connections_fail_and_listeners_live(connected):
    server, here, _ = connected
    network.break_connections()
    assert here.recv(1) == b""
    with socket.create_connection(server.getsockname()):
        pass
