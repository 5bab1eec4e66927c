"""Mutants: one wrong line each, and the test that must turn red. Numbers are those of the review that found them.

A mutant of Rust (`crate`) names a test of that crate; one of Python a test of pytest.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """One wrong line.

    Attributes:
        name: number and what is wrong.
        file: where.
        old: text that stands there once.
        new: what takes its place.
        test: what must fail then.
        crate: the crate of a Rust file.
    """

    name: str
    file: str
    old: str
    new: str
    test: str
    crate: str = ""


UNIT = "tests/unit"
TRAIN, LEDGER, STREAM, GATE = (
    "aegis_flower/train.py",
    "aegis_flower/ledger.py",
    "aegis_flower/stream.py",
    "aegis_flower/gate.py",
)
CLIENT, SAMPLE = "aegis_flower/vault_client.py", "aegis_flower/per_sample.py"
ACCOUNT, NATIVE = "aegis_flower/accountant.py", "aegis_engine/python/aegis_engine/__init__.py"
NOISE, POLICY = "aegis_engine/crates/noise/src", "aegis_engine/crates/policy/src"
WIRING = f"{UNIT}/test_train.py::test_the_noise_in_the_update_is_the_noise_in_the_ledger_and_in_the_record"
LONG = f"{UNIT}/test_train.py::test_noise_is_there_in_every_coordinate_of_a_long_vector_and_never_comes_again"
FAKE = """

_Rng, _Session = Rng, DpSession


class Rng:
    def __init__(self):
        self._r = _Rng()

    def add_gaussian(self, values, sigma):
        {noise}

    def poisson_rows(self, rows, rate):
        return self._r.poisson_rows(rows, {rate})


