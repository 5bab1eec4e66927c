"""Everything between a request and a release."""

from collections.abc import Mapping, Sequence
from typing import Any, Self, final

from aegis_engine._data import Buffer
from aegis_engine._vault import Vault
from aegis_engine.types import DatasetTerms, Explanation

@final
class Permit:
    """A decision on record that opens some rows of one object for one purpose. No constructor, not picklable."""

    @property
    def id(self) -> str:
        """Random id, as in the audit record."""

    @property
    def object(self) -> str:
        """The object it opens."""

    @property
    def action(self) -> str:
        """read, train, evaluate or export."""

    @property
    def purpose(self) -> str:
        """What for."""

    @property
    def rows(self) -> int:
        """Number of rows."""

    @property
    def subjects(self) -> int:
        """Number of people among them."""

    @property
    def rows_per_subject_max(self) -> int:
        """Most rows of one person that it opens."""

    @property
    def round(self) -> int:
        """The round it was asked for."""

    @property
    def uses(self) -> int:
        """How often it was checked."""

    @property
    def facts(self) -> DatasetTerms:
        """All that the steward laid down, as the engine read it for the decision; `ComplianceEngine.terms` without a look at the
        vault. How many rows there are to use, `rows` says.

        Raises:
            VaultError: an owner's permit, of a vault without a policy bundle.
        """

    @property
    def layout(self) -> list[tuple[str, str, int]]:
        """Columns of the data set: name, dtype, values per record; not only those that it opens.

        Raises:
            VaultError: an owner's permit, of a vault without a policy bundle.
        """

@final
class Request:
    """What a run asks for; the same question can be asked of several data sets."""

    def __new__(
        cls,
        *,
        action: str,
        purpose: str,
        columns: Sequence[str] | None = None,
        run: str = ...,
        round: int = 0,
        node: str = ...,
        app_hash: str = ...,
        minutes: float = 10.0,
    ) -> Self:
        """A request.

        Args:
            action: read, train, evaluate or export.
            purpose: what for.
            columns: columns to read, in this order; None = all that are approved.
            run: the run.
            round: the round of the run.
            node: the node that asks.
            app_hash: hash of the code that asks.
            minutes: how long the permit is to last, up to 24 h.

        Raises:
            ValueError: there is no such action, or no permit lasts so long.
        """

    @property
    def action(self) -> str:
        """read, train, evaluate or export."""

    @property
    def purpose(self) -> str:
        """What for."""

    @property
    def columns(self) -> list[str] | None:
        """Columns to read; None = all that are approved."""

    @property
    def run(self) -> str:
        """The run."""

    @property
    def round(self) -> int:
        """Its round."""

    @property
    def node(self) -> str:
        """The node that asks."""

    @property
    def app_hash(self) -> str:
        """Hash of the code that asks."""

    @property
    def minutes(self) -> float:
        """How long the permit is to last."""

@final
class ComplianceEngine:
    """Decides over one vault, by the bundle the vault was put under."""

    def __new__(cls, vault: Vault) -> Self:
        """The engine of a governed vault.

        Raises:
            VaultError: the vault has no policy bundle, or its copy of the policies is another one.
        """

    @property
    def bundle_hash(self) -> bytes:
        """SHA-256 of the bundle."""

    def authorize(self, dataset: str, request: Request | None = None, **loose: Any) -> Permit:
        """Decides, records the decision durably, and gives a permit for the rows that are allowed.

        Args:
            dataset: its id.
            request: what is asked.
            loose: the request's keywords instead of a request, with a `DeprecationWarning`, until 0.2.

        Raises:
            PolicyDenied: names the policies and what each asks for; the refusal is on record.
        """

    def explain(
        self, dataset: str, request: Request | None = None, *, today: int | None = None, **loose: Any
    ) -> Explanation:
        """The decision `authorize` would make; nothing is recorded, nothing is opened.

        Args:
            dataset: its id.
            request: what is asked.
            today: as if it were this day, in days since 1970-01-01.
            loose: the request's keywords instead of a request, with a `DeprecationWarning`, until 0.2.
        """

    def layout(self, dataset: str) -> list[tuple[str, str, int]]:
        """Columns of a data set of records: name, dtype, values per record. Its rows stay closed, so no permit is needed."""

    def terms(self, dataset: str) -> DatasetTerms:
        """All that the steward laid down for a data set, by id, with defaults filled in for data sets of earlier versions.

        ``purposes``, ``columns``, ``approved_columns``, ``min_rows``, ``min_subjects``, ``require_dp``,
        ``require_secure_aggregation``, ``budget_epsilon``, ``budget_micro_epsilon``, ``controller``, ``role`` (``train`` or
        ``holdout``), ``delta``, ``max_evaluations``, ``lineage``, ``lineages``.
        """

    def budget_epsilon(self, dataset: str) -> float:
        """ε that all runs together may spend on a data set, as its steward laid down."""

    def gate(
        self,
        permits: Sequence[Permit],
        proposal: Proposal | Buffer,
        limits: Limits | None = None,
        *,
        session: DpSession | None = None,
        epsilon: float = 0.0,
        counts: tuple[float, Sequence[tuple[int, Sequence[str]]]] | None = None,
        counts_seed: int | None = None,
        counts_reservation: str | None = None,
        counts_epsilon: float = 0.0,
        **loose: Any,
    ) -> Release:
        """Runs all release gates, asks the policies of each part, records the answer, and releases.

        Args:
            permits: all that were used: the one to train first, then the one to evaluate.
            proposal: what asks to leave.
            limits: what may leave.
            session: what drew and noised, whatever comes of it used up; without it the update counts as unprotected.
            epsilon: ε of the training data's ledger with this round.
            counts: noise multiplier, and what is told: blocks of metrics, each with what one record adds at most and the
                names, of which one record changes one.
            counts_seed: makes the noise of counts repeatable, and worthless.
            counts_reservation: id of the holdout's reservation.
            counts_epsilon: ε of the holdout's ledger with this evaluation.
            loose: the keywords of proposal and limits, with the bare buffer as `proposal` and a `DeprecationWarning`, until
                0.2.

        Raises:
            GateFailed: with every gate's result.
            PolicyDenied: the gates passed, the policies object.
        """

    def release_nothing(self, metrics: Sequence[str], *, secure_aggregation: bool) -> Release:
        """Zero for each metric, of a node that has no rows to count; on record like any release."""

