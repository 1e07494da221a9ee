"""Theory of operation: attempts, heralds, and who holds which memory.

**Parties.** A link has two ends and a station between them. Each end is a
:class:`~qstack.physical.machine.NodePhysical`, the station's side of one link a
:class:`~qstack.physical.station.StationPhysical`. The hardware attempts by itself, once a
cycle with as many modes as both ends have armed; trigger lines tell the analyser which ends
fired, and only attempts in which both did are reported. So no message stands between two
attempts, and an emitter may be armed before its station knows: nothing comes of it until the
other end is armed too and the analyser is open.

**Arms.** What an end wants is one soft message, whole (`arming.py`): request, kind, setting,
the basis of that choice (queue version, last success seen), and cumulative credits. Another
wish is another arm number; more of the same is more credit. One free slot is one EmitterArm and
one credit, and the message that carries the credit also confirms every success seen, so a kept
pair costs one command and one message at each end and one herald to each. All that changed in one
instant leaves as one message at DRAINED. A confirmation without a credit waits for
``confirm_ns / 2``, or for four of them. What confirms is no arm but the short Confirm, sent once,
and acknowledged by nobody: the station waits for it, and tells what was not confirmed again by a
reply, which the node answers with the whole arm, credits and all. Acknowledgements would find
nothing to ride on where pairs are rare. Credit that comes alone leaves in an arm. Never more is
armed than is wanted and covered by nothing yet; an attempt that came to nothing is renewed
without new credit, because credits count the successes that an end can hold, not its tries. That
bounds the successes of an arm twice: by the halves that exist, and by the credits.

**Pairing.** The station (`pairing.py`, `heralding.py`) opens its analyser, standing, when both
arms agree in request, kind, setting and queue version, and closes it when they no longer do.
When they disagree, the end with the older basis is BEHIND and learns the newer one; the other
is AHEAD and waits. A click counts only under the opening during which it happened, so what was
emitted for a former request never becomes a success of the next. An end that armed for
something new, while the analyser was still open for the old, finds a success of another request
on its half and reports it as missing.

**Successes.** A click (`clicks.py`) with a pattern of the setting becomes the next success of
the link if both ends have credit; sequence numbers count successes only, from 1 in each life of
the station, and failures use none. Both ends are told at once of all that is new by timed
heralds, of eight successes each to stay inside one datagram; two older ones that are not
confirmed stand before them. What stays unconfirmed for `confirm_ns` is told by a reply, which is
soft and therefore arrives. At 64 unconfirmed the analyser closes, so that nothing is ever
forgotten within a life. An emitter is armed a little before its credit arrives, so a click may
come first: it is held, in order, until the credit is here, for `confirm_ns` at most, and is void
afterwards or when the pairing ends.

**What is decided.** Every message of the station names a cycle up to which all clicks are
decided; an emission up to it without a success is void, and its slot free. The station says
it of cycles before the oldest click that it holds; else of those before the latest click that
it saw; and on an idle link of those older than a margin of ``confirm_ns`` plus the longest
round trip plus one cycle, which covers the photons' flight and the device's port, counted from
the completion of the clock's start. The figure never goes back, and a click that comes in for a
cycle already called decided is void, so that no statement is ever broken: a port slower than
the margin costs pairs, not consistency. `confirm_ns` must exceed the devices' latency and one
round trip. A node that hears of a success number that it does not know holds back all such
statements, because the unknown success may be that of any of its halves, and asks.

**Matching.** At the node (`matching.py`) successes and emissions meet by (cycle, mode), either
first, and are indicated strictly in sequence, one per step, so that the link layer may answer
each with a new order. A success without an emission waits for two `confirm_ns` and is then
PairMissing; an emission without a word for `confirm_ns` makes the node ask (`query`). A success
is counted as one of the pairs wanted even if this end misses it: the link layer, which expires
it at both ends, asks for another one with its next Serve.

**Switching.** Another request aborts what is armed. An abort may cross a herald: the terminal
event of the device is the truth (`attempts.py`), and a half that was heralded after all is
indicated for the request that it was made for. The station's reply to the new arm number names
the last success; when all up to it have been indicated, the switch is Settled. A success of a
request that no arm asked for before (`firsts.py`) says as much, for only the new number can have
brought it. So the reply to such an arm may wait, for a quarter of `confirm_ns`, and a short request
is over before it leaves: fewer processes are woken while somebody waits for the pair.

**Bins.** Work may be bound to cycles (``Serve.begin``, ``Serve.end``; half-open). The emitter
is told the cycle before which it ends, both arms name the same cycles or are not paired, and
the station voids a click of any other cycle: after a boundary the analyser stands open for the
former bin until both ends have armed for the next. An emitter that says that its cycles are
over gets no more commands for them. For links divided in time `cycles.py` estimates the link's
cycle, and ClockSeen tells the link layer of it.

**Windows** (`gate.py`, `opening.py`). A link that is open at times only has windows. The station
counts the present or the next one in cycles, so that all of it lies in the open time of its own
clock, and says so in its replies. The ends clip their work to it, as to a bin, and arm a little
ahead; outside of it an end has no target and its slots are free (`task.py`). The analyser is
opened to the window's end, and another window counts when it has told all that it saw. Ends that
wanted something are told of it at once, idle ones with their next arm.

**Without a herald line** (`grid.py`, `filling.py`) nothing stops the hardware, so each command
is a single attempt, and both ends must make it in the same cycle. Each arms exactly at multiples
of its *spacing*, a power of two of cycles not below its measured turnaround; powers of two nest,
so the ends meet at every cycle of the coarser grid. The link's cycle is estimated from replies
and, better, from emissions that the device stamped; a command that came too late doubles the
lead, one in time lets it shrink slowly, and 16 late ones in a row ask the station anew. All
free slots are armed for the same cycle and are its modes. Exhausted means that nobody else
fired: on to the next cycle of the grid, ever more rarely while that goes on, up to 16 spacings.
Such attempts are made only while the station accepts the arm. Failures come back as voids of a
herald; a lost void is learnt from `decided_cycle`, at the latest by asking after `confirm_ns`.
So a cycle of the grid costs at most a command and an event per slot, and a herald to each end.

**Lives.** A new life of the station voids what was undecided and counts from 1; a new life of
an end begins with the last success, whatever came before. The station's clock begins with its
first event, and again, in the next *epoch*, when its analyser comes back from having been
offline, or when too much of a window would be lost to drift. Cycle numbers of two epochs must
never meet, so: all successes up to the last one that the first reply of a new epoch names are of
the former count. What is held of that stays apart until all of these are known, for one message
lists eight at most, and the rest of it is void then; a herald of an epoch that no reply told
of is not taken, and the reply asked for; the station says nothing but REFUSED until its clock
has completed, and an end arms nothing in an epoch before it heard anything else. A success
names its setting, and a half made at another one is missing.

**Slots.** `slots.py` alone knows which memory is free. A slot is taken for an attempt, handed to
the link layer with the pair, and freed by whoever owns it then. A slot whose command is refused
or fails rests for a time that doubles, while the others go on; when every slot failed three
times in a row, or a device says that it cannot work, the arm rests and the link layer is told.
Measured halves use EmitterMeasure and take no slot; the next command comes before the one before
has all its pairs, so that no mode of the link stays empty.

**Names of the states** are in the tables: ``attempts.TABLE`` (a command of the emitter),
``arming.TABLE`` (a node's arm), ``pairing.TABLE`` (a link at its station).

Sources. The polling of attempts, the sequence that counts successes only, the mismatch and
one-sided errors, the expiry of lost replies: the QuTech link layer notes and simulation
(SoftwareQuTech/QLinkLayerSimulations, ``linkLayerNotes-V4.tex``, ``mhp.py``). Heralds sent on
success only, with a separate count of attempts: V1Quantum (QuTech-Delft/v1quantum,
``heralding_station.p4``). The lost last success: issue 235 of the former; halves mixed up after
a lost reply: issue 151 there, answered here by naming each attempt by cycle and mode. Batches,
cumulative credits, held clicks and decided cycles are this project's own; the credits are
those of a sliding window, as flow control knows them.
"""
