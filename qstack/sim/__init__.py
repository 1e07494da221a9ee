"""The simulated world, and whole networks in virtual time.

For people who embed it: :class:`~qstack.sim.embedding.Network` makes of a network file a network
that runs in this process, in virtual time::

    import qstack.sim

    net = qstack.sim.Network.load("nv_lab", seed=7)
    report = net.pairs("alice", "bob", count=1000, fidelity_min=0.7)
    print(report)

Rooms: :mod:`~qstack.sim.heralding`, :mod:`~qstack.sim.states` and
:mod:`~qstack.sim.channels` are formulas; :mod:`~qstack.sim.devices` describes the simulated
hardware to network files; :mod:`~qstack.sim.world` is the one pure machine that holds all
joint quantum state and answers the commands of the hardware port. :mod:`~qstack.sim.heap` and
:mod:`~qstack.sim.network` put hosts, wires and the world on one heap of events;
:mod:`~qstack.sim.bridge` lets node programs use them, :mod:`~qstack.sim.clock` is the time that
those see. Importing this package loads none of them, and no protocol layer imports any of them.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qstack.sim.bridge import Session
    from qstack.sim.clock import Stalled
    from qstack.sim.embedding import Network
    from qstack.sim.report import Durations, Report

__all__ = ["Durations", "Network", "Report", "Session", "Stalled"]


def __getattr__(name: str) -> Any:
    """Load what is asked for, and nothing before."""
    # The worlds of live networks are started from this package: they need none of it.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from qstack.sim import bridge, clock, embedding, report  # noqa: PLC0415  only when asked for

    places = {"Network": embedding, "Session": bridge, "Stalled": clock}
    return getattr(places.get(name, report), name)
