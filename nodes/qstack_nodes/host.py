"""Device hosts: processes of others that serve devices, started by the command of the file."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from qstack.config import HostFile, NetworkFile
from qstack.config.hosts import filled
from qstack.drivers.serving import UNREACHABLE
from qstack.errors import ConfigError
from qstack.units import NodeName


def host_command(network: NetworkFile, given: str, host: HostFile) -> tuple[str, ...]:
    """Return the words of a host's command; `given` is how the network was named.

    ``{python}`` is this interpreter, ``{network}`` the network file, ``{folder}`` its folder,
    ``{name}`` the host's name. ConfigError for a host that is started elsewhere.
    """
    if not host.command:
        reason = "it is started elsewhere: there is no command"
        raise ConfigError([f"{network.file}: hosts.{host.name}: {reason}"])
    place = Path(given)
    known = place.is_file()
    return filled(
        host.command,
        python=sys.executable,
        network=str(place.resolve()) if known else given,
        folder=str(place.resolve().parent) if known else ".",
        name=host.name,
    )


def become_host(network: NetworkFile, given: str, name: NodeName) -> int:
    """Become the process of this host; returns only where its program cannot be started."""
    command = host_command(network, given, network.host(name))
    try:
        os.execvp(command[0], command)  # noqa: S606  the network file's own command
    except OSError as error:
        print(f"{name}: {command[0]} cannot be started: {error.strerror}", file=sys.stderr)
    return UNREACHABLE
