"""Mutants: one wrong line each, and the test that must turn red. Numbers are those of the review that found them.

A mutant of Rust (`crate`) names a test of that crate; one of Python a test of pytest. Those of server, policy and accounting that
the review did not look at are in `own_*.py`.
"""

from __future__ import annotations

from mutant import Mutant
from own_jailed import JAILED
from own_ledger import SPENT
from own_metrics import COUNTED
from own_node import TERMS
from own_policy import RELEASE
from own_server import SERVER

UNIT = "tests/unit"
TRAIN, LEDGER, STREAM, GATE = (
    "aegis_flower/train.py",
    "aegis_flower/ledger.py",
    "aegis_flower/stream.py",
    "aegis_flower/gate.py",
)
CLIENT, SAMPLE = "aegis_flower/client/vault_client.py", "aegis_flower/per_record/losses.py"
BUILD, ENDS = "aegis_flower/report/collect.py", "tests/e2e/test_run_ends.py"
ACCOUNT, NATIVE = "aegis_flower/accountant.py", "aegis_engine/python/aegis_engine/__init__.py"
NOISE, POLICY = "aegis_engine/crates/noise/src", "aegis_engine/crates/policy/src"
WIRING = (
    f"{UNIT}/client/test_vault_client.py::test_the_noise_in_the_update_is_the_noise_in_the_ledger_and_in_the_record"
)
LONG = f"{UNIT}/test_dp_session.py::test_noise_is_there_in_every_coordinate_of_a_long_vector_and_never_comes_again"
FAKE = """

_Rng, _Session = Rng, DpSession


class Rng:
    def __init__(self):
        self._r = _Rng()

    def add_gaussian(self, values, sigma):
        {noise}

    def poisson_rows(self, rows, rate):
        return self._r.poisson_rows(rows, {rate})


class DpSession:
    def __init__(self, permit, **plan):
        self._sigma = plan["noise_multiplier"] * plan["clip"]
        self._s = _Session(permit, **{{**plan, "sample_rate": {drawn}(plan["sample_rate"])}})

    def draw(self):
        return self._s.draw()

    def noise(self, sums):
        return {session}(self._s, self._sigma, sums)


def _cut(session, sigma, sums):
    import numpy as np
    z = np.frombuffer(session.noise(np.zeros(len(sums))), np.float32) / sigma
    return (sums + np.clip(z, -3, 3) * sigma).astype(np.float32).tobytes()


def _again(session, sigma, sums):
    import numpy as np
    z = np.frombuffer(session.noise(np.zeros(len(sums))), np.float32)[:4096]
    return (sums + np.resize(z, len(sums))).astype(np.float32).tobytes()


def _short(session, sigma, sums):
    import numpy as np
    z = np.frombuffer(session.noise(np.zeros(len(sums))), np.float32).copy()
    z[1 << 20 :] = 0
    return (sums + z).astype(np.float32).tobytes()


def _whole(session, sigma, sums):
    return session.noise(sums)


__all__ = ["""


def fake(
    noise: str = "self._r.add_gaussian(values, sigma)",
    rate: str = "rate",
    session: str = "_whole",
    drawn: str = "float",
) -> str:
    """The engine's generator, or its session, as Python would see a wrong one."""
    return FAKE.format(noise=noise, rate=rate, session=session, drawn=drawn)


CUT = (
    "import numpy as np; z = np.zeros(len(values), np.float32); self._r.add_gaussian(z, 1.0); "
    "values += (np.clip(z, -3, 3) * sigma).astype(np.float32)"
)
AGAIN = (
    "import numpy as np; z = np.zeros(min(4096, len(values)), np.float32); self._r.add_gaussian(z, sigma); "
    "values += np.resize(z, len(values))"
)
RATE = f"{UNIT}/test_dp_session.py::test_rows_are_drawn_at_the_rate_to_a_part_in_a_hundred"

