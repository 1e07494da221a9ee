"""Network files: TOML to records, every error at once, and links with their working points.

A file names nodes and what devices they have, and links and where they run. Devices are
described by the parameter records of their plugins, so this package needs to know none of
them. :func:`load` reads a file, or a shipped network by its bare name, and either returns a
:class:`NetworkFile` in which everything fits together or raises one ConfigError with all that
is wrong, each line as ``file: key.path: reason``. :func:`link_parameters` then makes of a link
what its ends and its station are given, with the working points predicted from the
datasheets by :mod:`qstack.link.budget`; :func:`budget` shows how.

Rooms: `records` (what a file is), `structure` (one table to one record), `read` (a whole
file), `changes` (values by dotted key), `hosts` (processes that serve devices), `checks` (what
must hold between its parts), `links`, `routes` and `expectations` (predictions).
"""

from qstack.config.expectations import (
    Expectation,
    common_links,
    expectation,
    predicted_rate_hz,
    readouts,
)
from qstack.config.links import budget, link_parameters
from qstack.config.read import load, parse, read_text
from qstack.config.records import (
    ArmFile,
    Control,
    DeviceFile,
    HostFile,
    KeysFile,
    LinkFile,
    NetworkFile,
    NodeFile,
    SettingFile,
    WorldFile,
    host_and_port,
)
from qstack.link.budget import ArmBudget, Budget, PointBudget, Row

__all__ = [
    "ArmBudget",
    "ArmFile",
    "Budget",
    "Control",
    "DeviceFile",
    "Expectation",
    "HostFile",
    "KeysFile",
    "LinkFile",
    "NetworkFile",
    "NodeFile",
    "PointBudget",
    "Row",
    "SettingFile",
    "WorldFile",
    "budget",
    "common_links",
    "expectation",
    "host_and_port",
    "link_parameters",
    "load",
    "parse",
    "predicted_rate_hz",
    "read_text",
    "readouts",
]
