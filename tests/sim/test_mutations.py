"""Each mistake of `mutations` is caught in a life that is known to show it: scenarios by name, seeds by number."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from reembed.controller.web import Metrics
from tests.sim import seeds
from tests.sim.mutations import MUTATIONS, mutated
from tests.sim.script import parse
from tests.sim.simulation import Broken, simulate

_SCENARIOS = Path(__file__).parent / "scenarios"
_SEED = 1

# Lives are tried in their order until one breaks.
_CAUGHT: Mapping[str, tuple[str | int, ...]] = {
    "gateways ask for no certificate": ("panel_forged_certificates",),
    "a signature is a vote": ("panel_forged_certificates",),
    "any certificate will do": ("panel_forged_certificates",),
    "any members will do": ("panel_forged_certificates",),
    "gateways keep what they accept to themselves": ("panel_restored_status",),
    "the operator asks for no votes": ("panel_decides_with_two_liars",),
    "a lowering waits for a certificate": ("panel_is_not_asked_to_roll_back",),
    "nobody says that votes are missing": ("panel_waits_for_agents_that_are_gone",),
    "what was refused or expired is not asked anew": ("panel_waits_for_agents_that_are_gone",),
    "what gateways refuse is left in the index": ("panel_forged_serving_side",),
    "agents that are gone take queries back at once": ("panel_waits_for_agents_that_are_gone",),
    "pods go without a window": ("pool_grows_on_queue_and_shrinks_after_its_window",),
    "a pod that is not measured is idle": ("pool_is_silent_and_stays",),
    "a pool's pause means nothing": ("pool_paused_stays",),
    "queues bring no pods": ("pool_grows_on_queue_and_shrinks_after_its_window",),
    "slow answers bring no pods": ("pool_grows_on_latency_and_shrinks_after_its_window",),
    "memory brings no pods": ("pool_grows_on_memory_and_shrinks_after_its_window",),
    "leaks are not looked at": ("pool_with_a_leak_is_mended",),
    "a pod that leaks goes at once": ("pool_with_a_leak_is_mended",),
    "migrations need no pods": ("pools_scale_under_a_migration",),
    "pods go before others take their place": ("pool_is_covered_until_its_gpus_answer",),
    "what somebody makes of a Deployment is believed": ("pool_is_scaled_by_hand",),
    "a step is a leak": ("pool_whose_load_rises_does_not_leak",),
    "variants have no minimum": ("pool_stays_within_its_bounds",),
    "variants have no maximum": ("pool_stays_within_its_bounds",),
    "classes are not kept": ("succeeds",),
    "a class has no probes": ("succeeds",),
    "pods never go": ("pool_grows_on_queue_and_shrinks_after_its_window",),
    "triggers are not looked at": ("candidate_short_of_memory_in_retention",),
    "errors are no trigger": ("candidate_that_fails",),
    "memory is no trigger": ("candidate_short_of_memory_in_retention",),
    "latency is no trigger": ("candidate_that_is_slow",),
    "held time is not added up": ("candidate_that_fails",),
    "held time does not survive a restart": ("operator_that_flaps_adds_up_held_time",),
    "the acknowledgement does not survive a restart": ("operator_that_flaps_holds_steps_once",),
    "statuses are written over what somebody wrote": ("two_at_once", "status_emptied_while_another_waits"),
    "conflicts are ignored": ("somebody_writes_all_the_time", "somebody_writes_often"),
    "effects come before the status": ("succeeds", 0),
    "lowering comes after the status": ("candidate_that_fails", 0),
    "no gateway is an acknowledgement": ("all_gateways_lost",),
    "gateways are not asked": ("all_gateways_lost", "gateway_cut_off_in_canary", 2),
    "silent gateways count as well": ("gateway_cut_off_in_canary", "all_gateways_lost"),
    "capacity is not looked at": ("candidate_loses_one_of_two_pods",),
    "probes are not looked at": ("probes_that_fail",),
    "running triggers do not hold": ("step_due_while_a_trigger_runs",),
    "nothing keeps a weight from rising": ("candidate_that_fails", "both_sides_fail"),
    "a step counts from when it began": ("all_gateways_lost", 30),
    "epochs do not grow": ("succeeds", 0),
    "the old collection is released at once": ("gateway_cut_off_while_promoting",),
    "what is let go is not asked of gateways": ("gateway_apart_while_rolling_back",),
    "the old collection is withdrawn while promoting": ("gateway_cut_off_while_promoting", 1),
    "pools are claimed by migrations alone": ("succeeds", 0),
    "who holds the index is not looked at": ("two_at_once", "status_emptied_while_another_waits"),
    "lists do not tell what is gone": ("pod_gone_while_nobody_watched",),
    "nobody looks again": ("succeeds", 0),
    "vanished holders are left alone": ("holder_vanishes_in_retention",),
    "a doubt is not cast": ("succeeds", "commands_of_all_kinds"),
    "a look is believed for ever": ("succeeds",),
    "news wake nobody": ("succeeds",),
    "a write without an answer counts as not done": (37, 2156),
    "answers to commands are forgotten": ("commands_of_all_kinds",),
    "any command applies": ("commands_of_all_kinds",),
    "paused means nothing": ("paused_by_command_in_canary",),
    "hooks are not waited for": ("hook_that_refuses_a_step",),
    "a hook that failed is as good": ("hook_that_refuses_the_beginning",),
    "each pass has hooks' keys of its own": ("hooks_of_a_migration_that_succeeds",),
    "a hook is called before it is recorded": ("hooks_of_a_migration_that_succeeds",),
    "what was paused starts its hooks": ("hooks_wait_while_paused",),
    "rollback hooks wait for nobody": ("rollback_hook_waits_for_gateways",),
    "steps need no approval": ("approved_step_by_step",),
    "dependencies are not looked at": ("begins_after_what_it_depends_on",),
    "gates are not waited for": ("gates_are_waited_for",),
    "a gate that fails is waited for": ("gate_that_fails",),
    "the last gate is forgotten": ("last_of_two_gates_fails",),
    "what both sides find is no gate": ("gate_that_fails",),
    "a command replaces gates": ("promoted_before_its_gate_holds",),
    "shadow queries go on in an emergency": ("emergency_ends_shadow_queries",),
    "shadow queries outlive a gateway's lease": ("gateway_apart_for_long",),
    "users' own queries are not looked at": ("query_that_rolls_back",),
    "on which side of its threshold a query is means nothing": ("query_below_its_threshold",),
    "what is tried out acts": ("query_in_dry_run",),
    "what was not measured is well": ("query_without_an_answer",),
    "what was not measured never counts": ("query_that_must_answer",),
    "a finished migration rests too early": ("silent_gateway_keeps_a_collection",),
    "collections are named after migrations": ("migration_made_again_in_canary",),
    "evaluations are named after migrations": ("migration_made_again_in_canary",),
    "a namesake's status is one's own": ("migration_made_again_after_it_succeeded", "migration_made_again_in_canary"),
    "what a namesake holds is one's own": ("migration_replaced_by_force",),
    "anybody may write": ("leader_frozen_in_the_middle_of_its_effects",),
    "a Lease is handed over with a write on its way": ("leader_leaves_with_a_write_under_way",),
    "a leader waits to be told that it leads no more": ("leader_frozen_in_the_middle_of_its_effects",),
    "a leader writes for longer than its Lease": ("leader_apart_from_the_api_server",),
    "a Lease is free at once": ("lease_taken_by_hand",),
    "what serves is not looked at": ("inspection_takes_long",),
    "whoever made the vectors is well": ("vectors_not_reproduced",),
    "emergencies never end": ("step_due_while_a_trigger_runs", "probes_that_fail"),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mistake_is_caught(name: str, metrics: Metrics) -> None:
    with mutated(name):
        assert any(_breaks(life, metrics) for life in _CAUGHT[name])


def _breaks(life: str | int, metrics: Metrics) -> bool:
    script = seeds.script(life) if isinstance(life, int) else parse(_text(life))
    try:
        simulate(script, life if isinstance(life, int) else _SEED, metrics)
    except Broken:
        return True
    return False


def _text(scenario: str) -> str:
    return (_SCENARIOS / f"{scenario}.txt").read_text().partition("----\n")[0]
