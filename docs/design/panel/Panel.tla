------------------------------- MODULE Panel -------------------------------
(***************************************************************************)
(* Eight agents of which two lie certify raises of the candidate's share;  *)
(* gateways follow only what is certified. The page beside this file       *)
(* (../20261129-panel-protocol.md) says what stands for what.              *)
(*                                                                         *)
(* Honest agents are alike, so that a state counts them: how many voted    *)
(* for which proposal of a slot. Liars sign everything, in every slot, at  *)
(* any time, both ways: that is equivocation, forgery and replay at once.  *)
(* An operator that lies, or a stale one, may tell any gateway any routing *)
(* with any votes that exist: nothing of an operator is trusted here, and  *)
(* an honest one that crashes anywhere does some of what that one does.    *)
(***************************************************************************)
EXTENDS Naturals, TLC

CONSTANTS
    Agents,    \* how many there are
    Faulty,    \* how many of them lie
    Quorum,    \* how many votes certify
    Epochs,    \* how many epochs are tried
    Gateways

Honest == Agents - Faulty

(* What can be proposed: in each slot (epoch) two raises that contradict   *)
(* each other, each from some earlier epoch that its voters saw.           *)
Slots == 1..Epochs
Choices == 1..2
Proposals == {p \in [slot: Slots, from: 0..(Epochs - 1), choice: Choices] : p.from < p.slot}

VARIABLES
    voted,     \* voted[p]: honest agents that approved p, each once in a slot
    silent,    \* honest agents that crashed for good
    index,     \* the epoch that the status of an honest operator says
    held       \* held[g]: [epoch, side]: what a gateway has accepted; side 0 gives the candidate nothing

vars == <<voted, silent, index, held>>

Alike == Permutations(Gateways)

RECURSIVE Sum(_, _)
Sum(f, S) == IF S = {} THEN 0 ELSE LET p == CHOOSE q \in S : TRUE IN f[p] + Sum(f, S \ {p})

InSlot(s) == {p \in Proposals : p.slot = s}

Init ==
    /\ voted = [p \in Proposals |-> 0]
    /\ silent = 0
    /\ index = 0
    /\ held = [g \in Gateways |-> [epoch |-> 0, side |-> 0]]

(* An honest agent that has not voted in the slot approves what follows    *)
(* from the state that it sees. What it refuses counts for nothing here.   *)
Vote(p) ==
    /\ Sum(voted, InSlot(p.slot)) < Honest - silent
    /\ p.from = index
    /\ voted' = [voted EXCEPT ![p] = @ + 1]
    /\ UNCHANGED <<silent, index, held>>

Crash ==
    /\ silent < 1
    /\ \A s \in Slots : Sum(voted, InSlot(s)) < Honest - silent
    /\ silent' = silent + 1
    /\ UNCHANGED <<voted, index, held>>

Certified(p) == voted[p] + Faulty >= Quorum

(* An honest operator executes by compare-and-set, or lowers.              *)
Execute(p) ==
    /\ Certified(p)
    /\ p.from = index
    /\ index' = p.slot
    /\ UNCHANGED <<voted, silent, held>>

Lower ==
    /\ index < Epochs
    /\ index' = index + 1
    /\ UNCHANGED <<voted, silent, held>>

(* A gateway is told a raise by whoever has its certificate: the operator, *)
(* one that was away meanwhile, a copy of a status, a backup.              *)
Raise(g, p) ==
    /\ Certified(p)
    /\ p.slot > held[g].epoch
    /\ p.from >= held[g].epoch
    /\ held' = [held EXCEPT ![g] = [epoch |-> p.slot, side |-> p.choice]]
    /\ UNCHANGED <<voted, silent, index>>

(* A lowering needs nobody, and may come from anybody.                     *)
TakeBack(g, e) ==
    /\ e >= held[g].epoch
    /\ held' = [held EXCEPT ![g] = [epoch |-> e, side |-> 0]]
    /\ UNCHANGED <<voted, silent, index>>

Next ==
    \/ \E p \in Proposals : Vote(p) \/ Execute(p)
    \/ Crash
    \/ Lower
    \/ \E g \in Gateways : \/ \E p \in Proposals : Raise(g, p)
                           \/ \E e \in Slots : TakeBack(g, e)

Spec == Init /\ [][Next]_vars

-----------------------------------------------------------------------------
Raised(g) == held[g].side # 0

(* No two gateways accept two different raises of one epoch.               *)
Agreement ==
    \A g, h \in Gateways :
        (Raised(g) /\ Raised(h) /\ held[g].epoch = held[h].epoch) => held[g].side = held[h].side

(* Nobody serves what fewer honest agents approved than a quorum has       *)
(* beside all liars.                                                       *)
Earned ==
    \A g \in Gateways :
        Raised(g) => \E p \in InSlot(held[g].epoch) : p.choice = held[g].side /\ voted[p] >= Quorum - Faulty

(* There are no two certificates of one slot.                              *)
OneOfASlot ==
    \A p, q \in Proposals : (p.slot = q.slot /\ Certified(p) /\ Certified(q)) => p = q

(* A gateway's epoch never goes back; a raise has a new one, and those who *)
(* voted for it knew what the gateway knew: a lowering above all.          *)
NoWayBack ==
    [][\A g \in Gateways :
        /\ held'[g].epoch >= held[g].epoch
        /\ (held'[g].side # 0 /\ held'[g] # held[g]) =>
            /\ held'[g].epoch > held[g].epoch
            /\ \E p \in InSlot(held'[g].epoch) : Certified(p) /\ p.from >= held[g].epoch]_vars

(* Those who are well can certify, whatever the liars do or leave.         *)
Live == Honest >= Quorum
=============================================================================
