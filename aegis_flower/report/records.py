"""The parts of a run report, as the types of their fields say them. Nothing is checked here: the whole report checks its parts.

Each field has its type, its bounds and its sentence in one place. ``report.schema.json`` and the table of ``docs/REPORT.md`` are
made from them by ``make generated``. The parts are plain dataclasses, so that an error can say where in the report it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

from aegis_flower.report.check import HEX, INSTANT, SHA256, Kept, says

Count = Annotated[int, Field(ge=0)]
Ratio = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(ge=0)]
Name = Annotated[str, Field(min_length=1)]
Hex = Annotated[str, Field(pattern=HEX)]
Sha256 = Annotated[str, Field(pattern=SHA256)]
Instant = Annotated[str, Field(pattern=INSTANT, json_schema_extra={"format": "date-time"})]
Status = Literal["finished", "refused", "failed", "interrupted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """Which run this is and how it ended. ``warnings`` are what a reader must know before the numbers."""

    id: Annotated[Name, says("Identifier of the run, unique in its output folder.")]
    name: Annotated[Name, says("Name for people.")]
    experiment: Annotated[Name, says("Name of the experiment in the configuration tree.")]
    started: Annotated[Instant, says("When the run began: RFC 3339, with the offset from UTC.")]
    runtime: Annotated[Name, says("Where the apps ran: inprocess, jailed, ray or deployment.")]
    trust: Annotated[
        Literal["embedded", "any", "blocks"] | None,
        says(
            "What the app at the nodes was trusted with. embedded: it ran in the node's process, and clip and noise were in its "
            "hands. any: it ran in a jail, and the node clipped and noised its whole update. blocks: so, for each block of "
            "people. Null: each node's own operator decides, and the server does not know."
        ),
    ] = None
    seed: Annotated[
        int | None, says("Seed of splits and initial weights. It never reaches noise, masks or sampling for privacy.")
    ]
    status: Annotated[
        Status,
        says(
            "finished: a model was released. refused: a policy, a budget or a gate said no. failed: an error ended "
            "the run. interrupted: a signal ended it; the model is that of the last whole round."
        ),
    ]
    reason: Annotated[str | None, says("Why the run was refused, failed or interrupted; null when it finished.")] = None
    stopped: Annotated[
        str | None,
        says("Why it ended before its last round by a rule or a callback of its own; null when it did not."),
    ] = None
    private: Annotated[
        bool,
        says("True when every released model was protected as its clients' epsilon says. Never true with test noise."),
    ]
    labels: Annotated[tuple[Name, ...], says("Labels a reader must see, such as NOT PRIVATE.")] = ()
    warnings: Annotated[
        tuple[Name, ...],
        says("What a reader must know before the numbers, such as a ledger that differs from the configuration."),
    ] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigReport:
    """The composed configuration; ``sha256`` is over its canonical form, as the caller computed it."""

    resolved: Annotated[Mapping[str, Any], Kept, says("The composed configuration, every value filled in.")]
    sha256: Annotated[Sha256, says("SHA-256 of the canonical JSON of the resolved configuration, lower-case hex.")]
    overrides: Annotated[tuple[str, ...], says("Overrides given on top of the experiment, in their order.")] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionsReport:
    """The software that ran; what was not loaded is ``None``."""

    aegis_flower: Annotated[Name, says("Version of aegis-flower.")]
    aegis_engine: Annotated[str | None, says("Version of the engine.")] = None
    engine_digest: Annotated[str | None, says("SHA-256 of the engine's compiled module, as loaded.")] = None
    engine_path: Annotated[str | None, says("Path the engine was loaded from.")] = None
    flwr: Annotated[str | None, says("Version of Flower.")] = None
    torch: Annotated[str | None, says("Version of PyTorch.")] = None
    opacus: Annotated[str | None, says("Version of Opacus.")] = None
    dp_accounting: Annotated[str | None, says("Version of dp-accounting, which computes every epsilon.")] = None
    python: Annotated[Name, says("Version of Python.")]
    platform: Annotated[Name, says("Operating system and processor.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class LostClient:
    """A client that fell silent or refused: ``step`` is the protocol step it did not finish, ``code`` that of its refusal."""

    node: Annotated[Name, says("Name of the client.")]
    step: Annotated[Name, says("Protocol step it did not finish, such as share, train, masked or unmask.")]
    reason: Annotated[str, says("What was seen, such as a deadline that passed.")]
    code: Annotated[Name | None, says("Stable code of its refusal (docs/ERRORS.md); null where it fell silent.")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundSeconds:
    """Wall-clock seconds of a round by phase."""

    share: Annotated[Amount | None, says("Key agreement and secret shares.")] = None
    train: Annotated[Amount | None, says("Training, gates and masking at the clients.")] = None
    unmask: Annotated[Amount | None, says("Taking the masks off the sum.")] = None
    total: Annotated[Amount | None, says("The whole round.")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundReport:
    """One round. ``participants`` are the clients whose update is in the sum.

    A client lost after it sent its masked input is in both ``participants`` and ``lost`` (Bonawitz 2017 §4: its
    mask is taken off with the shares of the others).
    """

    round: Annotated[Count, says("Number of the round; later rounds have larger numbers.")]
    accuracy: Annotated[Ratio | None, says("Accuracy of the aggregated model on the test rows, 0 to 1.")] = None
    loss: Annotated[float | None, says("Mean loss on the test rows.")] = None
    epsilon_max: Annotated[
        Amount | None,
        says(
            "Largest epsilon any client has spent in this run up to the end of this round. Its delta, unit, "
            "neighbouring relation and accountant stand with the clients."
        ),
    ] = None
    participants: Annotated[tuple[Name, ...], says("Clients whose update is in the sum.")]
    lost: Annotated[
        tuple[LostClient, ...],
        says(
            "Clients that fell silent in this round. One that was lost after its masked input arrived is among the "
            "participants too."
        ),
    ] = ()
    weight_total: Annotated[Amount | None, says("Sum of the weights in the aggregate.")] = None
    seconds: Annotated[RoundSeconds, says("Wall-clock seconds by phase.")] = RoundSeconds()
    trips: Annotated[Count | None, says("Round trips of messages that the round took.")] = None
    bytes_up: Annotated[Count | None, says("Bytes of the largest masked update that a client sent in this round.")] = (
        None
    )
    metrics: Annotated[Mapping[str, float | None], Kept, says("Further metrics by name.")] = field(default_factory=dict)
    public_metrics: Annotated[
        Mapping[str, float],
        Kept,
        says("What a public test set at the server says of the model after this round; no node was asked for it."),
    ] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    """A client's audit log at the end of the run.

    ``verified`` says that its chain was recomputed up to ``head``; ``None`` where nobody here could, as in a deployment.
    """

    records: Annotated[Count, says("Records in the log.")]
    head: Annotated[Hex, says("Hash of the last record, lower-case hex. Compare it with the client's own log.")]
    verified: Annotated[
        bool | None,
        says(
            "Whether the chain was recomputed up to head and holds the checkpoint that the server kept; null where "
            "only the node can do that."
        ),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A client's refusal: the stable code of the error and its text."""

    round: Annotated[Count | None, says("Round of the refusal; null before the first round.")]
    code: Annotated[Name, says("Stable code of the error, such as AEG-B001.")]
    reason: Annotated[str, says("Text of the error.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class MechanismReport:
    """Steps of one mechanism that a ledger holds for this run; ``kind`` is dpsgd, counts, update or blocks."""

    kind: Annotated[Name, says("dpsgd, counts of an evaluation, update of a node taken whole, or blocks of people.")]
    noise_multiplier: Annotated[Amount, says("Standard deviation of the noise, in units of what one record can add.")]
    sample_rate: Annotated[Ratio, says("Probability that a record is in a step.")]
    clip: Annotated[Amount, says("L2 bound of one record's gradient; of counts, the cap of one record's loss.")]
    steps: Annotated[Count, says("Steps charged.")]
    blocks: Annotated[Count, says("Blocks of people that there are at the node; 0 for the other kinds.")] = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationReport:
    """What evaluations were charged to the held-out rows' own ledger: by this run, and by all runs; for a record and a person."""

    epsilon: Annotated[Amount | None, says("Epsilon that this run's evaluations charged for one held-out record.")] = (
        None
    )
    epsilon_total: Annotated[Amount | None, says("Epsilon that all runs' evaluations charged.")] = None
    epsilon_person: Annotated[Amount | None, says("This run's, for the person with most held-out rows.")] = None
    epsilon_total_person: Annotated[Amount | None, says("All runs', for that person.")] = None
    delta: Annotated[Ratio | None, says("Delta of these.")] = None
    budget_epsilon: Annotated[Amount | None, says("Epsilon that the held-out rows' own terms allow.")] = None
    rows_per_person: Annotated[Count | None, says("Held-out rows of the person with most of them.")] = None
    mechanisms: Annotated[tuple[MechanismReport, ...], says("What the ledger holds for this run, by mechanism.")] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientReport:
    """One client (one vault): what it spent, allowed, denied and refused.

    ``epsilon`` is what this run charged to it, for one record; ``epsilon_total`` what all runs charged, both at the δ of the
    data's terms. Those of a ``person`` hold for whoever has most rows. ``source`` says where they come from: the vault's
    ledger, or an upper bound from what the server asked for. ``None`` without differential privacy, or where it is not known.
    """

    node: Annotated[Name, says("Name of the client, such as hospital-1.")]
    name: Annotated[
        str | None,
        says(
            "What the node's operator calls it, where that is another name than node's. It is the node's own word. Null: "
            "it said none."
        ),
    ] = None
    source: Annotated[
        Literal["ledger", "upper_bound"] | None,
        says(
            "Where epsilon comes from: the vault's own ledger, or an upper bound from what the server asked for in "
            "all rounds. Null without epsilon."
        ),
    ] = None
    epsilon: Annotated[
        Amount | None,
        says(
            "Epsilon that this run charged to this client for one record, at the delta of the data's terms. Read it "
            "only with delta, unit, neighbouring and accountant, which are not null when it is given. Null: no "
            "differential privacy, or not known."
        ),
    ] = None
    epsilon_total: Annotated[
        Amount | None, says("Epsilon that all runs charged to this data set's people, by the same ledger and delta.")
    ] = None
    epsilon_person: Annotated[
        Amount | None,
        says("This run's epsilon for the person with most rows. Null: not known, or no bound worth a number."),
    ] = None
    epsilon_total_person: Annotated[Amount | None, says("All runs' epsilon for the person with most rows.")] = None
    rows_per_person: Annotated[Count | None, says("Rows of the person with most of them, among those allowed.")] = None
    delta: Annotated[Ratio | None, says("Delta of the guarantee.")] = None
    unit: Annotated[Name | None, says("What is protected: record, person, node or client.")] = None
    neighbouring: Annotated[Name | None, says("How neighbouring data sets differ, such as add_remove.")] = None
    sampler: Annotated[Name | None, says("How batches were drawn, such as poisson.")] = None
    accountant: Annotated[Name | None, says("Accountant that computed epsilon, such as pld.")] = None
    noise_multiplier: Annotated[Amount | None, says("Standard deviation of the noise over the clipping bound.")] = None
    sample_rate: Annotated[Ratio | None, says("Probability that a record is in a batch.")] = None
    steps: Annotated[Count | None, says("Noised steps charged.")] = None
    clip: Annotated[Amount | None, says("L2 bound of one record's gradient.")] = None
    mechanisms: Annotated[tuple[MechanismReport, ...], says("What the ledger holds for this run, by mechanism.")] = ()
    noise: Annotated[
        Name | None, says("Where the noise came from: secure, exact, or insecure_test, which is NOT PRIVATE.")
    ] = None
    budget_epsilon: Annotated[
        Amount | None,
        says("Epsilon that the data's terms allow all runs together; null where the node keeps it to itself."),
    ] = None
    evaluation: Annotated[
        EvaluationReport | None,
        says(
            "What evaluations charged to the held-out rows' own ledger; null where there was none, or it is not known."
        ),
    ] = None
    rows_allowed: Annotated[Count | None, says("Rows the policies let into training.")] = None
    rows_denied: Annotated[
        Mapping[str, Count] | None,
        Kept,
        says(
            "Rows kept from training, by the identifier of the policy that denied them. Null: the node keeps it to "
            "itself."
        ),
    ] = field(default_factory=dict)
    rounds_taken_part: Annotated[Count, says("Rounds whose sum holds an update of this client.")]
    audit: Annotated[
        AuditReport | None, says("The client's audit log at the end of the run; null when it sent none.")
    ] = None
    refusals: Annotated[tuple[Refusal, ...], says("What this client refused, in order.")] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredReport:
    """One number about the released model, over all held-out rows or those of one group."""

    name: Annotated[Name, says("What was measured, such as auroc or mae.")]
    value: Annotated[float, says("The number, as it is read from the sums over all clients.")]
    sd: Annotated[
        Amount | None,
        says(
            "Standard deviation that the noise of the sums gives it, to within a tenth. Null: exact sums, or not known."
        ),
    ] = None
    group: Annotated[Name | None, says("Group of rows that it is of; null for all of them.")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultsReport:
    """The released model on the held-out rows, and what it is to be compared with.

    ``accuracy_sd`` is the standard deviation that the noise of the counts gives it; ``None`` where they are exact or unknown.
    """

    accuracy: Annotated[Ratio | None, says("Accuracy of the released model, 0 to 1.")] = None
    accuracy_sd: Annotated[
        Amount | None,
        says(
            "Standard deviation that the noise of the counts gives the accuracy; null where the counts are exact, "
            "or it is not known."
        ),
    ] = None
    majority_class_accuracy: Annotated[
        Ratio | None, says("Accuracy of always answering the commonest class of the held-out rows.")
    ] = None
    accuracy_without_dp: Annotated[
        Ratio | None, says("Accuracy of the same experiment without differential privacy, when it was run.")
    ] = None
    loss: Annotated[float | None, says("Mean loss of the released model on the test rows.")] = None
    test_rows: Annotated[Count | None, says("Test rows.")] = None
    public_metrics: Annotated[
        Mapping[str, float],
        Kept,
        says("What a public test set at the server says of the released model; it costs no epsilon."),
    ] = field(default_factory=dict)
    metrics: Annotated[
        tuple[MeasuredReport, ...],
        says("Every declared metric of the released model, over all held-out rows and by group."),
    ] = ()
    epsilon_max: Annotated[
        Amount | None,
        says(
            "Largest epsilon of any client; never below one in clients, where its delta, unit, neighbouring "
            "relation and accountant stand."
        ),
    ] = None
    epsilon_total_max: Annotated[Amount | None, says("Largest epsilon_total of any client.")] = None
    epsilon_person_max: Annotated[Amount | None, says("Largest epsilon_person of any client.")] = None
    noised_outputs: Annotated[
        tuple[str, ...], says("What left with noise of its own beside the model, and what it was charged.")
    ] = ()
    unnoised_outputs: Annotated[
        tuple[str, ...], says("What left a client or the server without noise: epsilon says nothing about it.")
    ] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SecAggReport:
    """How updates were masked. ``bytes_up_per_client`` is for one round."""

    enabled: Annotated[bool, says("False: the server could read each client's update.")]
    profile: Annotated[str | None, says("Name of the protocol profile.")] = None
    threshold: Annotated[Count | None, says("Shares needed to take off a mask.")] = None
    cohort: Annotated[Count | None, says("Clients that agreed on keys.")] = None
    ring_bits: Annotated[Count | None, says("Width b of the ring Z_2^b in which updates are summed.")] = None
    value_bits: Annotated[Count | None, says("Bits of one quantised value.")] = None
    bytes_up_per_client: Annotated[Count | None, says("Bytes a client sends in one round.")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TimingsReport:
    """Wall-clock seconds of the run by phase."""

    provision: Annotated[Amount | None, says("Building vaults and policies.")] = None
    train: Annotated[Amount | None, says("All rounds.")] = None
    report: Annotated[Amount | None, says("Evaluation and report.")] = None
    total: Annotated[Amount | None, says("The whole run.")] = None
