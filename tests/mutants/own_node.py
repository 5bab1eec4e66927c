"""Mutants of what a node admits, and of its gates."""

from __future__ import annotations

from mutant import Mutant
from places import ADMIT, CLIENT, GATE, HANDLERS, NODE, UNIT

TERMS = [
    Mutant(
        "B01 less noise than configured is taken",
        ADMIT,
        "enough = sigma >= p.noise_multiplier",
        "enough = sigma > 0",
        f"{UNIT}/client/test_client_admission.py::test_a_configured_noise_multiplier_is_the_least",
    ),
    Mutant(
        "B02 noise that takes more than the run's own epsilon is taken",
        ADMIT,
        "gate_epsilon(steps, p.delta, tight=True) <= p.epsilon * _SLACK",
        "gate_epsilon(steps, p.delta, tight=True) <= p.epsilon * 1.05",
        f"{UNIT}/client/test_client_admission.py::test_a_server_may_ask_for_more_noise_and_never_for_less",
    ),
    Mutant(
        "B03 one evaluation more than allowed",
        ADMIT,
        "    if had >= most:",
        "    if had > most:",
        f"{UNIT}/client/test_client_evaluation.py::test_the_operator_gives_a_run_more_evaluations_and_the_holdouts_terms_fewer",
    ),
    Mutant(
        "B04 the terms' number of evaluations is not asked",
        ADMIT,
        'most = min(client.node.config.max_evaluations, terms["max_evaluations"])',
        "most = client.node.config.max_evaluations",
        f"{UNIT}/client/test_client_evaluation.py::test_the_operator_gives_a_run_more_evaluations_and_the_holdouts_terms_fewer",
    ),
    Mutant(
        "B05 seeded noise where the data demand privacy",
        ADMIT,
        '(not private or cfg.privacy.noise != "secure")',
        "not private",
        f"{UNIT}/client/test_client_admission.py::test_what_the_datas_terms_do_not_allow_is_refused_unread_and_told_in_a_code",
    ),
    Mutant(
        "B06 weights that count rows where the data demand privacy",
        ADMIT,
        'if terms["require_dp"] and cfg.secagg.weighting == "rows":',
        "if False:",
        f"{UNIT}/client/test_client_admission.py::test_what_the_datas_terms_do_not_allow_is_refused_unread_and_told_in_a_code",
    ),
    Mutant(
        "B07 a message is answered that the protocol would not take",
        HANDLERS,
        "    masker.check_masked(request.payload, dim)\n",
        "",
        f"{NODE}::test_a_junk_message_trains_nothing_charges_nothing_and_leaves_no_permission",
    ),
    Mutant(
        "B08 the app is not tried on made-up rows",
        CLIENT,
        "        preflight.check(self, parameters, trains=trains, evaluates=evaluates)\n",
        "",
        f"{UNIT}/client/test_client_preflight.py::test_a_programming_error_is_named_by_a_lasting_code_and_spends_nothing",
    ),
    Mutant(
        "B09 held-out rows' terms are asked after the training",
        CLIENT,
        "        if evaluates:\n            self.prepare_evaluation(asked.round)\n",
        "",
        f"{UNIT}/client/test_client_evaluation.py::test_the_holdouts_own_terms_are_asked_on_every_path",
    ),
    Mutant(
        "B10 too few rows are found after the charge",
        CLIENT,
        'if permit.rows < terms["min_rows"] or permit.subjects < terms["min_subjects"]:',
        "if False:",
        f"{NODE}::test_too_few_rows_left_are_found_before_the_charge",
    ),
    Mutant(
        "B11 an update that is not finite is a refusal",
        GATE,
        "    if proposal.update.size:",
        "    if proposal.update.size and np.isfinite(proposal.update).all():",
        f"{UNIT}/client/test_client_evaluation.py::test_weights_that_overflow_on_some_rows_are_answered_like_any_other",
    ),
    Mutant(
        "B12 evaluations of another run count, and this run's do not",
        ADMIT,
        'e["run"] == run',
        'e["run"] != run',
        f"{UNIT}/client/test_client_evaluation.py::test_an_evaluation_is_noised_charged_to_the_holdout_alone_and_given_once_per_run",
    ),
    Mutant(
        "B15 the training's permit is asked for after the holdout's charge",
        CLIENT,
        'self._permit = self._permitted("train", asked.round) if trains else None',
        "self._permit = None",
        f"{UNIT}/client/test_client_evaluation.py::test_a_permit_that_is_refused_costs_the_budget_of_neither_data_set",
    ),
    Mutant(
        "B13 outputs are not compared",
        "aegis_flower/per_record/checks.py",
        "    _check_outputs(model, batch, draws_anew)\n",
        "",
        f"{UNIT}/per_record/test_probe.py::test_a_model_that_mixes_records_is_refused_with_the_remedy",
    ),
    Mutant(
        "B14 losses that are sums pass",
        "aegis_flower/per_record/checks.py",
        "            if not _close(each.mean().reshape(1), together.reshape(1)):",
        "            if False:",
        f"{UNIT}/per_record/test_probe.py::test_a_loss_that_mixes_records_is_refused_with_the_remedy",
    ),
]
