//! A whole round of profile D in one process, beside what the cost model of `docs/SECURE_AGGREGATION.md` predicts:
//! `cargo run --release -p aegis-secagg --example large [clients] [dim] [lost %] [colluding %]`.
//!
//! Clients run on all cores and go through their bytes between steps, as in a deployment where each message finds a fresh
//! process. A tenth of the loss falls on the share step, the rest on the mask step.

use std::time::{Duration, Instant};

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

type Clients = Vec<(u64, Vec<u8>)>;
type Step<'a> = dyn FnMut(&mut [(u64, Vec<u8>)], &mut ServerRun) -> Result<usize, SecAggError> + 'a;

/// Runs one step of some clients on all cores, and hands the replies to the server in batches.
fn step(
    clients: &mut [(u64, Vec<u8>)],
    server: &mut ServerRun,
    ask: impl Fn(&ServerRun, u64) -> Result<Vec<u8>, SecAggError>,
    answer: impl Fn(&mut ClientRun, &[u8]) -> Result<Vec<u8>, SecAggError> + Sync,
    mut take: impl FnMut(&mut ServerRun, u64, &[u8]) -> Result<(), SecAggError>,
) -> Result<usize, SecAggError> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut bytes = 0;
    for batch in clients.chunks_mut(BATCH) {
        let asked: Result<Vec<_>, _> = batch.iter().map(|(id, _)| ask(server, *id)).collect();
        let asked = asked?;
        let size = batch.len().div_ceil(threads);
        let replies: Vec<Result<Vec<Vec<u8>>, SecAggError>> = std::thread::scope(|scope| {
            let parts = batch.chunks_mut(size).zip(asked.chunks(size));
            let workers: Vec<_> = parts
                .map(|(part, asked)| {
                    let answer = &answer;
                    scope.spawn(move || {
                        part.iter_mut()
                            .zip(asked)
                            .map(|((_, state), request)| {
                                let mut client = ClientRun::from_bytes(state)?;
                                let reply = answer(&mut client, request)?;
                                *state = client.to_bytes().to_vec();
                                Ok(reply)
                            })
                            .collect()
                    })
                })
                .collect();
            workers
                .into_iter()
                .map(|w| w.join().expect("a worker panicked"))
                .collect()
        });
        let mut replies_in_order = Vec::with_capacity(batch.len());
        for part in replies {
            replies_in_order.extend(part?);
        }
        for ((id, _), reply) in batch.iter().zip(replies_in_order) {
            bytes = bytes.max(reply.len());
            take(server, *id, &reply)?;
        }
    }
    Ok(bytes)
}

fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|kb| kb.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok())
        .unwrap_or(0)
        / 1024
}

fn each(operation: impl Fn()) -> f64 {
    const TIMES: u32 = 400;
    let start = Instant::now();
    (0..TIMES).for_each(|_| operation());
    start.elapsed().as_secs_f64() / f64::from(TIMES)
}

