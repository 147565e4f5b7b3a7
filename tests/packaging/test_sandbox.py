"""The daemons start in what the units leave them: no /proc but processes, a read-only system, no privileges.

There is no systemd as process 1 on a build machine, so the walls are put up by hand; system call filters are
not.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

PROGRAMS = Path(sys.executable).parent
WALLS = """
set -e
if mountpoint -q /; then mount --make-rprivate /; fi
mount -t proc -o subset=pid,hidepid=invisible proc /proc
mount --bind "$1" "$1"
mkdir "$1.root"
mount --rbind / "$1.root"
mount -o remount,bind,ro "$1.root"
exec chroot "$1.root" setpriv --no-new-privs --bounding-set=-all,+net_bind_service --inh-caps=-all -- "${@:2}"
"""
"""ProcSubset=pid, ProtectProc=invisible, ProtectSystem=strict with StateDirectory, NoNewPrivileges,
CapabilityBoundingSet. What is read-only is a root of its own: in a chroot / is no mount point."""


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


def test_appliance_starts_and_stops_behind_the_walls_of_its_unit(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    server, node, console = free_ports(3)
    tmp_path.joinpath("appliance.toml").write_text(f"""
        [appliance]
        state_directory = "{state}"
        [server]
        listen = ["127.0.0.1:{server}"]
        [node]
        server = "127.0.0.1:{server}"
        listen = ["127.0.0.1:{node}"]
        [console]
        server = "127.0.0.1:{server}"
        listen = ["127.0.0.1:{console}"]
    """)
    appliance = [PROGRAMS / "vdrd", "appliance", "--config-dir", tmp_path]
    command = [
        "unshare",
        "--mount",
        "--propagation",
        "unchanged",
        "bash",
        "-c",
        WALLS,
        "bash",
        state,
        *appliance,
    ]
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env=os.environ | {"TMPDIR": str(state)}
        )
    try:
        deadline = time.monotonic() + 180
        while not state.joinpath("appliance.json").exists():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        parts = json.loads(state.joinpath("appliance.json").read_text())["parts"]
        assert parts.keys() == {"server", "node", "console"}
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(timeout=90)
    assert code == 0, log.read_text()
    assert "part died" not in log.read_text()
