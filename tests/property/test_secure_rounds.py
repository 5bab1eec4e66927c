"""Rounds in a row, their shares riding in the unmask replies, on a transport that loses, repeats, reorders and mixes up messages.

Whatever it does: a message counts once, in its own step, from its own sender; and the unmasked vector is the plain integer
sum of the survivors bit for bit, or the round ends with `NotEnoughClients` and there is no sum.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np
from aegis_engine.errors import NotEnoughClients
from hypothesis import event, given, settings
from hypothesis import strategies as st
from secure import BINDING, METRICS, PLAN, SUMS, Case, Owner, Steady, refused, revived, runs

from aegis_engine import SecAggClient, SecAggPlan, SecAggServer

ADVERT, SHARE, MASKED, COMMIT, UNMASK, STAYS = range(6)

MALFORMED, THRESHOLD, ORDER, ANSWERED, WRONG_STEP, WRONG_RUN = (f"AEG-S00{i}" for i in (1, 5, 6, 7, 8, 9))
UNKNOWN, SHAPE = "AEG-S010", "AEG-S021"


@dataclass
class World:
    """One run: its nodes, how they are connected, and what each does in each round."""

    nodes: list[int]
    dim: int
    commit: bool
    sparse: tuple[int, int] | None
    min_clients: int
    rounds: list[dict[int, Case]]
    stubborn: dict[int, dict[str, Any]]
    dice: Random


@dataclass
class Transport:
    """Brings the messages of a step to the server, once each; and again, from others, too late, in any order."""

    dice: Random
    nodes: list[int]
    old: list[tuple[int, bytes]] = field(default_factory=list)

    def deliver(
        self, add: Callable[[int, bytes], Any], messages: dict[int, bytes], repeat: str | None = ANSWERED
    ) -> None:
        order = list(messages)
        self.dice.shuffle(order)
        for node in order:
            self._disturb(add, node, messages[node])
            add(node, messages[node])
            if self.dice.random() < 0.3:
                if repeat is None:
                    add(node, messages[node])
                else:
                    assert refused(add, node, messages[node]) == repeat
        if repeat is not None:  # an advert may come again at any time
            self.old += messages.items()

    def _disturb(self, add: Callable[[int, bytes], Any], node: int, message: bytes) -> None:
        if self.dice.random() < 0.2:
            cut = message[: self.dice.randrange(len(message))]
            assert refused(add, node, cut) == MALFORMED
        if self.dice.random() < 0.2:
            longer = message + bytes([self.dice.randrange(256)])
            assert refused(add, node, longer) == MALFORMED
        other = self.dice.choice(self.nodes)
        if other != node and self.dice.random() < 0.3:
            assert refused(add, other, message) == WRONG_STEP
        if self.dice.random() < 0.2:
            run = message[:2] + bytes(7) + b"\xff" + message[10:]
            assert refused(add, node, run) == WRONG_RUN
        if self.old and self.dice.random() < 0.5:  # of an earlier step, or of this step of an earlier round
            assert refused(add, *self.dice.choice(self.old)) in {MALFORMED, WRONG_STEP}

    def late(self, add: Callable[[int, bytes], Any], messages: dict[int, bytes]) -> None:
        """After the step's end."""
        for node, message in messages.items():
            assert refused(add, node, message) == WRONG_STEP
        self.old += messages.items()


class Party:
    """A client, as a node has it: a fresh process for each message, requests that come twice."""

    def __init__(self, client: SecAggClient, dice: Random) -> None:
        self.client, self._dice = client, dice
        self._seen: list[tuple[str, tuple[Any, ...]]] = []
        self.begun = 0

    def answer(self, step: str, *args: Any, again: str | None = None) -> bytes:
        """Its answer; asked again it refuses with the code `again`, or says the same, and is what it was."""
        self.client = revived(self.client)
        message: bytes = self._step(step)(*args)
        after = self.client.to_bytes()
        if self._dice.random() < 0.3:
            if again is None:
                assert self._step(step)(*args) == message
            else:
                assert refused(self._step(step), *args) == again
        if self._seen and self._dice.random() < 0.3:
            old, old_args = self._dice.choice(self._seen)
            assert refused(self._step(old), *old_args) in {ORDER, ANSWERED, WRONG_STEP}
        assert self.client.to_bytes() == after
        return message

    def _step(self, step: str) -> Any:
        call = getattr(self.client, step)
        return functools.partial(call, binding=BINDING) if step == "masked_input" else call

    def refuse(self, step: str, *args: Any) -> str:
        before = self.client.to_bytes()
        code = refused(self._step(step), *args)
        assert self.client.to_bytes() == before
        return code

    def remember(self, step: str, *args: Any) -> None:
        """A request that belongs to the past once the round is over."""
        self._seen.append((step, args))


