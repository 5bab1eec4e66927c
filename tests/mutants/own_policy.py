"""Mutants of the engine's release."""

from __future__ import annotations

from mutant import Mutant
from places import POLICY

RELEASE = [
    Mutant(
        "P03 metrics leave without a permit to evaluate",
        f"{POLICY}/release/gates.rs",
        "        others == 0 && permitted,",
        "        others == 0,",
        "each_gate_fails_on_its_own_fault_and_the_others_still_report",
        "aegis-policy",
    ),
    Mutant(
        "P04 a weight may count rows where the data demand privacy",
        f"{POLICY}/release/gates.rs",
        "let most = if private { 1 } else { asked.limits.weight_max };",
        "let most = if private { asked.limits.weight_max } else { asked.limits.weight_max };",
        "each_gate_fails_on_its_own_fault_and_the_others_still_report",
        "aegis-policy",
    ),
    Mutant(
        "P05 a mechanism that is on may have cost nothing",
        f"{POLICY}/release/gates.rs",
        "reserved && spent > 0 && spent <= most",
        "reserved && spent <= most",
        "each_gate_fails_on_its_own_fault_and_the_others_still_report",
        "aegis-policy",
    ),
    Mutant(
        "P06 noise that nobody reserved",
        f"{POLICY}/release/gates.rs",
        "reserved && spent > 0 && spent <= most",
        "spent > 0 && spent <= most",
        "each_fault_of_an_evaluation_is_refused",
        "aegis-policy",
    ),
    Mutant(
        "P07 seeded counts where the data demand privacy",
        f"{POLICY}/release/gates.rs",
        "asked.counts.is_some_and(|counts| counts.seed.is_none())",
        "asked.counts.is_some()",
        "each_fault_of_an_evaluation_is_refused",
        "aegis-policy",
    ),
    Mutant(
        "P08 the holdout's own masks are not asked for",
        f"{POLICY}/release/gates.rs",
        "        .any(|part| part.facts.require_secure_aggregation);",
        "        .any(|part| part.permit.action() == Action::Train && part.facts.require_secure_aggregation);",
        "each_fault_of_an_evaluation_is_refused",
        "aegis-policy",
    ),
    Mutant(
        "P09 a permit releases twice",
        f"{POLICY}/permit.rs",
        "!self.released.swap(true, Ordering::AcqRel)",
        "!self.released.swap(false, Ordering::AcqRel)",
        "a_permit_releases_once_only_in_force_only_for_training_and_only_under_its_bundle",
        "aegis-policy",
    ),
    Mutant(
        "P10 facts other than the decision's",
        f"{POLICY}/release/decide.rs",
        "            if part.permit.facts() != part.facts.hash() {",
        "            if false {",
        "facts_other_than_those_of_the_decision_are_refused",
        "aegis-policy",
    ),
    Mutant(
        "P11 counts beyond what the rows can add",
        f"{POLICY}/release/counts.rs",
        "(*value).clamp(0, most).saturating_add(noise)",
        "(*value).saturating_add(noise)",
        "counts_are_bounded_before_the_noise_and_unbiased_after_it",
        "aegis-policy",
    ),
    Mutant(
        "P12 counts noised for one of them alone",
        f"{POLICY}/release/counts.rs",
        "(self.blocks.len() as f64).sqrt()",
        "(self.blocks.len().min(1) as f64).sqrt()",
        "each_metric_has_the_noise_of_its_scale_and_of_the_joint_sensitivity",
        "aegis-policy",
    ),
]