PYTHON = [
    Mutant(
        "C02 half the noise of the charge",
        TRAIN,
        "noise_multiplier=charged.noise_multiplier,",
        "noise_multiplier=charged.noise_multiplier / 2,",
        WIRING,
    ),
    Mutant(
        "C09 ledger not committed",
        CLIENT,
        "            self._commit(trained.permit, trained.reservation)",
        "            pass",
        WIRING,
    ),
    Mutant(
        "C10 buffers leave with the weights",
        "aegis_flower/weights.py",
        "copy=True) for p in travelling(model).values()]",
        "copy=True) for p in model.state_dict().values()]",
        f"{UNIT}/client/test_vault_client.py::test_buffers_stay_at_home",
    ),
    Mutant(
        "G03 operator's norm ignored",
        GATE,
        "max_norm = limits.max_norm if own is None else min(limits.max_norm, own)",
        "max_norm = limits.max_norm",
        f"{UNIT}/client/test_vault_client.py::test_the_operators_norm_is_the_smaller",
    ),
    Mutant(
        "G05 any metric may leave",
        GATE,
        "metrics_allowed=limits.metrics,",
        "metrics_allowed=list(proposal.metrics),",
        f"{UNIT}/client/test_vault_client.py::test_no_metric_beside_the_known_ones_may_leave",
    ),
    Mutant("G06 epsilon of the release another", GATE, "epsilon=proposal.epsilon_total,", "epsilon=0.001,", WIRING),
    Mutant(
        "L07 no fsync",
        "aegis_flower/book.py",
        "            os.fsync(file.fileno())\n",
        "",
        f"{UNIT}/test_book.py::test_an_entry_is_durable_before_anybody_hears_of_it",
    ),
    Mutant(
        "L14 MAC does not bind the chain",
        "aegis_flower/book.py",
        'f"{self.lineage}\\n{previous}\\n{body_of(entry)}"',
        'f"{self.lineage}\\n{body_of(entry)}"',
        f"{UNIT}/test_book.py::test_an_entry_spliced_in_from_a_fork_is_found",
    ),
    Mutant(
        "L16 an old entry outside the bounds is left out",
        LEDGER,
        "        return math.inf\n",
        "        return 0.0\n",
        f"{UNIT}/test_book.py::test_an_old_entry_outside_the_bounds_makes_the_ledger_read_as_exhausted",
    ),
    Mutant(
        "L17 accounted at the message's δ",
        LEDGER,
        "after = _steps(entries) + Counter({mechanism: steps})\n            total = gate_epsilon(after, self.delta, tight=False)",
        "after = _steps(entries) + Counter({mechanism: steps})\n            total = gate_epsilon(after, 1e-12, tight=False)",
        f"{UNIT}/test_ledger.py::test_what_was_reserved_is_spent_and_on_record",
    ),
    Mutant(
        "L18 an overflow of the accountant is believed",
        ACCOUNT,
        "if not (math.isfinite(value) and value >= least - 1e-6):",
        "if False:",
        f"{UNIT}/test_accountant.py::test_an_accountant_that_overflows_is_not_believed",
    ),
    Mutant(
        "T17 rows stay in torch's batch",
        TRAIN,
        "                clear(inputs)\n            finally:\n                clear(x)",
        "            finally:\n                pass",
        f"{UNIT}/test_train_traces.py::test_a_batch_is_cleared_after_its_step",
    ),
    Mutant(
        "T19 gradients are left on the model",
        TRAIN,
        "        optimizer.zero_grad(set_to_none=True)\n    return TrainResult",
        "    return TrainResult",
        f"{UNIT}/test_train_traces.py::test_training_leaves_the_model_as_it_was_but_for_its_weights",
    ),
    Mutant(
        "T20 empty batch noise not scaled",
        TRAIN,
        ".cpu().numpy())) / self.mechanism.expected_batch",
        ".cpu().numpy())) / (self.mechanism.expected_batch if len(batch) else 1.0)",
        f"{UNIT}/test_train_traces.py::test_an_empty_batch_is_noised_like_any_other",
    ),
    Mutant(
        "T23 divided by the rows there are",
        TRAIN,
        ".cpu().numpy())) / self.mechanism.expected_batch",
        ".cpu().numpy())) / (self.mechanism.sample_rate * len(self.data))",
        f"{UNIT}/test_train.py::test_the_scale_of_the_noise_says_nothing_of_how_many_rows_there_are",
    ),
    Mutant(
        "T24 clipped sums in float32",
        SAMPLE,
        "sums = [torch.zeros(g.shape[1], dtype=torch.float64, device=g.device) for g in per_row]",
        "sums = [torch.zeros(g.shape[1], dtype=torch.float32, device=g.device) for g in per_row]",
        f"{UNIT}/per_record/test_losses.py::test_the_sum_of_many_clipped_gradients_is_exact_to_the_clip",
    ),
    Mutant(
        "T25 each record clipped to a thousandth more",
        SAMPLE,
        "factors = torch.where(finite, (clip / norms.clamp(min=1e-300)).clamp(max=1.0), torch.zeros_like(norms))",
        "factors = torch.where(finite, (1.001 * clip / norms.clamp(min=1e-300)).clamp(max=1.0), torch.zeros_like(norms))",
        f"{UNIT}/per_record/test_losses.py::test_the_sum_of_many_clipped_gradients_is_exact_to_the_clip",
    ),
    Mutant(
        "S06 decrypted record not cleared",
        "aegis_flower/stored.py",
        "        records.view(np.uint8)[:] = 0\n",
        "",
        f"{UNIT}/test_stream.py::test_decrypted_records_are_cleared_when_the_batch_is_made",
    ),
    Mutant("R02 noise cut at 3 sigma", NATIVE, "\n\n__all__ = [", fake(CUT), LONG),
    Mutant("R05 rate 3 % too high", NATIVE, "\n\n__all__ = [", fake(rate="min(1.0, rate * 1.03)"), RATE),
    Mutant("R07 noise repeats every 4096 values", NATIVE, "\n\n__all__ = [", fake(AGAIN), LONG),
    Mutant(
        "R08 no noise above 2^20 values",
        NATIVE,
        "\n\n__all__ = [",
        fake("len(values) <= 1 << 20 and self._r.add_gaussian(values, sigma)"),
        LONG,
    ),
    # The same of the session, by which the node trains.
    Mutant("R12 a session's noise cut at 3 sigma", NATIVE, "\n\n__all__ = [", fake(session="_cut"), LONG),
    Mutant(
        "R15 a session's rate 3 % too high",
        NATIVE,
        "\n\n__all__ = [",
        fake(drawn="(lambda rate: min(1.0, 1.03 * rate))"),
        RATE,
    ),
    Mutant("R17 a session's noise repeats every 4096 values", NATIVE, "\n\n__all__ = [", fake(session="_again"), LONG),
    Mutant("R18 a session noises no value above 2^20", NATIVE, "\n\n__all__ = [", fake(session="_short"), LONG),
    Mutant(
        "X01 report says the asked epsilon",
        BUILD,
        "        clients=tuple(clients),\n",
        "        clients=tuple(\n"
        "            dataclasses.replace(c, epsilon=min(c.epsilon or 0.0, cfg.privacy.epsilon)) for c in clients\n"
        "        ),\n",
        f"{ENDS}::test_a_run_that_spent_more_than_was_asked_for_says_what_it_spent",
    ),
    Mutant(
        "X02 what left without noise is not listed",
        "aegis_flower/report/outputs.py",
        '    yield "which clients took part in which round, what they call themselves, and error codes"\n',
        "",
        f"{ENDS}::test_what_left_without_noise_is_listed",
    ),
    Mutant(
        "X03 report of a deployment says the asked epsilon",
        BUILD,
        '            "epsilon": bound,\n',
        '            "epsilon": min(bound, cfg.privacy.epsilon),\n',
        f"{ENDS}::test_what_a_server_says_of_nodes_it_cannot_read_is_the_most_they_can_have_spent",
    ),
]

