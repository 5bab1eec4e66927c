"""Secure aggregation: plans, both machines, rosters."""

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any, Self, final

from aegis_engine._data import Buffer
from aegis_engine._permits import Release
from aegis_engine.types import RosterFacts

@final
class SecAggPlan:
    """What a run sums, and with which graph: checked once, when it is made, and passed whole from then on."""

    def __new__(
        cls,
        *,
        dim: int,
        metrics: Sequence[str],
        clip: float,
        value_bits: int,
        weight_max: int,
        metric_max: int,
        max_clients: int,
        min_clients: int,
        sparse: tuple[int, int] | None = None,
        commit: bool = False,
    ) -> Self:
        """Profile S, a complete graph; or profile D with `sparse`: percent colluding, percent lost.

        Args:
            dim: model values.
            metrics: names of the metrics.
            clip: largest absolute value.
            value_bits: bits of one value.
            weight_max: largest weight of a client.
            metric_max: largest absolute metric of a client.
            max_clients: largest cohort.
            min_clients: smallest number of contributions.
            sparse: what the sparse graph must bear.
            commit: a commit step in the complete graph, too.

        Raises:
            SecAggError: a number is impossible, or the sums do not fit 64 bits.
        """

    @property
    def dim(self) -> int:
        """Model values."""

    @property
    def metrics(self) -> list[str]:
        """Names of the metrics."""

    @property
    def clip(self) -> float:
        """Largest absolute value."""

    @property
    def value_bits(self) -> int:
        """Bits of one value."""

    @property
    def weight_max(self) -> int:
        """Largest weight of a client."""

    @property
    def metric_max(self) -> int:
        """Largest absolute metric of a client."""

    @property
    def max_clients(self) -> int:
        """Largest cohort."""

    @property
    def min_clients(self) -> int:
        """Smallest number of contributions."""

    @property
    def sparse(self) -> tuple[int, int] | None:
        """Percent colluding and percent lost that the sparse graph must bear; None in a complete one."""

    @property
    def commit(self) -> bool:
        """Whether the complete graph has a commit step."""

    @property
    def ring_bits(self) -> int:
        """Bits of one masked value."""

@final
class SecAggClient:
    """A client's side of secure aggregation in one run."""

    def __new__(
        cls,
        run_id: int,
        node_id: int,
        *,
        min_cohort: int,
        min_threshold: int,
        metrics: Sequence[str],
        metric_max: int,
        weight_max: int,
        identity: Identity | None = None,
        roster: Sequence[bytes] | None = None,
        colluding_percent: int = 10,
        min_honest: int = 2,
        require_commit: bool = False,
        policy: bytes | None = None,
        same_policy: bool = False,
    ) -> Self:
        """Without an identity a fresh one; without a roster the server's word for the others' keys is taken.

        Args:
            run_id: the run.
            node_id: this client.
            min_cohort: smallest cohort it joins.
            min_threshold: smallest threshold it accepts.
            metrics: names of what it counts, in order; a plan with others is refused at the share step (AEG-S023).
            metric_max: largest absolute value of a metric, beyond which it counts as this; a plan with another is refused.
            weight_max: largest weight that a plan may ask for.
            identity: its lasting key.
            roster: keys of those who may take part.
            colluding_percent: share of the clients that may work with the server against it.
            min_honest: fewest honest inputs any sum may be forced down to (`honest_inputs`).
            require_commit: takes part only in rounds with a commit step.
            policy: hash of the policy bundle over its data, for the advert.
            same_policy: takes part only with clients that advertise this same policy.
        """

    @staticmethod
    def from_bytes(state: bytes) -> SecAggClient:
        """Restores a state."""

    def to_bytes(self) -> bytes:
        """The state, secrets included: seal it."""

    @property
    def answers(self) -> int:
        """How often an answer changed the state. It only grows: a state with fewer than seen before was put back."""

    def advertise(self) -> bytes:
        """Identity, channel key, policy and smallest cohort, signed."""

    def share(self, request: bytes) -> bytes:
        """Round keys and sealed shares."""

    def check_masked(self, request: bytes, *, dim: int) -> None:
        """Dry run of `masked_input`: refuses whatever that would refuse, and changes nothing. For before anything is read.

        Args:
            request: the server's message.
            dim: values of the model.

        Raises:
            SecAggError, NotEnoughClients: the request would be refused.
        """

    def masked_input(self, request: bytes, release: Release, *, binding: bytes, dim: int | None = None) -> bytes:
        """The released update, quantised, weighted, masked, packed; a release of metrics alone adds zeros.

        Args:
            request: the server's message.
            release: what the gates let out.
            binding: `wire.binding` of what this client was sent; only the inputs of clients with the same one can be summed.
            dim: values of the model, for a release of metrics alone: the server's plan must name as many.
        """

    def commit(self, request: bytes) -> bytes:
        """The signed set of survivors; one a round."""

    def unmask(self, request: bytes) -> bytes:
        """One kind of share a peer, and the shares of the next round where the request brings it."""

