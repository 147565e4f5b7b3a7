"""Who may use an export when nobody said."""

import subprocess
import sys
from collections.abc import Callable

import pytest

from fuse_nfs.clients import default_clients
from fuse_nfs.export import LOOPBACK
from vdrd.model.errors import BadArgument

PRINT = "import sys; from fuse_nfs.clients import default_clients; print(*default_clients(sys.argv[1]))"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1"])
def test_loopback_address_serves_this_machine(host: str) -> None:
    assert default_clients(host) == LOOPBACK


@pytest.mark.parametrize("host", ["localhost", "", "10.0.0.0/8"])
def test_what_is_no_address_is_refused(host: str) -> None:
    with pytest.raises(BadArgument, match="is not an IP address"):
        default_clients(host)


def test_other_addresses_serve_the_networks_of_their_interfaces(network_namespace: Callable[[], str]) -> None:
    name = network_namespace()
    for number, network in enumerate(["10.1.2.3/24", "192.168.7.1/16"]):
        link = f"dummy{number}"
        inside = ["nsenter", f"--net=/run/netns/{name}", "ip"]
        subprocess.run([*inside, "link", "add", link, "type", "veth"], check=True)
        subprocess.run([*inside, "addr", "add", network, "dev", link], check=True)

    def clients(host: str) -> str:
        command = ["nsenter", f"--net=/run/netns/{name}", sys.executable, "-c", PRINT, host]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    loopback = "127.0.0.0/8 ::1/128"
    assert clients("10.1.2.3") == f"{loopback} 10.1.2.0/24"
    assert clients("0.0.0.0") == f"{loopback} 10.1.2.0/24 192.168.0.0/16"
    assert clients("192.0.2.1") == loopback
