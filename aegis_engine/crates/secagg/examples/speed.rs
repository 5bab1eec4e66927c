//! What the steps cost: `cargo run --release -p aegis-secagg --example speed [dim] [clients] [lost]`.

use std::time::Instant;

use aegis_secagg::{ClientLimits, ClientRun, Encoding, Plan, SecAggError, ServerRun};

fn argument(place: usize, default: u64) -> u64 {
    std::env::args()
        .nth(place)
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

fn main() -> Result<(), SecAggError> {
    let (dim, n) = (argument(1, 1_000_000), argument(2, 50));
    let lost = argument(3, n / 10);
    let encoding = Encoding {
        clip: 1.0,
        value_bits: 16,
        weight_max: 1,
        metric_max: 0,
    };
    let n_max = u32::try_from(n).unwrap_or(u32::MAX);
    let plan = Plan {
        dim,
        metrics: Vec::new(),
        encoding,
        n_max,
    };
    println!(
        "d = {dim}, n = {n}, {lost} lost, ring of {} bits",
        plan.width()?.bits()
    );
    let mut server = ServerRun::new(1, plan, 2)?;
    let limits = ClientLimits {
        min_cohort: 2,
        ..ClientLimits::default()
    };
    let mut clients = (0..n)
        .map(|id| ClientRun::new(1, id, limits.clone()))
        .collect::<Result<Vec<_>, _>>()?;
    for client in &clients {
        server.add_advert(client.node_id(), &client.advertise()?)?;
    }
    let request = server.begin_round(1, &(0..n).collect::<Vec<_>>())?;
    let mut took = Vec::new();
    for client in &mut clients {
        let start = Instant::now();
        let reply = client.share(&request)?;
        took.push(start.elapsed());
        server.add_share(client.node_id(), &reply)?;
    }
    took.sort();
    println!(
        "share, one client (median):        {:?}",
        took[took.len() / 2]
    );
    println!(
        "state after it:                    {} bytes",
        clients[0].to_bytes().len()
    );

    let update = vec![0.25f32; usize::try_from(dim).unwrap_or(0)];
    let (mut mask, mut add) = (Vec::new(), Vec::new());
    for (client, id) in clients.iter_mut().zip(server.end_shares()?) {
        let request = server.masked_request(id)?;
        if id < lost {
            continue;
        }
        let start = Instant::now();
        let message = client.masked_input(&request, &[0; 32], &update, 1, &[])?;
        mask.push(start.elapsed());
        let start = Instant::now();
        server.add_masked(id, &message)?;
        add.push(start.elapsed());
        if id == lost {
            println!("upload:                            {} bytes", message.len());
        }
    }
    mask.sort();
    add.sort();
    println!(
        "masked input, one client (median): {:?}",
        mask[mask.len() / 2]
    );
    println!(
        "adding one to the sum (median):    {:?}",
        add[add.len() / 2]
    );

    let mut took = Vec::new();
    for id in server.end_masked()? {
        let request = server.unmask_request(id, None)?;
        let client = &mut clients[usize::try_from(id).unwrap_or(0)];
        let start = Instant::now();
        let reply = client.unmask(&request)?;
        took.push(start.elapsed());
        server.add_unmask(id, &reply)?;
    }
    took.sort();
    println!(
        "unmask, one client (median):       {:?}",
        took[took.len() / 2]
    );
    let start = Instant::now();
    let sum = server.finish()?;
    println!("unmask, server:                    {:?}", start.elapsed());
    // 0.25 of 2^15 - 1 steps is 8191.75, which rounds to 8192
    let expected = 8192 * i64::try_from(sum.contributors.len()).unwrap_or(0);
    assert!(
        sum.integers()[..update.len()]
            .iter()
            .all(|x| *x == expected)
    );
    println!("the sum over {} clients is exact", sum.contributors.len());
    Ok(())
}
