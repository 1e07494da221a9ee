"""Whole networks from one seed: scripted users, and the checkers of global truth.

Nothing here decides anything for the protocols: users speak through their node's user port,
and the checkers look into the world from outside.

=================  ===============================================================
`parties`          scripted users
`truth`            the joint states and the lists of two users
`judge`            shows every step of a network to checkers; what users were told
`checkers`         what users were told, against each other and against the world
`origins`          where and when each pair was made; outcomes, and the speed of light
`memory`           whose a qubit is; what is left at the end
`statistics`       whether fidelities are what was promised, over many runs
`lab`              the small network of most tests
`chains`           chains of repeaters whose elementary states are closed forms
`chain_runs`       such a chain, running: its pairs with their true states
`scenario`         what a seed makes of it
`swarm`            one run of a scenario, judged
`recording`        traces of hosts in virtual time
`routes_lab`       networks of many nodes: chains, rings, stars, grids
`routes_scenario`  what a seed makes of one
`routes`           one run of such a scenario, judged
`routes_checkers`  pairs over several links against each other
`routes_states`    joint states over several links against the world
`routes_memory`    what is left of circuits at the end
=================  ===============================================================
"""

from __future__ import annotations

from qstack.testing.checkers import Ends, OneHand, SamePairs, Seen, States
from qstack.testing.judge import Account, Checker, Judge, Ledger
from qstack.testing.memory import Baseline, Owners
from qstack.testing.origins import Light, Origins, Outcomes
from qstack.testing.parties import Party, Policy, free_at_once, hold, terms
from qstack.testing.truth import PairTruth, TruthError, check_same_pairs

__all__ = [
    "Account",
    "Baseline",
    "Checker",
    "Ends",
    "Judge",
    "Ledger",
    "Light",
    "OneHand",
    "Origins",
    "Outcomes",
    "Owners",
    "PairTruth",
    "Party",
    "Policy",
    "SamePairs",
    "Seen",
    "States",
    "TruthError",
    "check_same_pairs",
    "free_at_once",
    "hold",
    "terms",
]
