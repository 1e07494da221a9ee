"""qstack: a quantum-network protocol stack that runs live and in virtual time.

The package is a set of rooms; importing it loads none of them. Start with
:mod:`qstack.stack` (the machines of a node composed into one), :mod:`qstack.sim`
(many nodes and a simulated world in one process) or :mod:`qstack.drivers`
(the same machines over UDP).
"""

__version__ = "0.1.0"
