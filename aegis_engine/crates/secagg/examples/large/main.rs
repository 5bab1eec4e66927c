//! A whole round of profile D in one process, beside what the cost model of `docs/SECURE_AGGREGATION.md` predicts:
//! `cargo run --release -p aegis-secagg --example large [clients] [dim] [lost %] [colluding %]`.
//!
//! Clients run on all cores and go through their bytes between steps, as in a deployment where each message finds a fresh
//! process. A tenth of the loss falls on the share step, the rest on the mask step.

mod model;

use std::time::{Duration, Instant};

use model::Primitives;

use aegis_secagg::{
    ClientLimits, ClientRun, Encoding, Plan, Profile, SecAggError, ServerRun, encode,
};

/// Clients whose replies are held at once.
const BATCH: usize = 64;

fn argument(place: usize, default: u32) -> u32 {
    std::env::args()
        .nth(place)
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

/// A contribution from a small generator, another for each client.
fn contribution(id: u64, dim: usize) -> (Vec<f32>, u64, Vec<i64>) {
    let mut state = id.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    #[expect(clippy::cast_precision_loss, reason = "any float will do")]
    let values = (0..dim)
        .map(|_| (next() >> 40) as f32 / (1u32 << 23) as f32 - 1.0)
        .collect();
    (values, id % 8 + 1, vec![(id % 100).cast_signed()])
}

/// Server, clients as bytes, and what each step took: seconds, and bytes of the longest reply.
struct Simulation {
    server: ServerRun,
    clients: Vec<(u64, Vec<u8>)>,
    took: Vec<(&'static str, Duration, usize)>,
}

impl Simulation {
    /// Runs one step of all clients on all cores, and hands the replies to the server in batches.
    fn step(
        &mut self,
        name: &'static str,
        ask: impl Fn(&ServerRun, u64) -> Result<Vec<u8>, SecAggError>,
        answer: impl Fn(&mut ClientRun, &[u8]) -> Result<Vec<u8>, SecAggError> + Sync,
        take: impl Fn(&mut ServerRun, u64, &[u8]) -> Result<(), SecAggError>,
    ) -> Result<(), SecAggError> {
        let start = Instant::now();
        let mut longest = 0;
        for batch in self.clients.chunks_mut(BATCH) {
            let asked: Result<Vec<_>, _> =
                batch.iter().map(|(id, _)| ask(&self.server, *id)).collect();
            let size = batch.len().div_ceil(threads());
            let asked = asked?;
            let replies: Result<Vec<Vec<Vec<u8>>>, SecAggError> = std::thread::scope(|scope| {
                let parts = batch.chunks_mut(size).zip(asked.chunks(size));
                let workers: Vec<_> = parts
                    .map(|(part, asked)| scope.spawn(|| answers(part, asked, &answer)))
                    .collect();
                let join = |worker: std::thread::ScopedJoinHandle<_>| {
                    worker.join().expect("a worker panicked")
                };
                workers.into_iter().map(join).collect()
            });
            for ((id, _), reply) in batch.iter().zip(replies?.concat()) {
                longest = longest.max(reply.len());
                take(&mut self.server, *id, &reply)?;
            }
        }
        self.took.push((name, start.elapsed(), longest));
        Ok(())
    }
}

fn answers(
    clients: &mut [(u64, Vec<u8>)],
    asked: &[Vec<u8>],
    answer: &impl Fn(&mut ClientRun, &[u8]) -> Result<Vec<u8>, SecAggError>,
) -> Result<Vec<Vec<u8>>, SecAggError> {
    let one = |((_, state), request): (&mut (u64, Vec<u8>), &Vec<u8>)| {
        let mut client = ClientRun::from_bytes(state)?;
        let reply = answer(&mut client, request)?;
        *state = client.to_bytes().to_vec();
        Ok(reply)
    };
    clients.iter_mut().zip(asked).map(one).collect()
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|kb| kb.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok())
        .unwrap_or(0)
        / 1024
}

#[expect(
    clippy::too_many_lines,
    reason = "a script: the steps of a round in their order"
)]
fn main() -> Result<(), SecAggError> {
    let (n, dim) = (argument(1, 10_000), argument(2, 10_000));
    let (lost, colluding) = (argument(3, 10), argument(4, 10));
    let plan = Plan {
        dim: dim.into(),
        metrics: vec!["loss".to_owned()],
        encoding: Encoding {
            clip: 1.0,
            value_bits: 16,
            weight_max: 8,
            metric_max: 1000,
        },
        n_max: n,
    };
    // room beside the loss that comes, which is what the graph is drawn up for
    let profile = Profile::Sparse { colluding, lost };
    let shape = profile.shape(n);
    println!(
        "n = {n}, d = {dim}, {lost} % lost, {colluding} % colluding: degree {}, threshold {}, ring of {} bits",
        shape.degree,
        shape.threshold,
        plan.width()?.bits()
    );
    let server = ServerRun::new(1, plan.clone(), n / 2)?.with_profile(profile);
    let limits = ClientLimits {
        min_cohort: n / 2,
        colluding_percent: colluding,
        ..ClientLimits::default()
    };
    let all: Vec<u64> = (0..n).map(|id| u64::from(id) * 7919 + 3).collect();
    let mut run = Simulation {
        server,
        clients: Vec::new(),
        took: Vec::new(),
    };
    let start = Instant::now();
    for &id in &all {
        let client = ClientRun::new(1, id, limits.clone())?;
        run.server.add_advert(id, &client.advertise()?)?;
        run.clients.push((id, client.to_bytes().to_vec()));
    }
    run.took.push(("advertise", start.elapsed(), 0));

    let request = run.server.begin_round(1, &all)?;
    // the losses are spread over the ids: every so-many-th one
    run.clients
        .retain(|(id, _)| id / 7919 % 1000 >= u64::from(lost));
    run.step(
        "share",
        |_, _| Ok(request.clone()),
        ClientRun::share,
        ServerRun::add_share,
    )?;
    let inside = run.server.end_shares()?;
    run.clients
        .retain(|(id, _)| inside.binary_search(id).is_ok());
    let dropped = (n as usize * lost as usize * 9 / 1000).min(inside.len());
    let mut place = 0usize;
    run.clients.retain(|_| {
        place += 1;
        place * dropped / inside.len() == (place - 1) * dropped / inside.len()
    });
    let d = dim as usize;
    let answer = |client: &mut ClientRun, request: &[u8]| {
        let (values, weight, metrics) = contribution(client.node_id(), d);
        client.masked_input(request, &[0; 32], &values, weight, &metrics)
    };
    run.step(
        "masked input",
        ServerRun::masked_request,
        answer,
        ServerRun::add_masked,
    )?;
    let survivors = run.server.end_masked()?;
    let commit = run.server.commit_request()?;
    run.step(
        "commit",
        |_, _| Ok(commit.clone()),
        ClientRun::commit,
        ServerRun::add_commit,
    )?;
    run.step(
        "unmask",
        |server, node| server.unmask_request(node, None),
        ClientRun::unmask,
        |server, node, reply| server.add_unmask(node, reply).map(drop),
    )?;
    let start = Instant::now();
    let sum = run.server.finish()?;
    run.took.push(("sum on the server", start.elapsed(), 0));

    let mut expected = vec![0i64; d + 2];
    for id in &survivors {
        let (values, weight, metrics) = contribution(*id, d);
        let one = encode(&values, weight, &metrics, &plan)?;
        expected
            .iter_mut()
            .zip(one)
            .for_each(|(total, x)| *total += x);
    }
    assert_eq!(sum.contributors, survivors);
    assert_eq!(sum.integers(), expected, "the sum is the plain integer sum");

    let primitives = Primitives::measured(&request, n);
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let (model, cores) = {
        let counts = [n as usize, inside.len(), survivors.len()].map(|count| count as f64);
        let vector = f64::from(dim) * (f64::from(plan.width()?.bits()) / 8.0);
        (primitives.predict(&shape, vector, counts), threads() as f64)
    };
    println!("step               measured   predicted   longest reply");
    let mut predicted = 0.0;
    for (name, time, bytes) in &run.took {
        let of = model.iter().find(|(step, _)| step == name);
        let seconds = of.map_or(0.0, |(_, seconds)| seconds / cores);
        predicted += seconds;
        let took = time.as_secs_f64();
        println!("{name:18} {took:>7.1} s {seconds:>9.1} s {bytes:>13} B");
    }
    println!("exact: {} survivors of {n}", survivors.len());
    let total: Duration = run.took.iter().map(|(_, time, _)| *time).sum();
    println!(
        "total {:.1} s on {cores} cores; the model predicts {predicted:.1} s",
        total.as_secs_f64()
    );
    println!("{primitives}");
    println!("peak memory {} MiB", peak_mib());
    Ok(())
}
