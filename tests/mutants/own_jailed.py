"""Mutants of blocks of people and of apps in a jail."""

from __future__ import annotations

from mutant import Mutant
from places import UNIT

NOISE, VAULT = "aegis_engine/crates/noise/src", "aegis_engine/crates/vault/src"
BLOCKS, CLIENT, ROWS = (f"aegis_flower/jailed/{name}.py" for name in ("blocks", "client", "rows"))
OF_BLOCKS, MOVED = f"{UNIT}/jailed/test_blocks.py", f"{UNIT}/jailed/test_sensitivity.py"

JAILED = [
    Mutant(
        "J01 the update of a block is not clipped",
        f"{NOISE}/blocks.rs",
        "        clip_l2(&mut clipped, self.clip);\n",
        "",
        "blocks::tests::one_block_moves_the_sum_by_twice_the_clip_at_most",
        crate="aegis-noise",
    ),
    Mutant(
        "J02 one block more than there are is summed",
        f"{NOISE}/blocks.rs",
        "if self.added >= self.most {",
        "if self.added > self.most {",
        "blocks::tests::the_most_blocks_of_the_longest_updates_are_summed_exactly",
        crate="aegis-noise",
    ),
    Mutant(
        "J03 the sum of blocks is noised for one clip",
        f"{NOISE}/plan.rs",
        "            2.0 * self.clip\n",
        "            self.clip\n",
        "the_noise_of_blocks_is_that_of_twice_the_clip",
        crate="aegis-noise",
    ),
    Mutant(
        "J04 a session of blocks noises a sum that it did not clip",
        f"{NOISE}/session.rs",
        "    pub fn noise(&mut self, sums: &[f64]) -> Result<Vec<f32>, NoiseError> {\n        self.without_blocks()?;\n",
        "    pub fn noise(&mut self, sums: &[f64]) -> Result<Vec<f32>, NoiseError> {\n        self.spent.drawn = 1;\n",
        "a_session_of_blocks_gives_its_sum_once_and_with_noise",
        crate="aegis-noise",
    ),
    Mutant(
        "J05 a sum of blocks is noised anew as often as one likes",
        f"{NOISE}/session.rs",
        "if self.spent.noised > 0 && self.blocks.is_some() {",
        "if self.spent.noised > 9 && self.blocks.is_some() {",
        "a_session_of_blocks_gives_its_sum_once_and_with_noise",
        crate="aegis-noise",
    ),
    Mutant(
        "J06 rows are assigned to blocks, not people",
        BLOCKS,
        'of = np.frombuffer(vault.blocks(permit, blocks), dtype="<u4")',
        'of = np.arange(len(vault.blocks(permit, blocks)) // 4, dtype="<u4") % blocks',
        f"{OF_BLOCKS}::test_a_persons_rows_are_in_one_block_that_does_not_depend_on_who_else_is_there",
    ),
    Mutant(
        "J07 a task that failed ends the round",
        "aegis_flower/jailed/tasks.py",
        "result.update is None:\n            return None\n",
        "result.update is None:\n            raise RuntimeError\n",
        f"{UNIT}/jailed/test_jailed_client.py::test_a_failure_is_an_answer_like_any_other_and_its_words_stay_in_the_nodes_log",
    ),
    Mutant(
        "J08 a block without rows shortens the round",
        BLOCKS,
        "        wait()\n        if inside is None:\n            continue\n",
        "        if inside is None:\n            start -= each\n            continue\n        wait()\n",
        f"{OF_BLOCKS}::test_a_block_without_rows_takes_its_time_as_well",
    ),
    Mutant(
        "J09 a task starts when the one before it has ended",
        BLOCKS,
        "            pace.until(due)\n",
        "            pass\n",
        f"{OF_BLOCKS}::test_tasks_start_at_fixed_times_whatever_the_others_did",
    ),
    Mutant(
        "J10 a task sees how many threads those before it had",
        "aegis_flower/jail/parent.py",
        '            os.pwrite(pids, b"1", 0)\n',
        "            pass\n",
        f"{MOVED}::test_what_a_task_leaves_behind_is_found_by_no_other_block",
    ),
    Mutant(
        "J11 the texts of a block are as wide as those of all",
        ROWS,
        "{name: fitted(values[places]) for",
        "{name: values[places] for",
        f"{UNIT}/jailed/test_jailed_rows.py::test_the_width_of_a_blocks_texts_is_that_of_its_own",
    ),
    Mutant(
        "J12 blocks cost a person as often as she has rows",
        "aegis_flower/mechanism.py",
        'WHOLE = ("update", "blocks")',
        'WHOLE = ("update",)',
        f"{OF_BLOCKS}::test_blocks_cost_a_person_what_one_gaussian_step_costs",
    ),
    Mutant(
        "J13 held-out rows are evaluated by a jailed app",
        CLIENT,
        "        if evaluates and self.node.has_holdout:\n",
        "        if False:\n",
        f"{UNIT}/jailed/test_jailed_client.py::test_an_evaluation_is_refused_before_anything_is_charged",
    ),
    Mutant(
        "J14 an app runs under an approval for another mechanism",
        CLIENT,
        "        if self.config.privacy.mode != wanted:\n",
        "        if False:\n",
        f"{UNIT}/jailed/test_jailed_client.py::test_a_mechanism_that_is_none_of_a_jail_is_refused_by_name",
    ),
    Mutant(
        "J15 the budget is charged after the rows are read",
        CLIENT,
        "        with jail_of(self._place, self.halted) as jail:\n",
        "        with jail_of(self._place, self.halted) as jail:\n            rows.read(self.node.vault, permit, self.spec)\n",
        f"{UNIT}/jailed/test_jailed_client.py::test_a_refused_budget_reads_nothing_and_runs_nothing",
    ),
]