@final
class SecAggServer:
    """The server's side of one run."""

    def __new__(
        cls, run_id: int, plan: SecAggPlan | None = None, *, roster: Sequence[bytes] | None = None, **loose: Any
    ) -> Self:
        """A server of one run.

        Args:
            run_id: the run.
            plan: what it sums.
            roster: keys of those who may take part; adverts of others are refused.
            loose: the plan's keywords instead of a plan, with a `DeprecationWarning`, until 0.2.
        """

    @property
    def threshold(self) -> int:
        """Shares that unmask one client, in the round in progress; 0 without one."""

    @property
    def degree(self) -> int:
        """Neighbours of each client; 0 without a round."""

    @property
    def has_commit_step(self) -> bool:
        """Whether the survivors sign before they unmask."""

    @property
    def need(self) -> int:
        """Fewest clients with which the round can go on."""

    @property
    def cohort(self) -> list[int]:
        """Clients of the round: those asked for that take part in a cohort so small."""

    @property
    def missing(self) -> list[int]:
        """Those of the cohort whose shares have not come."""

    def fork(self) -> SecAggServer:
        """Another server of this run with the same adverts: for another group of the round, or for the round that follows."""

    @property
    def ring_bits(self) -> int:
        """Bits of one masked value."""

    def add_advert(self, node: int, message: bytes) -> int | None:
        """Takes a client's advert. Gives the node that had its identity before, whose seat it takes; mostly None."""

    def bind(self, binding: bytes) -> None:
        """Says what the clients of the round are sent (`wire.binding`); before their requests. A fork has its own."""

    def begin_round(self, round: int, cohort: Sequence[int]) -> bytes:
        """Starts a round; gives the share request, the same for everyone in `cohort` (the property).

        Raises:
            SecAggError: too few of them take part in a cohort of that size, or the plan is for fewer.
            NotEnoughClients: fewer than `min_clients` advertised.
        """

    def add_share(self, node: int, message: bytes) -> None:
        """Takes a client's round keys and sealed shares."""

    def end_shares(self) -> list[int]:
        """Ends the share step: who goes on."""

    def masked_request(self, node: int) -> bytes:
        """What to send to one of them for the masked input."""

    def add_masked(self, node: int, message: bytes) -> None:
        """Adds a masked vector to the sum; it is not kept."""

    def end_masked(self) -> list[int]:
        """Ends the mask step: the survivors."""

    def commit_request(self) -> bytes:
        """The sets the survivors sign, the same for all."""

    def add_commit(self, node: int, message: bytes) -> None:
        """Takes a survivor's signature."""

    def unmask_request(self, node: int, next: bytes | None = None) -> bytes:
        """What to send to one survivor for its shares; `next`, the share request of a round that follows, rides along."""

    def add_unmask(self, node: int, message: bytes) -> bytes | None:
        """Takes a client's shares; gives its answer to the share request that rode along, for that round's `add_share`."""

    def finish(self) -> SecAggSum:
        """Unmasks the sum.

        Raises:
            NotEnoughClients: too few shares or contributors; the model is unchanged.
        """

@final
class SecAggSum:
    """The sum over the clients that took part."""

    @property
    def contributors(self) -> list[int]:
        """Whose vectors are in it."""

    @property
    def weight(self) -> int:
        """Sum of the weights."""

    @property
    def metrics(self) -> dict[str, int]:
        """Sums of the metrics."""

    @property
    def false_shares(self) -> list[tuple[int, int]]:
        """Shares that did not fit the others, and did not cost the round: who sent it, whose secret it is of."""

    def mean(self) -> bytes:
        """Weighted mean of the updates, float64."""

    def integers(self) -> list[int]:
        """The exact sum of the encoded vectors: values, weight, metrics."""

def honest_inputs(clients: int, colluders: int, *, commit: bool = False) -> int:
    """The fewest honest inputs that a server with so many of the clients can bring into a sum, in a complete graph."""

def encode_update(
    update: Buffer,
    weight: int,
    metrics: Sequence[int],
    *,
    names: Sequence[str],
    clip: float,
    value_bits: int,
    weight_max: int,
    metric_max: int,
    max_clients: int,
) -> list[int]:
    """The plain integers of one contribution, for comparison with an unmasked sum."""

@final
class Identity:
    """The private key of a node or of an operator (Ed25519); the secret never becomes a Python object."""

    @staticmethod
    def create(path: str | PathLike[str]) -> Identity:
        """A fresh one, in a new file with mode 0600.

        Raises:
            FileExistsError: there is a file; an identity is never overwritten.
        """

    @staticmethod
    def load(path: str | PathLike[str]) -> Identity:
        """Reads the file.

        Raises:
            ValueError: it is no identity, or others may read it.
        """

    @property
    def public(self) -> bytes:
        """The verification key, 32 bytes."""

    def sign(self, domain: str, message: bytes) -> bytes:
        """Signs a message in a domain, 64 bytes (Ed25519): no other use of the key can take the signature for its own.

        Args:
            domain: what is signed, such as "approvals": 1 to 64 of a to z, 0 to 9, - and /.
            message: any bytes.

        Raises:
            SecAggError: the domain is none.
        """

def signature_holds(public: bytes, domain: str, message: bytes, signature: bytes) -> bool:
    """Whether a signature is that of the identity `public`, 32 bytes, for this message in this domain."""

def roster_sign(identity: Identity, *, serial: int, issued: int, expires: int, members: Mapping[bytes, str]) -> str:
    """The text of a roster: names by identity, times in seconds since 1970.

    Raises:
        RosterError: a name cannot be written.
    """

def roster_open(
    text: str, signer: bytes, *, now: int | None = None, last: tuple[int, bytes] | None = None
) -> RosterFacts:
    """Reads a roster that `signer` must have signed: serial, issued, expires, hash, members (names by identity).

    Args:
        text: the file.
        signer: the operator's verification key.
        now: refuse what has expired, or is from the future by more than a day.
        last: serial and hash of the roster taken before, with `now`: refuse an older one, or another of that serial.

    Raises:
        RosterError: as its code says.
    """
