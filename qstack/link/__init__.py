"""The link layer: the Entanglement Generation Protocol of one link, at one end.

**What it is for.** Two neighbours ask each other for pairs: to keep both halves (K), to measure
both (M), or to prepare the far half by measuring the near one (R). Whoever asks, both ends get
the same pairs of the same request in the same order, each with its Bell state, the fidelity
that the link stands for, and the time after which the report is final. Every request ends
exactly once at each end, and alike.

**The queue.** The end with the lower name is *master*. A request is proposed (``LinkAdd``), the
other end may refuse it (``LinkAnswer``), and it counts once the master has committed it
(``LinkCommit``). Each change of the queue has a version; the stream between the ends is reliable
and ordered, so equal versions are equal queues. What is served is a pure function of the
queue and of the pairs counted so far (:mod:`qstack.link.scheduler`); both ends compute it on
their own, and the station compares their bases, versions first. Nothing is sent per pair.

**Time division.** Under the scheduler ``time-division`` the master may ship a timetable
(``LinkBins``), one more version of the queue: whose the bins of the link's cycles are
(:mod:`qstack.link.timetable`). What is served then follows from queue, counts and the bin that
the present cycle is in. Each end learns the cycle from its station's replies, late by their
way; the bin stands in the arm's basis, so that the station tells the end that is still in the
former one. When an end notices a boundary decides nothing but how soon it turns to the next
bin: the emitter's command and the station's count both name the bin's cycles, so that there is
no attempt, and no success, outside of it. Before and after its frames, without a timetable, and
after a loss of peer or clock the queue is served by weighted fair shares. A request with a
maximum time is admitted by the bins that are its own or nobody's.

**From herald to OK.** Heralds name their request. Both ends count them, so both know without a
message when the number is reached. A kept half may be corrected (by the creator alone, and only
if a final Bell state is asked for), moved to storage, and is then reported with its qubit, in
the order of the heralds (:mod:`qstack.link.pairs`). For R the receiver waits for the creator's
outcome and corrects what a Pauli can (:mod:`qstack.link.prepare`).

**What goes wrong.** A half that is missing or spoilt at one end is void at both: the end that
knows says so (``LinkExpire``), the other takes its report back (``LinkExpired``), the count of the
request goes back by one at both, and a replacement is made. When one end loses the station
it tells how far it had seen that life of it (``LinkStation``); what is above is void. Such a loss
may cross a close of the peer, which does not yet know that its last pair is void: each close
says of how many losses it knows, and one that the losses unknown to it will undo is nothing
(:class:`~qstack.link.lives.Losses`). When the peer
is lost, every request fails once, and its reported pairs whose horizon has not passed expire: the
peer may never have had its halves. (Those of a request that is done stay: the peer said that it
reported them all.) After the horizon no expiry is indicated; one that comes
nevertheless is only noted, and still counted back, so that the ends go on agreeing.

**How a request ends early** (deadline, cancel, a setting that no longer serves): attempts stop
first; then the slave asks (``LinkEnd``) or the master decides (``LinkRemove``, the next
version); each end waits until the station has confirmed that version, reports what was still
under way, and says that it is through (``LinkClose``). With both words the request ends: done if
the number is there after all, failed otherwise. A silent station or peer delays that by eight
``confirm_ns`` at most. A request that is complete is over when both ends closed it with the same
last pair, one trip after the last OK; until then the last pair can still be replaced.

**How good pairs are.** Datasheets give a prior for every setting and click pattern; test rounds
correct it (:mod:`qstack.link.fidelity`, :mod:`qstack.link.trials`). Both ends state equal goodness
because both compute it from numbers that the master shipped: a setting or an estimate takes effect
for pairs heralded after the station confirmed the queue version that brought it, which is
between the same two heralds at both ends. (Should physical indicate a success of the new
version before it indicates ``Settled``, one end may state the former estimate for that pair; the
two differ by less than the interval they state. The figure is a promise, not an identity.)

**Memory.** A kept half belongs to the link from its herald until its OK. A half that is to be
stored and finds no storage slot waits for half a horizon; then it is void and the request
ends with NO_RESOURCES at both ends.

=============  ==================================================================
`service`      what is offered upward
`machine`      `Link`: which event concerns whom
`board`        what the parts share; consequences of a request's state
`agreement`    proposals, commits, ends, settings and estimates
`harvest`      heralds, reports, expiry, test rounds
`request`      the life of one request: states and their table
`queue`        the distributed queue as one end sees it
`scheduler`    which item is served
`timetable`    whose bin a cycle is in, under time division
`admission`    what is refused before anything is tried
`pairs`        one half between herald and OK, with its device work
`prepare`      the algebra of remote state preparation
`fidelity`     estimates with intervals; the choice of a setting
`decay`        waiting, moving, correcting
`trials`       which pairs are test rounds
`lives`        how far each life of the station was seen
`budget`       settings from datasheets
=============  ==================================================================

Sources: Dahlberg et al., "A link layer protocol for quantum networks" (SIGCOMM 2019) for the
service, the distributed queue, expiry and the fidelity estimation unit; its authors' design
notes and simulation code for the order of refusals and for the traps; QLink-Interface 1.0 for the
errors and the fields of an OK. Different from there: sequence windows, caches and
retransmission are left to adjacency; the ends agree by versions, not by acknowledged clocks; a
lost success is noticed by physical; requests end by agreement.
"""
