"""Theory of operation: end-to-end pairs.

So far the network is one hop: every request is for a neighbour, and a link's pair is an
end-to-end pair (`machine`, `service`). The layer already has the service that it will keep, so that
nothing above it will notice when circuits over several links arrive. What they will be
built from is here, and no request uses it yet:

- `linkstate`: every node advertises itself and its links in one update, which floods over the
  adjacencies, so that all nodes have the same database; restarts and partitions heal.
- `advertise`: what a node says of its links, from what the stack believes of them.
- `topology`: that database as a graph of links which both ends advertise.
- `routing`: the way of the largest rate at the fidelity and the trust asked for.
- `budget`: what swaps, waits and cutoffs do to a pair's Bell weights, and how long they take.
- `purification`: what rounds of purification give and cost, and which to choose.
- `distillation`: those rounds carried out, between the two ends of pairs.

Fidelity is a promise for states and no scalar can carry it: two Z errors swap to another fidelity
than a Z and an X error. Everything therefore keeps four weights, relative to the announced
Bell state. Sources: draft-irtf-qirg-principles (RFC 9340) sections 5 and 7 (what routes must know),
OSPF (RFC 2328) for the flooding, Briegel et al. 1998, Bennett et al. 1996 and Deutsch et al. 1996.
"""