__all__ = ["""


def fake(noise: str = "self._r.add_gaussian(values, sigma)", rate: str = "rate") -> str:
    """The engine's generator as Python would see a wrong one."""
    return FAKE.format(noise=noise, rate=rate)


CUT = (
    "import numpy as np; z = np.zeros(len(values), np.float32); self._r.add_gaussian(z, 1.0); "
    "values += (np.clip(z, -3, 3) * sigma).astype(np.float32)"
)
AGAIN = (
    "import numpy as np; z = np.zeros(min(4096, len(values)), np.float32); self._r.add_gaussian(z, sigma); "
    "values += np.resize(z, len(values))"
)

PYTHON = [
    Mutant(
        "C02 half the noise of the charge",
        CLIENT,
        "cfg, noise_multiplier, seed)",
        "cfg, noise_multiplier / 2, seed)",
        WIRING,
    ),
    Mutant(
        "C09 ledger not committed",
        CLIENT,
        "            self.node.ledger.commit(trained.reservation)",
        "            pass",
        WIRING,
    ),
    Mutant(
        "C10 buffers leave with the weights",
        CLIENT,
        "copy=True) for p in model.parameters()]",
        "copy=True) for p in model.state_dict().values()]",
        f"{UNIT}/test_train.py::test_buffers_stay_at_home",
    ),
    Mutant(
        "G03 operator's norm ignored",
        GATE,
        "max_norm = limits.max_norm if own is None else min(limits.max_norm, own)",
        "max_norm = limits.max_norm",
        f"{UNIT}/test_train.py::test_the_operators_norm_is_the_smaller",
    ),
    Mutant(
        "G05 any metric may leave",
        GATE,
        "metrics_allowed=list(METRICS),",
        "metrics_allowed=list(proposal.metrics),",
        f"{UNIT}/test_train.py::test_no_metric_beside_the_known_ones_may_leave",
    ),
    Mutant("G06 epsilon of the release another", GATE, "epsilon=proposal.epsilon_total,", "epsilon=0.001,", WIRING),
    Mutant(
        "L07 no fsync",
        LEDGER,
        "            os.fsync(file.fileno())\n",
        "",
        f"{UNIT}/test_ledger.py::test_an_entry_is_durable_before_anybody_hears_of_it",
    ),
    Mutant(
        "L14 MAC does not bind the chain",
        LEDGER,
        'f"{self.lineage}\\n{previous}\\n{_body(entry)}"',
        'f"{self.lineage}\\n{_body(entry)}"',
        f"{UNIT}/test_ledger.py::test_an_entry_spliced_in_from_a_fork_is_found",
    ),
    Mutant(
        "L16 an old entry outside the bounds is left out",
        LEDGER,
        "        return math.inf\n\n\nclass _Book",
        "        return 0.0\n\n\nclass _Book",
        f"{UNIT}/test_ledger.py::test_an_old_entry_outside_the_bounds_makes_the_ledger_read_as_exhausted",
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
        f"{UNIT}/test_ledger.py::test_an_accountant_that_overflows_is_not_believed",
    ),
    Mutant(
        "T17 rows stay in torch's batch",
        TRAIN,
        "                inputs.zero_()\n            finally:\n                x.zero_()",
        "            finally:\n                pass",
        f"{UNIT}/test_train.py::test_a_batch_is_cleared_after_its_step",
    ),
    Mutant(
        "T20 empty batch noise not scaled",
        TRAIN,
        ".cpu().numpy())) / self.cfg.expected_batch",
        ".cpu().numpy())) / (self.cfg.expected_batch if len(batch) else 1.0)",
        f"{UNIT}/test_train.py::test_an_empty_batch_is_noised_like_any_other",
    ),
    Mutant(
        "T23 divided by the rows there are",
        TRAIN,
        ".cpu().numpy())) / self.cfg.expected_batch",
        ".cpu().numpy())) / (self.cfg.sample_rate * len(self.data))",
        f"{UNIT}/test_train.py::test_the_scale_of_the_noise_says_nothing_of_how_many_rows_there_are",
    ),
    Mutant(
        "T24 clipped sums in float32",
        SAMPLE,
        "block = [g[at : at + _BLOCK].to(torch.float64) for g in per_row]",
        "block = [g[at : at + _BLOCK].float().mul(1.001).double() for g in per_row]; clip = clip * 1.001",
        f"{UNIT}/test_train.py::test_the_sum_of_many_clipped_gradients_is_exact_to_the_clip",
    ),
    Mutant(
        "S06 decrypted record not cleared",
        STREAM,
        "        records.view(np.uint8)[:] = 0\n",
        "",
        f"{UNIT}/test_stream.py::test_decrypted_records_are_cleared_when_the_batch_is_made",
    ),
    Mutant("R02 noise cut at 3 sigma", NATIVE, "\n\n__all__ = [", fake(CUT), LONG),
    Mutant(
        "R05 rate 3 % too high",
        NATIVE,
        "\n\n__all__ = [",
        fake(rate="min(1.0, rate * 1.03)"),
        f"{UNIT}/test_train.py::test_rows_are_drawn_at_the_rate_to_a_part_in_a_hundred",
    ),
    Mutant("R07 noise repeats every 4096 values", NATIVE, "\n\n__all__ = [", fake(AGAIN), LONG),
    Mutant(
        "R08 no noise above 2^20 values",
        NATIVE,
        "\n\n__all__ = [",
        fake("len(values) <= 1 << 20 and self._r.add_gaussian(values, sigma)"),
        LONG,
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
    ),
    Mutant(
        "N19 a step without noise is whole",
        f"{NOISE}/session.rs",
        "            && self.noised == self.drawn\n",
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
        f"{POLICY}/counts.rs",
        "*value = (*value).clamp(0, most).saturating_add(noise);",
        "*value = (*value).clamp(0, most).saturating_add(noise - noise);",
        "counts_leave_with_the_engines_noise_and_never_as_they_are",
        "aegis-policy",
    ),
    Mutant(
        "P02 a session that is not whole makes an update private",
        f"{POLICY}/gate.rs",
        "if !spent.whole() || moved > spent.plan.dim {",
        "if moved > spent.plan.dim {",
        "an_update_is_private_only_by_what_the_engine_drew_and_noised",
        "aegis-policy",
    ),
]
ALL = [*PYTHON, *RUST]