@final
class Proposal:
    """An update that asks to leave, with what is claimed about it. A gate uses it up."""

    def __new__(
        cls,
        update: Buffer,
        *,
        tensors: Sequence[tuple[str, Sequence[int]]],
        metrics: Mapping[str, int],
        secure_aggregation: bool,
        weight: int,
    ) -> Self:
        """A proposal.

        Args:
            update: float32 values; none for counts alone.
            tensors: names and shapes of the update.
            metrics: exact counts; they need a permit to evaluate.
            secure_aggregation: whether it leaves masked.
            weight: weight in the mean; 1 where the data demand privacy.
        """

@final
class Limits:
    """What the run's contract and the node's operator let out."""

    def __new__(
        cls,
        *,
        contract: Sequence[tuple[str, Sequence[int]]],
        metrics_allowed: Sequence[str],
        weight_max: int,
        max_norm: float,
        min_rows: int = 0,
    ) -> Self:
        """Limits.

        Args:
            contract: names and shapes of the tensors that the round expects.
            metrics_allowed: names that may leave.
            weight_max: largest weight.
            max_norm: largest L2 norm.
            min_rows: fewest rows by the operator.
        """

    @property
    def contract(self) -> list[tuple[str, list[int]]]:
        """Names and shapes of the tensors that the round expects."""

    @property
    def metrics_allowed(self) -> list[str]:
        """Names that may leave, sorted."""

    @property
    def weight_max(self) -> int:
        """Largest weight."""

    @property
    def max_norm(self) -> float:
        """Largest L2 norm."""

    @property
    def min_rows(self) -> int:
        """Fewest rows by the operator."""

@final
class Release:
    """An update that passed every gate; made only by `ComplianceEngine.gate`."""

    @property
    def id(self) -> str:
        """Random id, as in the audit record."""

    @property
    def weight(self) -> int:
        """Weight in the mean."""

    @property
    def gates(self) -> list[tuple[str, bool, str, str]]:
        """(name, passed, observed, limit) of every gate."""

    def metrics(self) -> dict[str, int]:
        """The counts in clear; refused when they were released for secure aggregation."""

    def update(self) -> bytes:
        """The update in clear, float32; refused when it was released for secure aggregation."""

@final
class DpSession:
    """One round of DP-SGD under one permit: it draws the batches, adds the noise and counts both. A gate uses it up."""

    def __new__(
        cls,
        permit: Permit,
        *,
        noise_multiplier: float,
        clip: float,
        sample_rate: float,
        steps: int,
        expected_batch: float,
        dim: int,
        reservation: str,
        insecure_seed: int | None = None,
        blocks: int = 0,
    ) -> Self:
        """A session over the permit's rows, charged as `reservation`.

        Args:
            permit: one to train.
            noise_multiplier: σ in units of the clip, 0.05 to 10 000; with `blocks`, of twice the clip.
            clip: L2 bound of one record's gradient; with `blocks`, of one block's update.
            sample_rate: Poisson rate.
            steps: steps that were reserved.
            expected_batch: public divisor of each sum, for the record.
            dim: trained coordinates.
            reservation: id in the ledger.
            insecure_seed: noise anybody can repeat; the release then says so.
            blocks: most blocks of people whose updates are clipped and summed here, up to 65 536: one step of rate 1, divisor 1.
                0 draws batches.
        """

    def draw(self) -> bytes:
        """Places among the permit's rows of the next step's batch, little-endian u32; refused past the reserved steps."""

    def noise(self, sums: Buffer) -> bytes:
        """The sum of the drawn batch (float64) with noise on every coordinate, float32; once a step."""

    def add_block(self, update: Buffer) -> None:
        """Adds the update of one block (float32), scaled to an L2 norm of at most the clip; zeros in place of one that is not
        finite. A block that is never added counts as zeros. Refused past the number of blocks.
        """

    def noise_blocks(self) -> bytes:
        """The sum over all blocks with noise for twice the clip on every coordinate, float32; once."""

    @property
    def spent(self) -> tuple[int, int, int, bool]:
        """Steps drawn, steps noised, coordinates noised, and whether every drawn step was noised whole."""