RUST = [
    Mutant(
        "N03 the value is rounded first",
        f"{NOISE}/gaussian.rs",
        "round(f64::from(value) / grid + noise)",
        "round(f64::from(value) / grid) + round(noise)",
        "it_is_the_sum_that_is_rounded_and_never_the_value",
        "aegis-noise",
    ),
    Mutant(
        "N04 the sum is not rounded",
        f"{NOISE}/gaussian.rs",
        "round(f64::from(value) / grid + noise)",
        "f64::from(value) / grid + noise",
        "sums_with_noise_are_on_the_grid_and_centred_on_the_values",
        "aegis-noise",
    ),
    Mutant(
        "N23 a session rounds the sum before its noise",
        f"{NOISE}/gaussian.rs",
        "round(sum / grid + sample * steps)",
        "round(sum / grid) + round(sample * steps)",
        "a_session_rounds_the_sum_with_its_noise_and_never_the_sum_before",
        "aegis-noise",
    ),
    Mutant(
        "N24 a session's sum is not rounded",
        f"{NOISE}/gaussian.rs",
        "(round(sum / grid + sample * steps) * grid) as f32",
        "((sum / grid + sample * steps) * grid) as f32",
        "what_a_session_gives_is_the_sum_with_normal_noise_on_the_grid",
        "aegis-noise",
    ),
    Mutant(
        "N25 a session's noise without the clip",
        f"{NOISE}/session.rs",
        "let sigma = plan.sigma * plan.clip;",
        "let sigma = plan.sigma;",
        "what_a_session_gives_is_the_sum_with_normal_noise_on_the_grid",
        "aegis-noise",
    ),
    Mutant(
        "N26 a session's noise 2 % short",
        f"{NOISE}/session.rs",
        "let sigma = plan.sigma * plan.clip;",
        "let sigma = 0.98 * plan.sigma * plan.clip;",
        "what_a_session_gives_is_the_sum_with_normal_noise_on_the_grid",
        "aegis-noise",
    ),
    Mutant(
        "N27 a session draws at the square root of its rate",
        f"{NOISE}/session.rs",
        "poisson_rows(&mut self.rng, plan.rows, plan.rate)?",
        "poisson_rows(&mut self.rng, plan.rows, plan.rate.sqrt())?",
        "a_session_draws_each_row_with_its_rate",
        "aegis-noise",
    ),
    Mutant(
        "N28 a sum beyond its noise passes",
        f"{NOISE}/session.rs",
        "if !sums.iter().all(|sum| sum.abs() <= LARGEST_SUM * sigma) {",
        "if !sums.iter().all(|sum| sum.is_finite()) {",
        "a_sum_of_another_dimension_or_without_room_for_its_noise_is_refused",
        "aegis-noise",
    ),
    Mutant(
        "N08 coins of 32 bits",
        f"{NOISE}/poisson.rs",
        "if u128::from(stream.next_u64()) < threshold {",
        "if (u128::from(stream.next_u32()) << 32) < threshold {",
        "each_row_is_decided_by_64_bits_of_its_own",
        "aegis-noise",
    ),
    Mutant(
        "N17 the key is not cleared",
        f"{NOISE}/rng.rs",
        "type Wiped = Zeroizing<[u8; 32]>;",
        "type Wiped = Box<[u8; 32]>;",
        "key_and_buffer_are_zeroized_on_drop",
        "aegis-noise",
        refused="the trait `ZeroizeOnDrop` is not implemented",
    ),
    Mutant(
        "N19 a step without noise is whole",
        f"{NOISE}/session.rs",
        "            && self.noised == self.drawn\n"
        "            && self.drawn.checked_mul(self.plan.dim) == Some(self.coordinates)\n",
        "",
        "a_session_that_noised_each_drawn_step_once_is_whole",
        "aegis-noise",
    ),
    Mutant(
        "N20 zero of the discrete Gaussian comes twice as often",
        f"{NOISE}/discrete.rs",
        "if !(negative && magnitude == 0) {",
        "if true {",
        "samples_have_the_probabilities_of_the_discrete_gaussian",
        "aegis-noise",
    ),
    Mutant(
        "P01 counts leave as they are",
        f"{POLICY}/release/counts.rs",
        "*value = (*value).clamp(0, most).saturating_add(noise);",
        "*value = (*value).clamp(0, most).saturating_add(noise - noise);",
        "counts_leave_with_the_engines_noise_and_never_as_they_are",
        "aegis-policy",
    ),
    Mutant(
        "P02 a session that is not whole makes an update private",
        f"{POLICY}/release/asked.rs",
        "if !spent.whole() || moved > spent.plan.dim {",
        "if moved > spent.plan.dim {",
        "an_update_is_private_only_by_what_the_engine_drew_and_noised",
        "aegis-policy",
    ),
]

# What the review lists and no test can tell from the right thing: why.
EQUIVALENT = {
    "R00": "the review's control: a wrapper around the generator that changes nothing",
    "N19 without its first line": "each noised step adds its coordinates, so their number says how many were noised as well",
    "P09 in `premises`": "the permit is looked at there for the sake of the record, and taken afterwards, which says no as well",
    "N12": "one of the clip's margins: rounding towards zero keeps the bound by itself, and the bound is checked at the end",
}

PYTHON += [*SERVER, *TERMS, *COUNTED, *SPENT, *(each for each in JAILED if not each.crate)]
RUST += [*RELEASE, *(each for each in JAILED if each.crate)]
ALL = [*PYTHON, *RUST]
