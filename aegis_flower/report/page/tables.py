"""Tables of a run: clients, rounds, what noise does not protect, masking."""

from __future__ import annotations

from aegis_flower.report.model import RunReport
from aegis_flower.report.page.parts import facts
from aegis_flower.report.words import (
    DASH,
    THIN,
    UNKNOWN,
    clean,
    denied,
    epsilon,
    epsilon_of_budget,
    esc,
    guarantee,
    guarantee_lines,
    number,
    over_budget,
    percent,
    person,
    plural,
    run_epsilon,
    seconds,
    whole,
    whole_or_dash,
)


def client_table(report: RunReport) -> str:
    """What each client spent, let into training and put on record."""
    if not report.clients:
        return ""
    body = []
    for client in report.clients:
        sampling = [
            clean(client.sampler).capitalize() if client.sampler else None,
            f"q{THIN}={THIN}{number(client.sample_rate)}" if client.sample_rate is not None else None,
            plural(client.steps, "step") if client.steps is not None else None,
        ]
        audit = client.audit
        over = bool(over_budget([client]))
        spent = run_epsilon(client) if client.epsilon is None else f"ε{THIN}{run_epsilon(client)}"
        beside = [f"all runs {epsilon_of_budget(client)}"] if client.epsilon_total is not None else []
        beside += [f"for a person {person(client)}"] if client.epsilon_person is not None else []
        if client.evaluation is not None and client.evaluation.epsilon is not None:
            beside.append(f"held-out rows {epsilon(client.evaluation.epsilon)}")
        noise = (
            f"\u03c3{THIN}={THIN}{number(client.noise_multiplier)}"
            if client.noise_multiplier is not None
            else "no noise stated"
        )
        cells = [
            (esc(client.node), plural(len(client.refusals), "refusal") if client.refusals else ""),
            (
                f'<b class="{"bad" if over else ""}">{spent}</b>',
                "<br>".join(map(esc, beside)) or esc(guarantee(client)),
            ),
            (
                noise + (f", {esc(client.noise)}" if client.noise else ""),
                esc(", ".join(each for each in sampling if each)),
            ),
            (f"{whole_or_dash(client.rows_allowed)} allowed", f"{whole_or_dash(denied(client))} denied"),
            (f"{client.rounds_taken_part} of {len(report.rounds)}", ""),
            ('<b class="bad">no log</b>', "")
            if audit is None
            else (
                "at the node"
                if audit.verified is None
                else '<b class="good">verified</b>'
                if audit.verified
                else '<b class="bad">not verified</b>',
                f'{plural(audit.records, "record")}<br><code title="{esc(audit.head)}">{esc(audit.head[:16])}…</code>',
            ),
        ]
        body.append("<tr>" + "".join(f"<td>{first}<small>{second}</small>" for first, second in cells))
    return (
        '<div class="scroll"><table class="clients"><thead><tr><th>Client<th>Privacy loss by this run'
        f"<th>Noise and sampling<th>Rows<th>Rounds<th>Audit log<tbody>{''.join(body)}</table></div>"
    )


def unprotected(report: RunReport) -> str:
    """What left without noise, or with noise of its own."""
    items = [f"<li>{esc(each)}" for each in report.results.unnoised_outputs]
    items += [f"<li>with noise of its own: {esc(each)}" for each in report.results.noised_outputs]
    if not report.run.private:
        items.insert(0, "<li><b>everything this run released</b>: it is labelled NOT PRIVATE")
    if not report.secagg.enabled:
        items.append("<li>each client's own update: secure aggregation was off, the server could read it")
    if not items:
        return '<p class="none">The run lists no output without noise.</p>'
    return f'<ul class="plain">{"".join(items)}</ul>'


def masking(report: RunReport) -> str:
    """How the updates were hidden from the server."""
    agg = report.secagg
    if not agg.enabled:
        return '<p class="none">Off. The server received every update in the clear.</p>'
    return facts(
        [
            ("profile", agg.profile or UNKNOWN),
            ("threshold", f"{whole(agg.threshold)} of {whole(agg.cohort)} clients"),
            ("ring", f"{whole(agg.ring_bits)} bits, values {whole(agg.value_bits)} bits"),
            ("sent per client and round", f"{whole(agg.bytes_up_per_client)} bytes"),
        ]
    )


def round_table(report: RunReport) -> str:
    """Every round in numbers."""
    metrics = sorted({name for each in report.rounds for name in each.metrics})
    head = "".join(
        f"<th>{esc(name)}"
        for name in (
            "Round",
            "Accuracy",
            "Loss",
            "ε largest",
            "In the sum",
            "Lost",
            "Weight",
            "Share",
            "Train",
            "Unmask",
            "Total",
            *metrics,
        )
    )
    body = []
    for each in report.rounds:
        spent = each.seconds
        cells = [
            str(each.round),
            percent(each.accuracy) if each.accuracy is not None else DASH,
            number(each.loss) if each.loss is not None else DASH,
            epsilon(each.epsilon_max) if each.epsilon_max is not None else DASH,
            str(len(each.participants)),
            str(len(each.lost)),
            number(each.weight_total, 6) if each.weight_total is not None else DASH,
            *map(seconds, (spent.share, spent.train, spent.unmask, spent.total)),
            *(number(value) if (value := each.metrics.get(name)) is not None else DASH for name in metrics),
        ]
        body.append("<tr>" + "".join(f"<td>{esc(cell)}" for cell in cells))
    stated = "".join(f'<p class="note">{esc(line)}</p>' for line in guarantee_lines(report.clients))
    return f'<div class="scroll"><table class="numbers"><thead><tr>{head}<tbody>{"".join(body)}</table></div>{stated}'
