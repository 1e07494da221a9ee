"""Theory of operation: end-to-end pairs.

A pair with a neighbour is a pair of the link between (`direct`). A pair with anybody else is made
over a *circuit*, a path of links whose nodes between the ends swap.

**Knowing the way.** Every node advertises itself and its links in one update (`advertise`),
which floods over the adjacencies (`linkstate`, `updates`; in bursts bundled, `spreading`), so that
all nodes have the same database; restarts and partitions heal. `topology` makes it a graph of links
that both ends advertise as up, when somebody asks for a way and not as updates come. `routing`
finds the way of the largest rate at the fidelity and the trust asked for, with what `budget` says
of swaps, waits and cutoffs; `course` chooses the cutoff and what is asked of each link.
`rounds` knows what a round of purification does to two pairs, `purification` what plans of them
give and cost, `distillation` carries them out.
Where no way gives the fidelity asked for, a `course` adds rounds at the two ends, or on links
before they are swapped (`refinement`), or both; a neighbour whose link alone cannot give it is
reached by a circuit of one hop. `trust` says who is in the way where a request asks that nodes
between the ends be trusted.

**Windows** (`hours`, `daylight`). Links that are closed for short times are up for routes, at the
part of their rate that is left; those that are closed for longer are avoided meanwhile, and what
runs there waits. A course over several promises the time in which all of them are open.

**Bins** (`division`, `schedule`). Where a controller divides links in time, a head-end whose
request has a maximum time first asks it for bins on all links of the course, and the masters of
links keep to what it grants.

**Circuits** (`circuits`, `places`, `admission`). The head-end sends the whole path with an install,
hop by hop. Each node admits: the links on both sides are there, their time suffices, a qubit can
be had, it is not draining. The tail-end's answer comes back the same way with a label for each
link: the purpose under which the node after it takes link requests. All or nothing: a refusal
undoes what was reserved, a release runs in order behind the install. State is soft: leases. A
circuit without requests rests: it reserves nothing, and is admitted anew with its next request. A
`dry` one is looked at and not kept. What an operator drains (`draining`) finishes what runs.

**Shares.** A request with a maximum time reserves a part of each link's time, and links with a
weighted fair queue give it that at least. Whoever was promised nothing weighs little, whatever a
user says (`shaping`).

**Requests** (`demand`, `orders`, `manner`). Requests with the same promise to the same node share a
circuit, and by turns its pairs. Their halves are treated alike when they come (`manner`): kept
until there is a pair, measured, handed over early, or held for a set that must be there within a
time. Those with a maximum time share what their circuit reserves, which grows and shrinks with them
(`sharing`). The head-end forwards a request, the tail-end takes or refuses it, and as the answer
comes back each node begins to ask the link after it for pairs (`supply`), in small link requests,
so that circuits take turns on a link. `intake` takes what links bring to the circuit that it is
for.

Where both sides of a node live in the same qubits, halves of one side could keep the other out for
ever: `room` keeps a qubit free for all circuits together, and tells the node before how many pairs
it takes. Where each side has its own, circuits could still fill each other's links: `crowding`
divides the qubits of such a link among them, and ends ask back what they have too many of. What
neighbours say of circuits is checked and counted in `talk` and `passing`.

**Pairs** (`forwarding`, `ends`, `head_end`, `tail_end`, `finishing`, `telling`). A node between
swaps as soon as there is a half on both sides, and keeps what became of each pair. Each end sends a
track for each half; it follows the swaps, collects outcomes and Bell weights, waits where a swap is
still to come, and turns back as an expiry where a pair was cut off. An end delivers a half when the
other end's track for it has come. What was measured is told then, and of what was handed over early
a notice; a set waits for the head-end's word that it is complete. Identities are those of link
pairs: (link, boot id of its station, sequence); the head-end's names the end-to-end pair. No
message names a memory slot.

**Purified pairs** (`purifying`, `stills`). On a circuit with rounds, halves that both ends
confirmed go into the ends' distilleries before they belong to a request. What comes out the
head-end gives away. On a hop with rounds, what its link brings goes into the distilleries of its
two nodes first; what comes out is swapped and tracked like any pair of that link.

**Truth of promises.** Fidelity is a promise for states and no scalar can carry it: two Z errors
swap to another fidelity than a Z and an X error. Everything therefore keeps four weights, relative
to the announced Bell state. Every map here but damping towards a pole is diagonal in the
correlators, so a track multiplies as it goes and the order of swaps does not matter.

**Why no epochs.** QNP lets each end choose by itself whose a pair is, from the requests that are
active, and numbers the sets of these (epochs) to notice where the ends differ. Here the head-end
chooses and its track says so, which must come to the tail-end anyway before it delivers; and
requests, their ends and tracks keep one order on each hop. So whatever comes and goes meanwhile,
the ends cannot differ and no pair is lost to a change of requests. What the tail-end must know
before, how to treat a half, all requests of a circuit have in common. Halves that a request leaves
over may serve the next: what the tail-end gives back it tells of.

**Who says what when.** All messages of a circuit keep their order on each hop. A track that waited
at a node is passed on by the swap, before the track of the other end passes there. So once the
head-end has delivered every pair of a request and says that it is complete, the tail-end has
delivered the same. If a request ends early, the tail-end's last word names the pairs that it
delivered, and those alone stay valid. If the circuit breaks, what the other end is not known to
have delivered is void. A request without a maximum time of which the head-end's user has no pair
then begins anew on another circuit; every other one ends there.

Sources: Kozlowski, Dahlberg and Wehner 2020 (QNP: swap records, TRACK from both ends, cutoffs),
draft-irtf-qirg-principles (RFC 9340) sections 5 and 7, the P4 data plane of Kozlowski et al.
(V1Quantum: both arrival orders of TRACK and swap, XOR), RSVP (RFC 2205: soft state along a
recorded path), OSPF (RFC 2328) for the flooding, Briegel et al. 1998, Bennett et al. 1996 and
Deutsch et al. 1996.
"""
