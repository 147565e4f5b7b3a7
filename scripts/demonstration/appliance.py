"""The demonstration's own appliance and the agent of this machine, below one directory."""

import os
import platform
from pathlib import Path

from client import Client
from daemons import Program, free_port, new_password, program


class Appliance:
    """Server, node and console in one process, and an agent in another. State, configuration and logs are in
    `folder` and found again by the next run."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._config = folder / "conf.d"
        self.client = Client(folder / "session.json")
        self.host = platform.node()
        directory = ["--config-directory", str(self._config)]
        self._appliance = Program("appliance", [program("vdrd"), "appliance", *directory], folder)
        self._agent = Program("agent", [program("vdr-agent"), *directory], folder)

    @property
    def password(self) -> str:
        """The administrator's, made once."""
        return self._folder.joinpath("admin-password").read_text().strip()

    @property
    def console_address(self) -> str:
        """Where a browser goes."""
        return self._folder.joinpath("console-address").read_text().strip()

    def start(self) -> None:
        """Start what does not run yet, log in, and enrol this machine the first time."""
        raise NotImplementedError

    def stop(self) -> bool:
        """Stop both, the agent first. False if neither ran."""
        stopped = [self._agent.stop(), self._appliance.stop()]
        return any(stopped)


_ = os, free_port, new_password
