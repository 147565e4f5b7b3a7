"""The demonstration's own appliance and the agent of this machine, below one directory."""

import os
import platform
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import Any

from client import Client
from daemons import Program, free_ports, is_free, program
from report import DemonstrationError

_PORTS = {"server": 4510, "node": 4511, "agent": 4512, "console": 8443, "nfs": 2049, "mount": 20048}
_PORTMAP = 111


class Appliance:
    """Server, node and console as one appliance, and an agent beside it. State, configuration and logs are in
    `folder` and found again by the next run."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._config = folder / "conf.d"
        self.client = Client(folder / "session.json")
        self.host = platform.node()
        directory = ["--config-dir", str(self._config)]
        self._status_file = folder / "appliance.json"
        self._appliance = Program("appliance", [program("vdrd"), "appliance", *directory], folder)
        self._agent = Program("agent", [program("vdr-agent"), *directory], folder)

    @property
    def _password_file(self) -> Path:
        return self._folder / "server/administrator-password"

    @property
    def password(self) -> str:
        """The administrator's, made by the server at its first start."""
        return self._password_file.read_text().strip()

    @property
    def console_address(self) -> str:
        """Where a browser goes."""
        return f"https://{self._settings()['console']['listen'][0]}"

    @property
    def nfs_options(self) -> str:
        """The ports of exports as libnfs takes them in an address, for the case that they are not the
        customary ones."""
        node = self._settings()["node"]
        return f"nfsport={node['nfs_port']}&mountport={node['mount_port']}"

    def _settings(self) -> dict[str, Any]:
        return tomllib.loads(self._config.joinpath("quickstart.toml").read_text())

    def start(self) -> None:
        """Start what does not run yet, log in, and enrol this machine the first time."""
        if self._appliance.process_id() is None:
            self._configure()
        self._appliance.start()
        self._appliance.wait_until(self._status_file.exists, "the appliance was not ready")
        self._log_in()
        if not self._folder.joinpath("agent/identity").exists():
            self._enrol()
        self._agent.start()
        self._agent.wait_until(self._host_is_online, "this machine's agent did not come online")

    def stop(self) -> bool:
        """Stop both, the agent first. False if neither ran."""
        stopped = [self._agent.stop(), self._appliance.stop()]
        return any(stopped)

    def _log_in(self) -> None:
        try:
            self.client.do(
                *["login", self.console_address, "--user", "admin", "--password-file", self._password_file],
                *["--ca", self._folder / "server/authority/authority.pem"],
            )
        except DemonstrationError as error:
            raise DemonstrationError(
                f"{error}. If the administrator's password was changed, put the new one into "
                f"{self._password_file}, or stop the appliance and remove {self._folder} to begin anew"
            ) from error

    def _configure(self) -> None:
        """Write the configuration, with the customary ports where they are free."""
        ports = free_ports(_PORTS)
        portmap = _PORTMAP if is_free(_PORTMAP) else 0
        server = f"127.0.0.1:{ports['server']}"
        tables: dict[str, dict[str, object]] = {
            "appliance": {"state_directory": str(self._folder)},
            "server": {"listen": [server]},
            "node": {
                "server": server,
                "listen": [f"127.0.0.1:{ports['node']}"],
                "nfs_port": ports["nfs"],
                "mount_port": ports["mount"],
                "portmap_port": portmap,
            },
            "console": {"server": server, "listen": [f"127.0.0.1:{ports['console']}"]},
            # Enrolled at an earlier start, it would look for the server where that stood then.
            "agent": {"state_directory": str(self._folder / "agent"), "server": server},
        }
        lines = ["# Written by scripts/quickstart, anew whenever it starts the appliance."]
        for table, values in tables.items():
            lines += ["", f"[{table}]"]
            lines += [f"{key} = {_toml(value)}" for key, value in values.items()]
        self._config.mkdir(exist_ok=True)
        self._config.joinpath("quickstart.toml").write_text("\n".join(lines) + "\n")

    def _enrol(self) -> None:
        token = self.client.ask("host", "token", "--name", self.host)
        words = shlex.split(token["command"])
        command = [program("vdr-agent"), *words[1:], "--config-dir", str(self._config)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
        if done.returncode != 0:
            raise DemonstrationError(f"enrolling this machine failed: {done.stderr.strip()}")

    def _host_is_online(self) -> bool:
        rows = self.client.rows("host", "list")
        return any(row["name"] == self.host and row["presence"] == "online" for row in rows)


def _toml(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_toml(item) for item in value)}]"
    return str(value) if isinstance(value, int) else f'"{value}"'
