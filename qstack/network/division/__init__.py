"""Theory of operation: the links of a network divided in time, by one controller.

**What it is for.** Where circuits share links, each has to have them all at once: a repeater's
half waits in memory until the other side brings one, and fades. Queues at each link for itself do
not know of each other. The controller, a role that the network file gives to one of the nodes,
gives each circuit *bins*, spans of time of equal length, the same on all links of its way, so
many before its request's maximum time as its pairs take. The order is that of the earliest deadline
(:mod:`qstack.network.schedule`). What cannot be placed is refused at once, with the reason.

**Who asks.** A head-end asks before it installs (`asking`): how long all links have to be at
work together, until when, and how much of each bin is lost before they are. Without a maximum time
nothing is asked for; such requests, and those that neighbours make of their link, are served in
bins of nobody. A circuit with bins reserves no part of its links' time besides. A request for a
neighbour that has a maximum time becomes a circuit of one hop, so that it can have bins too.

**Who divides.** The controller tells the master of each link who has which of its bins
(``BinsPlan``), in its own numbers. The master (`dividing`) turns that into cycles of the link and
hands the timetable to the link layer, which ships it to the other end. Plans name circuits; their
link requests are known to the two ends of the link alone, from the install, so a run of bins
is nobody's until the circuit is ready at the master, and again when it is over there.

**Time.** Instants do not cross the wire. Bin 0 begins with the controller's life; with each plan,
and now and then by itself (``BinsClock``, sent once and never again, so that it is not late), the
controller says how far it is. A master takes the earliest of these words, as ends of links do with
the words of their stations. Bins begin late by the ways of two such words, the controller's and the
station's, differently at different links; bins that meet at a repeater are aligned up to the
difference. Bins are to be long against that, and what is lost of each is reckoned with.

**State is soft.** A head-end says its ask again three times in a lease, with what is still to be
done. That keeps a grant; a controller which does not know of it, since it was started again, takes
it as new. A head-end in another life, or silent for a lease, loses what it had. Plans are for
definite bins: with the controller lost, links keep them to their last bin, and are then served by
weighted fair shares; so are they while a timetable is not known yet. What asks then, reserves parts
of links as elsewhere, and asks again when the controller is there.

=============  ====================================================================
`controller`   `Controller`: who has which bins
`masters`      what the controller tells the masters of links
`asking`       the head-end's side, with the life of an ask
`dividing`     the master's side: from bins to cycles
`machine`      `Division`: all of it at one node
=============  ====================================================================

Sources: Skrzypczyk and Wehner 2021 (arXiv:2111.13124), Pompili et al. 2022 (a central schedule
instead of the distributed queue), arXiv:2503.12582 (packets of pair generation that take the whole
path; earliest deadline first with admission), the network schedule of QuTech's qoala-sim (half-open
bins, idle time). The clock is Cristian's (1989), one way.
"""