/// Seconds of single operations on this machine: a key agreement, a signature check, masking a byte.
fn primitives() -> (f64, f64, f64) {
    use aws_lc_rs::{agreement, cipher, signature};
    use signature::KeyPair;
    let secret =
        agreement::PrivateKey::from_private_key(&agreement::X25519, &[7; 32]).expect("a key");
    let public = secret.compute_public_key().expect("a point");
    let peer = || agreement::UnparsedPublicKey::new(&agreement::X25519, public.as_ref());
    let agree = each(|| agreement::agree(&secret, peer(), (), |_| Ok(())).expect("agreement"));
    let signer = signature::Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("a key");
    let proof = signer.sign(b"message");
    let verifier =
        signature::UnparsedPublicKey::new(&signature::ED25519, signer.public_key().as_ref());
    let verify = each(|| {
        verifier
            .verify(b"message", proof.as_ref())
            .expect("a signature");
    });
    let key = cipher::UnboundCipherKey::new(&cipher::AES_256, &[7; 32]).expect("a key");
    let key = cipher::EncryptingKey::ctr(key).expect("a key");
    let block = std::cell::RefCell::new(vec![0u8; 16384]);
    let mask = each(|| {
        key.encrypt(&mut block.borrow_mut()).expect("a keystream");
    });
    (agree, verify, mask / 16384.0)
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
    let mut server = ServerRun::new(1, plan.clone(), n / 2)?.with_profile(profile);
    let limits = ClientLimits {
        min_cohort: n / 2,
        colluding_percent: colluding,
        ..ClientLimits::default()
    };
    let all: Vec<u64> = (0..n).map(|id| u64::from(id) * 7919 + 3).collect();
    let mut clients: Clients = Vec::new();
    let start = Instant::now();
    for &id in &all {
        let client = ClientRun::new(1, id, limits.clone())?;
        server.add_advert(id, &client.advertise()?)?;
        clients.push((id, client.to_bytes().to_vec()));
    }
    let mut took: Vec<(&str, Duration, usize)> = vec![("advertise", start.elapsed(), 0)];

    let count = |percent: u32| n as usize * percent as usize / 1000;
    let mut go = |name, clients: &mut [(u64, Vec<u8>)], server: &mut ServerRun, run: &mut Step| {
        let start = Instant::now();
        let bytes = run(clients, server)?;
        took.push((name, start.elapsed(), bytes));
        Ok::<_, SecAggError>(())
    };

    let request = server.begin_round(1, &all)?;
    // the losses are spread over the ids: every so-many-th one
    clients.retain(|(id, _)| (id / 7919) as usize % 1000 >= lost as usize);
    go(
        "share",
        &mut clients,
        &mut server,
        &mut |clients, server| {
            step(
                clients,
                server,
                |_, _| Ok(request.clone()),
                ClientRun::share,
                ServerRun::add_share,
            )
        },
    )?;
    let inside = server.end_shares()?;
    clients.retain(|(id, _)| inside.binary_search(id).is_ok());
    let dropped = count(lost * 9).min(clients.len());
    let mut place = 0usize;
    clients.retain(|_| {
        place += 1;
        place * dropped / inside.len() == (place - 1) * dropped / inside.len()
    });
    let d = dim as usize;
    go(
        "masked input",
        &mut clients,
        &mut server,
        &mut |clients, server| {
            let answer = |client: &mut ClientRun, request: &[u8]| {
                let (values, weight, metrics) = contribution(client.node_id(), d);
                client.masked_input(request, &values, weight, &metrics)
            };
            step(
                clients,
                server,
                ServerRun::masked_request,
                answer,
                ServerRun::add_masked,
            )
        },
    )?;
    let survivors = server.end_masked()?;
    let request = server.commit_request()?;
    go(
        "commit",
        &mut clients,
        &mut server,
        &mut |clients, server| {
            step(
                clients,
                server,
                |_, _| Ok(request.clone()),
                ClientRun::commit,
                ServerRun::add_commit,
            )
        },
    )?;
    go(
        "unmask",
        &mut clients,
        &mut server,
        &mut |clients, server| {
            step(
                clients,
                server,
                ServerRun::unmask_request,
                ClientRun::unmask,
                ServerRun::add_unmask,
            )
        },
    )?;
    let start = Instant::now();
    let sum = server.finish()?;
    took.push(("sum on the server", start.elapsed(), 0));

    let mut expected = vec![0i64; sum.integers.len()];
    for id in &survivors {
        let (values, weight, metrics) = contribution(*id, d);
        let one = encode(&values, weight, &metrics, &plan)?;
        expected
            .iter_mut()
            .zip(one)
            .for_each(|(total, x)| *total += x);
    }
    assert_eq!(sum.contributors, survivors);
    assert_eq!(sum.integers, expected, "the sum is the plain integer sum");

    let (agree, verify, byte) = primitives();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let predicted = {
        let (sharers, k, s) = (
            inside.len() as f64,
            f64::from(shape.degree),
            survivors.len() as f64,
        );
        let gone = sharers - s;
        let vector = f64::from(dim) * (f64::from(plan.width()?.bits()) / 8.0);
        let clients = sharers * k * (agree + verify)
            + s * k * (agree + verify + byte * vector)
            + s * k * verify;
        let pairs = gone * k * s / f64::from(n);
        let server = pairs * (agree + byte * vector) + s * byte * vector;
        (clients + server) / threads as f64
    };
    let total: Duration = took.iter().map(|(_, time, _)| *time).sum();
    for (name, time, bytes) in &took {
        println!(
            "{name:18} {:>8.1} s   reply at most {bytes} B",
            time.as_secs_f64()
        );
    }
    println!("exact: {} survivors of {n}", survivors.len());
    println!(
        "total {:.1} s on {threads} cores; the model predicts {predicted:.1} s (key agreement {:.0} us, signature {:.0} us, \
         masks {:.1} GB/s)",
        total.as_secs_f64(),
        agree * 1e6,
        verify * 1e6,
        1e-9 / byte
    );
    println!("peak memory {} MiB", peak_mib());
    Ok(())
}
