"""Machines composed into whole processes.

=====================  ==============================================================
:class:`EndNode`       application over network over links over physical
:class:`StationNode`   a heralding station, with one physical machine per link
:class:`DeviceHost`    a process that serves devices to others: the simulated world
:class:`UserHost`      a program's end of its nodes' user ports
:class:`LocalUser`     the same in the process of the nodes, without adjacencies
=====================  ==============================================================

All four are *hosts*: see :mod:`qstack.stack.hosting`.
"""

from qstack.stack.device_host import DeviceHost
from qstack.stack.end_node import EndNode
from qstack.stack.end_node_parameters import EndNodeParameters
from qstack.stack.hosting import Identity, Neighbours, Timing
from qstack.stack.station import StationNode, StationParameters
from qstack.stack.user_host import FromNode, LocalUser, NodeLost, NodeReached, ToNode, UserHost

__all__ = [
    "DeviceHost",
    "EndNode",
    "EndNodeParameters",
    "FromNode",
    "Identity",
    "LocalUser",
    "Neighbours",
    "NodeLost",
    "NodeReached",
    "StationNode",
    "StationParameters",
    "Timing",
    "ToNode",
    "UserHost",
]
