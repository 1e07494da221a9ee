"""The simulated world: the only holder of joint quantum state.

A pure, seeded machine in integer time. It takes device commands (:class:`qstack.hal.server.
Commanded`), faults (:class:`Break`, :class:`Mend`) and clocks that are wrong (:class:`Retime`), and
reports device events. Rooms:

- :mod:`~.machine`: the machine itself; :mod:`~.hall`: what all commands share;
  :mod:`~.link_commands` and :mod:`~.memory_commands`: what each command does; :mod:`~.agenda`;
- :mod:`~.links`: cycles, arms and the geometric skip-ahead, so that a pair costs the same
  whatever its probability; :mod:`~.heralds`: what an attempt leaves; :mod:`~.link_optics`: timing,
  losses and tables, from :mod:`~.optics` and :mod:`~.pair_tables`;
- :mod:`~.skews`: hardware that is ahead of the network's timing, or behind it;
- :mod:`~.recovery`: detectors that remember; :mod:`~.counting`: attempts, singles, heralds;
- :mod:`~.memories`: slots, decay, gates, readout; :mod:`~.bell_measurement`: a swap in one step;
  :mod:`~.registers`: joint states;
- :mod:`~.peek`: for checkers of global truth alone.

Attempts are independent, and skipped ahead, unless detectors carry a dead time or afterpulses
from one window into the next: then the link goes attempt by attempt. A charge state that stays lost
is an approximation here: it enters as an independent probability per attempt.
"""

from qstack.sim.world.machine import World, WorldInput
from qstack.sim.world.parameters import (
    MIDPOINT_BSM,
    MIDPOINT_SOURCE,
    Break,
    Mend,
    Retime,
    WorldDevice,
    WorldEnd,
    WorldLink,
    WorldParameters,
)

__all__ = [
    "MIDPOINT_BSM",
    "MIDPOINT_SOURCE",
    "Break",
    "Mend",
    "Retime",
    "World",
    "WorldDevice",
    "WorldEnd",
    "WorldInput",
    "WorldLink",
    "WorldParameters",
]
