"""Mutants of accountant and ledger."""

from __future__ import annotations

from mutant import Mutant
from places import ACCOUNT, BOOKS, E2E, LEDGER, LEDGERS, UNIT

SPENT = [
    Mutant(
        "D01 each accountant has the whole delta",
        ACCOUNT,
        "half = max(delta / 2, DELTA[0])",
        "half = delta",
        f"{LEDGERS}::test_what_was_reserved_is_spent_and_on_record",
    ),
    Mutant(
        "D02 PLD decides for mixed mechanisms",
        ACCOUNT,
        "for m, n in steps.items() if n}) == 1",
        "for m, n in steps.items() if n}) >= 1",
        f"{LEDGERS}::test_mixed_mechanisms_are_held_to_the_accountant_that_composes_adaptively",
    ),
    Mutant(
        "D03 a step without sampling costs half",
        ACCOUNT,
        "return _ORDERS / (2 * sigma**2)",
        "return _ORDERS / (4 * sigma**2)",
        f"{UNIT}/test_accountant.py::test_epsilon_is_that_of_dp_accounting",
    ),
    Mutant(
        "D04 counts are held to an accountant that is not proved for them",
        ACCOUNT,
        " and not any(counts for *_, counts, _ in key)",
        "",
        f"{UNIT}/test_accountant.py::test_counts_are_held_to_the_accountant_that_is_proved_for_them",
    ),
    Mutant(
        "D05 a person's counts move like one record's",
        ACCOUNT,
        "dp_event.GaussianDpEvent(sigma / _fold(kind, rows))",
        "dp_event.GaussianDpEvent(sigma)",
        f"{UNIT}/test_accountant.py::test_counts_of_a_person_move_by_each_of_her_rows",
    ),
    Mutant(
        "D20 an update costs a person as often as she has rows",
        ACCOUNT,
        "return 1 if kind in WHOLE else rows",
        "return rows",
        f"{UNIT}/client/test_whole_update.py::test_an_update_costs_a_person_what_it_costs_the_node",
    ),
    Mutant(
        "D21 an update is noised for half of what other data move",
        "aegis_flower/mechanism.py",
        "return 2 * self.clip if self.kind in WHOLE else self.clip",
        "return self.clip",
        f"{UNIT}/client/test_whole_update.py::test_the_noise_of_an_update_is_that_of_the_ledger_and_of_the_record_and_its_unit_is_the_node",
    ),
    Mutant(
        "D22 an update is noised and not clipped",
        "aegis_flower/whole_update.py",
        "    clip_l2(moved, clip)\n",
        "",
        f"{UNIT}/client/test_whole_update.py::test_however_far_the_training_went_two_updates_are_within_twice_the_clip",
    ),
    Mutant(
        "D06 calibration ends above its target",
        ACCOUNT,
        "    return math.ceil(high * 1e4) / 1e4\n\n\ndef gate_epsilon",
        "    return math.floor(low * 1e4) / 1e4\n\n\ndef gate_epsilon",
        f"{UNIT}/test_accountant.py::test_calibrate_gives_the_smallest_noise_that_keeps_the_target",
    ),
    Mutant(
        "D07 noise of counts ends above its target",
        ACCOUNT,
        "        low, high = (middle, high) if spent(middle) > epsilon_each else (low, middle)\n"
        "    return math.ceil(high * 1e4) / 1e4",
        "        low, high = (middle, high) if spent(middle) > epsilon_each else (low, middle)\n"
        "    return math.floor(low * 1e4) / 1e4",
        f"{UNIT}/test_accountant.py::test_the_noise_of_counts_is_the_least_for_its_epsilon",
    ),
    Mutant(
        "D08 sigma has no least",
        "aegis_flower/mechanism.py",
        "SIGMA = (0.05, 1e4)",
        "SIGMA = (1e-200, 1e4)",
        f"{UNIT}/test_accountant.py::test_a_noise_multiplier_outside_the_bounds_is_refused_before_anything_is_written",
    ),
    Mutant(
        "D09 the richer of two lineages decides",
        LEDGER,
        "total = max(self._granted(entries, mechanism, steps, budget) for _, entries in books)",
        "total = min(self._granted(entries, mechanism, steps, budget) for _, entries in books)",
        f"{LEDGERS}::test_rows_of_two_lineages_charge_both",
    ),
    Mutant(
        "D10 one of two lineages is charged",
        LEDGER,
        '                book.append("reserve", fields, entries)',
        '                book.append("reserve", fields, entries)\n                break',
        f"{LEDGERS}::test_rows_of_two_lineages_charge_both",
    ),
    Mutant(
        "D11 an infinite budget is one",
        LEDGER,
        "if math.isfinite(total) and total <= budget:",
        "if total <= budget:",
        f"{UNIT}/test_book.py::test_an_old_entry_outside_the_bounds_makes_the_ledger_read_as_exhausted",
    ),
    Mutant(
        "D12 the keystore's head is not asked",
        "aegis_flower/book.py",
        'if head is not None and (len(entries) < head[0] or entries[head[0] - 1]["mac"] != head[1].hex()):',
        "if False:",
        f"{UNIT}/test_book.py::test_a_cut_ledger_with_an_older_reservation_appended_to_the_log_is_found",
    ),
    Mutant(
        "D13 the log's word against granting is not heard",
        "aegis_flower/book.py",
        "        if not known:\n",
        "        if False:\n",
        f"{UNIT}/test_book.py::test_what_the_log_says_counts_only_against_granting",
    ),
    Mutant(
        "D14 two processes spend at once",
        "aegis_flower/book.py",
        "            fcntl.flock(file, fcntl.LOCK_EX)\n",
        "",
        f"{LEDGERS}::test_threads_never_pass_the_budget_together",
    ),
    Mutant(
        "D15 a ledger is written through a link",
        "aegis_flower/book.py",
        "os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW |",
        "os.O_RDWR | os.O_CREAT |",
        f"{UNIT}/test_book.py::test_a_link_in_the_place_of_a_ledger_is_refused",
    ),
    Mutant(
        "D16 a looser delta than the terms' is taken",
        LEDGER,
        "        if delta > self.delta:",
        "        if False:",
        f"{LEDGERS}::test_a_looser_delta_than_the_terms_is_refused",
    ),
    Mutant(
        "D17 a budget with a hundredth of grace",
        LEDGER,
        "if math.isfinite(total) and total <= budget:",
        "if math.isfinite(total) and total <= budget * 1.01:",
        f"{LEDGERS}::test_a_budget_is_held_to_its_last_digit",
    ),
    Mutant(
        "D18 a report shows the run as the total",
        BOOKS,
        "        number(ledger.spent(delta).epsilon),\n",
        "        number(ledger.spent(delta, run).epsilon),\n",
        f"{E2E}/test_run_ends.py::test_run_and_total_differ_when_vaults_are_used_again",
    ),
]