class Run:
    """Drives a world through its rounds, and says of each what must come of it.

    Attributes:
        survivors: whose masked input the server took, in this round.
        shortage: (have, need) that must end the round where it is; None where it must not end.
        lost: who was gone at some step of this round, for sparse graphs, where who is missing whom is not counted here.
    """

    def __init__(self, owner: Owner, world: World) -> None:
        self.owner, self.world, self.dice = owner, world, world.dice
        number = next(runs)
        plan = {**PLAN, "metrics": METRICS, "dim": world.dim, "min_clients": world.min_clients}
        self.steady = Steady(SecAggServer(number, SecAggPlan(commit=world.commit, sparse=world.sparse, **plan)))
        limits = {
            **SUMS,
            "min_cohort": 2,
            "min_threshold": 2,
            "colluding_percent": world.sparse[0] if world.sparse else 10,
        }
        self.parties = {
            n: Party(SecAggClient(number, n, **(limits | world.stubborn.get(n, {}))), self.dice) for n in world.nodes
        }
        self.transport = Transport(self.dice, world.nodes)
        self.there: list[int] = []
        self.planned: list[int] | None = None
        self.shared: set[int] = set()

    @property
    def server(self) -> SecAggServer:
        return self.steady.server

    @property
    def complete(self) -> bool:
        return self.server.degree == self.n - 1

    def sometimes(self, chance: float) -> bool:
        return self.dice.random() < chance

    def advertise(self, nodes: Iterable[int]) -> None:
        adverts = {n: self.parties[n].answer("advertise") for n in nodes if n not in self.there}
        self.transport.deliver(self.steady.base.add_advert, adverts, repeat=None)
        self.there = sorted({*self.there, *adverts})

    def share(self, round_: int, cases: dict[int, Case]) -> list[int]:
        """The share trip, where one is needed; gives those in the mask step."""
        cohort = self.there if self.planned is None else self.planned
        rode, self.shared = self.shared if self.planned is not None else set(), set()
        self.n, self.lost, self.survivors = len(cohort), set(), []
        self.shortage = (len(cohort), self.world.min_clients) if len(cohort) < self.world.min_clients else None
        request, missing = self.steady.begin(round_, cohort)
        assert set(missing) == set(cohort) - rode, "the shares that rode in unmask replies need no trip"
        self.planned = None
        shares: dict[int, bytes] = {}
        late: dict[int, bytes] = {}
        for node in missing:
            party = self.parties[node]
            if node in self.world.stubborn:
                assert party.refuse("share", request) in {THRESHOLD, SHAPE}
            elif (here := cases[node].gone > SHARE) or self.sometimes(0.5):
                # also where an unmask reply that was lost had its shares: the same request, the same answer
                before = party.client.to_bytes()
                (shares if here else late)[node] = party.answer("share", request)
                assert (party.client.to_bytes() == before) == (party.begun == round_)
                party.begun = round_
        self.transport.deliver(self.server.add_share, shares)
        self.shared = rode | set(shares)
        self.lost |= set(cohort) - self.shared
        for node in cohort:
            self.parties[node].remember("share", request)
        self.need = max(2 * self.n // 3 + 1, self.world.min_clients)
        self.short_of(len(self.shared), self.need)
        inside = self.server.end_shares()
        assert set(inside) == self.shared if self.complete else set(inside) <= self.shared
        self.transport.late(self.server.add_share, late)
        return inside

    def mask(self, inside: list[int], cases: dict[int, Case]) -> None:
        inputs: dict[int, bytes] = {}
        late: dict[int, bytes] = {}
        for node in inside:
            ask, case = self.server.masked_request(node), cases[node]
            if (here := case.gone > MASKED) or self.sometimes(0.3):
                release = self.owner.release(case.update, case.weight, case.metrics)
                before = self.parties[node].client.to_bytes()
                self.parties[node].client.check_masked(ask, dim=len(case.update))  # what it says beforehand holds
                assert self.parties[node].client.to_bytes() == before
                message = self.parties[node].answer("masked_input", ask, release, again=ANSWERED)
                self.parties[node].remember("masked_input", ask, release)
                (inputs if here else late)[node] = message
        self.transport.deliver(self.server.add_masked, inputs)
        self.lost |= set(inside) - set(inputs)
        self.short_of(len(inputs), self.need)
        self.survivors = self.server.end_masked()
        assert self.survivors == sorted(inputs)
        self.transport.late(self.server.add_masked, late)

    def commit(self, cases: dict[int, Case]) -> list[int]:
        if not self.server.has_commit_step:
            return self.survivors
        request = self.server.commit_request()
        signed = [n for n in self.survivors if cases[n].gone > COMMIT]
        self.transport.deliver(self.server.add_commit, {n: self.parties[n].answer("commit", request) for n in signed})
        self.lost |= set(self.survivors) - set(signed)
        return signed

    def unmask(self, signed: list[int], cases: dict[int, Case], round_: int, *, last: bool) -> Any:
        if not last:
            self.steady.plan(self.there)
            self.planned = list(self.there)
        answers: dict[int, bytes] = {}
        late: dict[int, bytes] = {}
        for node in signed:
            try:
                ask = self.steady.unmask_request(node)
            except NotEnoughClients:  # too few around it signed
                continue
            if (here := cases[node].gone > UNMASK) or self.sometimes(0.5):
                rides = not last and node not in self.world.stubborn
                # once it has begun the next round it answers no more for this one; before that, with the same bytes
                (answers if here else late)[node] = self.parties[node].answer(
                    "unmask", ask, again=WRONG_STEP if rides else None
                )
                if rides:
                    self.parties[node].begun = round_ + 1
                    self.parties[node].remember("unmask", ask)
        self.transport.deliver(self.steady.add_unmask, answers)
        self.lost |= set(self.survivors) - set(answers)
        self.shared = set() if last else set(answers) - set(self.world.stubborn)
        self.short_of(len(answers), 2 * self.n // 3 + 1)
        summed = self.server.finish()
        self.transport.late(self.steady.add_unmask, late)
        return summed

    def short_of(self, have: int, need: int) -> None:
        self.shortage = (have, need) if have < need else None

    def round(self, round_: int, *, last: bool) -> Any:
        """The sum of one round."""
        cases = self.world.rounds[round_ - 1]
        inside = self.share(round_, cases)
        self.mask(inside, cases)
        return self.unmask(self.commit(cases), cases, round_, last=last)


seeds = st.integers(0, 2**32 - 1)


@st.composite
def worlds(draw: st.DrawFn, *, sparse: bool) -> World:
    size = draw(st.integers(6, 12) if sparse else st.integers(3, 7))
    nodes = draw(st.lists(st.integers(1, 2**63 - 1), min_size=size, max_size=size, unique=True))
    dim = draw(st.integers(1, 12))
    loss = draw(st.sampled_from([0.0, 0.05, 0.1, 0.3]))

    def case() -> Case:
        numbers = np.random.default_rng(draw(seeds))
        metrics = {m: int(numbers.integers(-PLAN["metric_max"], PLAN["metric_max"], endpoint=True)) for m in METRICS}
        values = numbers.uniform(-1.5, 1.5, dim).astype(np.float32)  # past the clip on both sides
        gone = int(numbers.integers(ADVERT, STAYS)) if numbers.random() < loss else STAYS
        return Case(values, int(numbers.integers(1, PLAN["weight_max"], endpoint=True)), metrics, gone)

    commit = draw(st.booleans())
    stubborn: dict[int, dict[str, Any]] = {}
    if draw(st.integers(0, 4)) == 0:
        wants = [{"min_threshold": 17}] if commit or sparse else [{"min_threshold": 17}, {"require_commit": True}]
        stubborn[draw(st.sampled_from(nodes))] = draw(st.sampled_from(wants))
    return World(
        nodes,
        dim,
        commit,
        draw(st.sampled_from([(0, 0), (0, 20), (10, 10)])) if sparse else None,
        draw(st.sampled_from([2, 2, 3, len(nodes)])),
        [{n: case() for n in nodes} for _ in range(draw(st.integers(1, 3)))],
        stubborn,
        Random(draw(seeds)),
    )


def drive(owner: Owner, world: World) -> Run:
    """All rounds of a world, each checked; the outcomes are events for hypothesis's statistics."""
    run = Run(owner, world)
    run.advertise(n for n, case in world.rounds[0].items() if case.gone > ADVERT)
    for round_, cases in enumerate(world.rounds, 1):
        if round_ > 1:
            run.advertise(world.nodes)  # who came late is in the next cohort that is drawn up
        try:
            summed = run.round(round_, last=round_ == len(world.rounds))
        except NotEnoughClients as error:
            event(f"round {round_} ended with {error.have} of {error.need}")
            check_the_end(run, error)
            continue
        event(f"round {round_} summed, {len(run.lost)} lost")
        check_the_sum(run, cases, summed)
    return run


def check_the_sum(run: Run, cases: dict[int, Case], summed: Any) -> None:
    assert run.shortage is None or not run.complete
    plain = np.sum([cases[n].encoded() for n in run.survivors], axis=0)
    assert summed.contributors == run.survivors
    assert summed.integers() == plain.tolist()
    assert summed.weight == sum(cases[n].weight for n in run.survivors)
    assert summed.metrics == {m: sum(cases[n].metrics[m] for n in run.survivors) for m in METRICS}


def check_the_end(run: Run, error: NotEnoughClients) -> None:
    """It says what is missing, and asking again gives no sum either."""
    server = run.server
    if run.shortage is not None and run.shortage[1] == run.world.min_clients > run.n:
        assert (error.have, error.need) == run.shortage
        return
    if run.complete:
        assert (error.have, error.need) == run.shortage
    else:
        # A neighbourhood of k + 1 bears the loss of k + 1 - t, wherever they are.
        assert len(run.lost) > server.degree + 1 - server.threshold or run.n - len(run.lost) < run.need
    assert refused(server.finish) in {"AEG-S008", "AEG-S015"}


@settings(max_examples=100, deadline=None)
@given(world=worlds(sparse=False))
def test_in_a_complete_graph_each_round_is_the_survivors_sum_or_ends_saying_what_is_missing(
    owner: Owner, world: World
) -> None:
    drive(owner, world)


@settings(max_examples=50, deadline=None)
@given(world=worlds(sparse=True))
def test_in_a_sparse_graph_each_round_is_the_survivors_sum_or_ends_for_want_of_neighbours(
    owner: Owner, world: World
) -> None:
    drive(owner, world)
