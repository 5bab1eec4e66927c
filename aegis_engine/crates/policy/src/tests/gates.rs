//! Every gate passes and fails, all are reported, and a release is one record.

mod evaluation;
mod permits;
mod update;

use std::collections::BTreeMap;

use aegis_noise::Plan;

use super::*;

pub fn permit(world: &World) -> Permit {
    permit_under(world, &request(), &facts())
}

fn permit_under(world: &World, request: &Request, facts: &DatasetFacts) -> Permit {
    let index = rows(class("contract", None), 10);
    world
        .engine
        .authorize(request, facts, &index, None, &world.consent, &world.log)
        .unwrap()
        .permit
}

fn evaluation() -> Request {
    Request {
        action: Action::Evaluate,
        object: Uuid::from_u128(7),
        ..request()
    }
}

fn tensors() -> Vec<TensorSpec> {
    vec![
        TensorSpec {
            name: "w".into(),
            shape: vec![2, 3],
        },
        TensorSpec {
            name: "b".into(),
            shape: vec![],
        },
    ]
}

fn proposal() -> Proposal {
    Proposal {
        update: vec![0.5; 7],
        tensors: tensors(),
        metrics: BTreeMap::new(),
        secure_aggregation: true,
        weight: 1,
    }
}

fn limits() -> GateLimits {
    GateLimits {
        contract: tensors(),
        max_norm: 1.75_f64.sqrt(),
        metrics_allowed: ["examples", "correct", "loss_milli"]
            .map(str::to_owned)
            .into(),
        weight_max: 10,
        min_rows: 5,
    }
}

fn plan() -> Plan {
    Plan {
        sigma: 1.25,
        clip: 0.75,
        rate: 0.5,
        steps: 3,
        expected_batch: 8.0,
        dim: 7,
        rows: 0,
        blocks: 0,
    }
}

/// A session that drew and noised so many steps.
fn session(permit: &Permit, steps: u64) -> DpSession {
    let mut session = DpSession::new(permit, plan(), "r-1", None).unwrap();
    for _ in 0..steps {
        session.draw().unwrap();
        session.noise(&[0.0; 7]).unwrap();
    }
    session
}

fn counts() -> CountsNoise {
    CountsNoise {
        z: 2.0,
        blocks: [("examples", 1), ("correct", 1), ("loss_milli", 10_000)]
            .map(|(name, cap)| Block {
                cap,
                names: vec![name.to_owned()],
            })
            .into(),
        seed: None,
    }
}

fn metrics() -> BTreeMap<String, i64> {
    [("examples", 10), ("correct", 7), ("loss_milli", 4_000)]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
}

/// All that a release is asked with; the tests change one thing each.
pub struct Case {
    proposal: Proposal,
    limits: GateLimits,
    facts: DatasetFacts,
    epsilon: u64,
    session: Option<DpSession>,
}

impl Case {
    pub fn new(permit: &Permit) -> Self {
        Self {
            proposal: proposal(),
            limits: limits(),
            facts: facts(),
            epsilon: 8_000_000,
            session: Some(session(permit, 3)),
        }
    }

    pub fn gate(self, world: &World, permit: &Permit) -> Result<Release, PolicyError> {
        let part = Part {
            permit,
            facts: &self.facts,
            reservation: None,
            epsilon_micro_total: self.epsilon,
        };
        world.engine.gate(
            &[part],
            self.proposal,
            self.session,
            None,
            &self.limits,
            &world.log,
        )
    }
}

/// One fault.
type Change = fn(&mut Case);

/// An evaluation's release: its counts, their noise, ε of its ledger.
struct Told {
    metrics: BTreeMap<String, i64>,
    noise: Option<CountsNoise>,
    reservation: Option<String>,
    epsilon: u64,
    facts: DatasetFacts,
    secure_aggregation: bool,
}

impl Told {
    fn new() -> Self {
        Self {
            metrics: metrics(),
            noise: Some(counts()),
            reservation: Some("h-1".into()),
            epsilon: 3_000_000,
            facts: facts(),
            secure_aggregation: true,
        }
    }

    fn gate(self, world: &World, permit: &Permit) -> Result<Release, PolicyError> {
        let proposal = Proposal {
            update: Vec::new(),
            tensors: Vec::new(),
            metrics: self.metrics,
            secure_aggregation: self.secure_aggregation,
            weight: 1,
        };
        let limits = GateLimits {
            contract: Vec::new(),
            ..limits()
        };
        let part = Part {
            permit,
            facts: &self.facts,
            reservation: self.reservation,
            epsilon_micro_total: self.epsilon,
        };
        world
            .engine
            .gate(&[part], proposal, None, self.noise, &limits, &world.log)
    }
}

fn failed(result: Result<Release, PolicyError>) -> Vec<&'static str> {
    match result {
        Err(PolicyError::GateFailed { failed, gates }) => {
            assert_eq!(gates.iter().map(|g| g.name).collect::<Vec<_>>(), NAMES);
            failed.iter().map(|g| g.name).collect()
        }
        other => panic!("{other:?}"),
    }
}

const NAMES: [&str; 9] = [
    "contract",
    "finite",
    "norm",
    "rows",
    "budget",
    "metrics",
    "counts",
    "weight",
    "secure_aggregation",
];
