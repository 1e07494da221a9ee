"""Purification carried out: pairs between two nodes become fewer and better ones.

**What it is for.** :mod:`qstack.network.purification` says which rounds pay; here they are made.
There is one `Distillery` at each end of each circuit whose pairs are to be purified, and one at
each node of a hop whose pairs are before they are swapped: the ends are its two nodes then. It
takes over the halves as they are delivered and hands up the pair that went through all rounds of
the plan, in the same Bell state and made of the same pairs at both ends, with the weights that are
true for it.
A round: a quarter turn of each half, a CNOT from the kept onto the spent half, a readout of the
spent one; the pair is kept exactly if the outcomes differ as the announced Bell indices say,
``m_A ^ m_B == x_kept ^ x_spent``, and then ``z_kept ^= z_spent``, with the indices as they are
after the turns. Announced indices are data: no correction is applied on the way.

**Who meets whom.** One end leads, as both are told. It lets two halves meet as soon as it holds
two that may, does its part, and tells the other end with one message what it did and what it read
(``DistilRound``). The other end does the same to its halves, as soon as both have been delivered
there, compares, and answers (``DistilOutcome``). That is one message each way per round and a
wait of one round trip at the leading end, half of one at the other. A rule that both ends follow
without a word was no choice: they hold different pairs at any instant, for pairs are delivered at
different times, expire at one end first or never come there. Nor does the leader ask which pairs
the other end has: it would take a round trip more, in which the halves age, and the answer would
be old when it came.

**Who decides.** Whether a round succeeded follows from the two messages alone, which carry
outcomes, Bell indices, weights and ages; each end computes it. Only the leading end chooses, and
only the leading end gives a round up because the other end does not answer (`patience_ns`). The
channel keeps the order of messages, so the other end is never ahead by more than the rounds under
way. There is nothing to retransmit here: that is adjacency's.

**What goes wrong.** A pair that expires at either end is void at both with all that was made with
it: waiting, in a round, spent, or handed over. The end that knows says so (``DistilVoid``), and
names what else it gave up by that. A round that becomes void costs both its pairs, since gates
may have touched both at either end. What is void before it was delivered is remembered and given
back when it comes. A device that fails, ends that announce different Bell states, and a peer that
is late end a round in the same way. A round on which a device works is *condemned*: its halves
are freed when the command has ended, so that no late gate can touch what its slot holds next.
After the hand-over a pair may still expire for `horizon_ns` (``PurifiedExpired``; the qubit stays
with its owner). An end that stops names what it gave up (``DistilEnd``), and the other end takes
that back. When the adjacency is lost, everything ends once, and what was handed over less than
`horizon_ns` ago is void: the other end may not have had the outcome.

**Turns.** DEJMPS turns about X in every round, by pi/2 at the leading end and -pi/2 at the other.
BBPSSW wants both pairs twirled to Werner form before every round. The leading end draws for each
of the two halves one of the axes X, Y and Z; a quarter turn about it exchanges the errors about
the other two, and the mean over the three axes gives each error an equal share: for Bell-diagonal
pairs that is the twirl, exactly, with one gate. The draw is announced with the round and both
ends know it, so that no pair is claimed to be a Werner state: its weights are those of the turns
that were made, and only the mean over many pairs is that of the closed form. The result is not
twirled once more, which would cost gates and change no fidelity. Coherences between Bell states,
which relaxation makes, are not averaged away. The first round of a plan against photon loss has
no turns: pairs that one click heralded are Psi, or both ends were bright, and two pairs of which
one is even cannot give 1 at both ends. It counts how many of the even ones are dark at both ends,
so pairs are told with their *tilt*, the weight of these less that of the bright; a round leaves
none.

**Weights.** They are relative to the announced state and hold for a stated age of each half. Each
end adds what its own half lost until a round's gates began, and says its ages; both compute the
weights after the round from the same numbers, with the leading end's beliefs about fresh pairs.
The two ends' gates need not be simultaneous for that: what happens to one half commutes with what
happens to the other. At the hand-over each end counts its own wait exactly; the leading end knows
when the other handed its half over, and the other end takes it that the leading end will do so
one trip later. What a half loses between the first gate of a round and the CNOT is not counted,
and populations are taken to relax to equally many of both.

=============  ====================================================================
`service`      parameters; what a distillery is told and indicates
`states`       the life of a distillery
`machine`      `Distillery`: pairs, rounds, messages
`choice`       which two meet, which of them is kept, how they are turned
`rounds`       the life of a round, and its device commands
`halves`       the life of a half
`book`         what is held, and what follows where a pair is void
`reports`      what was handed over and may still expire
`algebra`      frames, turns, weights
=============  ====================================================================

Sources: Bennett et al. 1996 (BBPSSW), Deutsch et al. 1996 (DEJMPS), Duer and Briegel 1999
(pumping). Different from common simulators: unequal inputs are first-class, rounds are bounded,
decisions rest on data that both ends have, and a loss at one end is a loss at both.
"""
