//! Every gate passes and fails, all are reported, and a release is one record.

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
        loss_cap_milli: 10_000,
        histograms: false,
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

#[test]
fn an_update_that_passes_is_released_and_recorded_without_its_values() {
    let world = World::new();
    let permit = permit(&world);
    let release = Case::new(&permit).gate(&world, &permit).unwrap();
    assert_eq!(
        release.gates().iter().map(|g| g.name).collect::<Vec<_>>(),
        NAMES
    );
    assert!(release.gates().iter().all(|g| g.passed));
    assert_eq!(release.update(), &[0.5; 7][..]);
    assert_eq!(
        (
            release.rows(),
            release.weight(),
            release.secure_aggregation()
        ),
        (10, 1, true)
    );
    let record = world.last_record();
    assert_eq!(record["event"], "release");
    assert_eq!(record["decision"], "allow");
    assert_eq!(record["release"], release.id().to_string());
    assert_eq!(record["permit"], permit.id().to_string());
    assert_eq!(world.log.head().seq, release.audit_seq() + 1);
    assert_eq!(
        record["gates"][2]["observed"],
        Value::Null,
        "the norm is a function of the update"
    );
    let mut said = record;
    // "12:00:10.512Z" holds "0.5", too, and so does a rate; the values do not.
    let said = said.as_object_mut().unwrap();
    assert!(said.remove("time").is_some());
    assert!(said.remove("mechanism").is_some());
    assert!(!format!("{said:?}").contains("0.5"));
    assert!(!format!("{release:?} {:?}", proposal()).contains("0.5"));
}

#[test]
fn the_record_says_what_the_engine_counted_and_what_the_ledger_says() {
    let world = World::new();
    let permit = permit(&world);
    let mut case = Case::new(&permit);
    case.session = Some(session(&permit, 2));
    case.epsilon = 1_234_567;
    case.gate(&world, &permit).unwrap();
    let record = world.last_record();
    let mechanism = &record["mechanism"];
    for (key, text) in [
        ("noise_multiplier", "1.25"),
        ("clip", "0.75"),
        ("sample_rate", "0.5"),
        ("expected_batch", "8"),
        ("reservation", "r-1"),
    ] {
        assert_eq!(mechanism[key], text, "{key}");
    }
    for (key, number) in [
        ("steps_reserved", 3),
        ("steps", 2),
        ("steps_noised", 2),
        ("coordinates", 7),
        ("coordinates_noised", 14),
    ] {
        assert_eq!(mechanism[key], number, "{key}");
    }
    assert_eq!(record["dp"], "secure");
    assert_eq!(record["reservation"], "r-1");
    assert_eq!(record["epsilon_micro_total"], 1_234_567);
    assert_eq!(record["parts"][0]["epsilon_micro_total"], 1_234_567);
}

#[test]
fn an_update_is_private_only_by_what_the_engine_drew_and_noised() {
    type Make = fn(&Permit) -> Option<DpSession>;
    let cases: Vec<(&str, Make)> = vec![
        ("no session", |_| None),
        ("nothing drawn", |p| Some(session(p, 0))),
        ("a batch without noise", |p| {
            let mut s = session(p, 2);
            s.draw().unwrap();
            Some(s)
        }),
        ("noise on fewer coordinates than moved", |p| {
            let plan = Plan { dim: 6, ..plan() };
            let mut s = DpSession::new(p, plan, "r-1", None).unwrap();
            s.draw().unwrap();
            s.noise(&[0.0; 6]).unwrap();
            Some(s)
        }),
    ];
    for (name, make) in cases {
        let world = World::new();
        let permit = permit(&world);
        let mut case = Case::new(&permit);
        case.session = make(&permit);
        case.epsilon = 0;
        assert_eq!(
            denied_by(case.gate(&world, &permit)),
            ["core.release.dp"],
            "{name}"
        );
        assert_eq!(world.last_record()["dp"], "off", "{name}");
    }
    // Frozen coordinates do not move, so they need no noise.
    let world = World::new();
    let permit = permit(&world);
    let plan = Plan { dim: 6, ..plan() };
    let mut s = DpSession::new(&permit, plan, "r-1", None).unwrap();
    s.draw().unwrap();
    s.noise(&[0.0; 6]).unwrap();
    let mut case = Case::new(&permit);
    case.proposal.update[3] = 0.0;
    case.session = Some(s);
    case.gate(&world, &permit).unwrap();
}

#[test]
fn a_session_of_another_permit_is_refused() {
    let world = World::new();
    let (mine, other) = (permit(&world), permit(&world));
    let mut case = Case::new(&mine);
    case.session = Some(session(&other, 3));
    let result = case.gate(&world, &mine);
    assert!(matches!(result, Err(PolicyError::BadRequest { .. })));
}

type Change = fn(&mut Case);

#[test]
fn each_gate_fails_on_its_own_fault_and_the_others_still_report() {
    let faults: Vec<(&str, Change)> = vec![
        ("contract", |c| c.proposal.tensors[0].shape = vec![3, 2]),
        ("contract", |c| c.proposal.tensors[1].name = "c".into()),
        ("contract", |c| c.proposal.tensors.swap(0, 1)),
        ("contract", |c| c.proposal.tensors.truncate(1)),
        ("contract", |c| c.proposal.update.truncate(6)),
        ("contract", |c| {
            let huge = TensorSpec {
                name: "w".into(),
                shape: vec![u64::MAX, 2],
            };
            c.proposal.tensors = vec![huge.clone()];
            c.limits.contract = vec![huge];
        }),
        ("norm", |c| c.limits.max_norm *= 0.999_99),
        ("norm", |c| c.proposal.update[0] = 0.500_1),
        ("rows", |c| c.limits.min_rows = 11),
        ("budget", |c| c.epsilon += 1),
        ("budget", |c| c.epsilon = 0),
        ("metrics", |c| {
            c.proposal.metrics.extend([("patient_7".into(), 0)]);
        }),
        ("metrics", |c| {
            c.proposal.metrics.extend([("examples".into(), 1)]);
        }),
        ("weight", |c| c.proposal.weight = 2),
        ("weight", |c| c.proposal.weight = 0),
        ("secure_aggregation", |c| {
            c.proposal.secure_aggregation = false;
        }),
    ];
    let world = World::new();
    let permit = permit(&world);
    for (at, (name, change)) in faults.iter().enumerate() {
        let mut case = Case::new(&permit);
        change(&mut case);
        assert_eq!(failed(case.gate(&world, &permit)), [*name], "fault {at}");
        let record = world.last_record();
        assert_eq!(
            (record["decision"].as_str(), record["release"].is_null()),
            (Some("deny"), true)
        );
        assert!(
            record["policies"]
                .as_array()
                .unwrap()
                .contains(&"core.release.gates".into())
        );
        assert!(
            !record.to_string().contains("patient_7"),
            "names from the researcher's code stay out of the log"
        );
    }
    // All refused; the permit is still good for an update that passes.
    Case::new(&permit).gate(&world, &permit).unwrap();
}

#[test]
fn rows_and_people_are_counted_by_the_permit_against_the_terms() {
    for (rows, people, passes) in [(10, 5, true), (11, 5, false), (10, 6, false)] {
        let world = World::new();
        let demanding = DatasetFacts {
            min_rows: rows,
            min_subjects: people,
            ..facts()
        };
        let permit = permit_under(&world, &request(), &demanding);
        let mut case = Case::new(&permit);
        case.facts = demanding;
        let result = case.gate(&world, &permit);
        if passes {
            result.unwrap();
        } else {
            assert_eq!(failed(result), ["rows"]);
        }
    }
}

#[test]
fn a_weight_by_rows_leaves_only_where_no_privacy_is_asked_for() {
    let world = World::new();
    let free = DatasetFacts {
        require_dp: false,
        ..facts()
    };
    for (weight, passes) in [(10, true), (11, false)] {
        let permit = permit_under(&world, &request(), &free);
        let mut case = Case::new(&permit);
        case.facts = free.clone();
        case.proposal.weight = weight;
        let result = case.gate(&world, &permit);
        if passes {
            result.unwrap();
        } else {
            assert_eq!(failed(result), ["weight"]);
        }
    }
}

#[test]
fn values_that_are_not_finite_fail_finite_and_norm() {
    let world = World::new();
    let permit = permit(&world);
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut case = Case::new(&permit);
        case.proposal.update[3] = value;
        assert_eq!(failed(case.gate(&world, &permit)), ["finite", "norm"]);
    }
}

#[test]
fn privacy_off_or_insecure_is_denied_by_policy_where_privacy_is_required() {
    let off: Change = |c| {
        c.session = None;
        c.epsilon = 0;
    };
    let insecure = |permit: &Permit| {
        let mut s = DpSession::new(permit, plan(), "r-1", Some(1)).unwrap();
        s.draw().unwrap();
        s.noise(&[0.0; 7]).unwrap();
        s
    };
    let free = DatasetFacts {
        require_dp: false,
        ..facts()
    };
    for seeded in [false, true] {
        let make = |permit: &Permit| {
            let mut case = Case::new(permit);
            if seeded {
                case.session = Some(insecure(permit));
            } else {
                off(&mut case);
            }
            case
        };
        let world = World::new();
        let strict = permit(&world);
        assert_eq!(
            denied_by(make(&strict).gate(&world, &strict)),
            ["core.release.dp"]
        );
        let record = world.last_record();
        assert_eq!(record["policies"], serde_json::json!(["core.release.dp"]));
        assert_eq!(record["dp"], if seeded { "insecure_test" } else { "off" });
        let permit = permit_under(&world, &request(), &free);
        let mut case = make(&permit);
        case.facts = free.clone();
        case.gate(&world, &permit).unwrap();
    }
}

#[test]
fn facts_other_than_those_of_the_decision_are_refused() {
    let world = World::new();
    let permit = permit(&world);
    let mut case = Case::new(&permit);
    case.facts.require_dp = false;
    let result = case.gate(&world, &permit);
    assert!(matches!(result, Err(PolicyError::BadRequest { .. })));
    assert_eq!(world.last_record()["decision"], "deny");
}

#[test]
fn a_permit_releases_once_only_in_force_only_for_training_and_only_under_its_bundle() {
    let world = World::new();
    // Permits of other kinds have no session; the refusal comes before that matters.
    let gate = |permit: &Permit| {
        let case = Case {
            proposal: proposal(),
            limits: limits(),
            facts: facts(),
            epsilon: 8_000_000,
            session: (permit.action() == Action::Train && permit.row_count() > 0)
                .then(|| session(permit, 3)),
        };
        case.gate(&world, permit)
    };
    let once = permit(&world);
    gate(&once).unwrap();
    assert!(matches!(gate(&once), Err(PolicyError::BadRequest { .. })));

    let revoked = permit(&world);
    world.consent.withdraw(subject(0), "research").unwrap();
    assert!(matches!(
        gate(&revoked),
        Err(PolicyError::Permit(PermitError::Revoked { .. }))
    ));
    assert_eq!(world.last_record()["decision"], "deny");

    let read = Request {
        action: Action::Read,
        ..request()
    };
    let read = permit_under(&world, &read, &facts());
    assert!(matches!(gate(&read), Err(PolicyError::BadRequest { .. })));

    let owner = owner_permit(request().vault, request().object, Action::Train, &world.log).unwrap();
    assert!(matches!(gate(&owner), Err(PolicyError::BadRequest { .. })));

    let core = Bundle::core();
    let other =
        World::with(Bundle::parse("o", core.schema(), &[("o.cedar", core.policies())]).unwrap());
    let foreign = permit(&other);
    assert!(matches!(
        gate(&foreign),
        Err(PolicyError::BadRequest { .. })
    ));
}

#[test]
fn no_release_without_a_durable_record() {
    let world = World::new();
    let permit = permit(&world);
    std::fs::remove_file(world.log.path()).unwrap();
    let result = Case::new(&permit).gate(&world, &permit);
    assert!(matches!(result, Err(PolicyError::Audit(_))));
}

#[test]
fn nonsense_from_the_caller_is_a_bad_request() {
    let world = World::new();
    let permit = permit(&world);
    let changes: [Change; 3] = [
        |c| c.limits.max_norm = f64::NAN,
        |c| c.limits.max_norm = 0.0,
        |c| c.epsilon = u64::MAX,
    ];
    for change in changes {
        let mut case = Case::new(&permit);
        change(&mut case);
        let result = case.gate(&world, &permit);
        assert!(
            matches!(result, Err(PolicyError::BadRequest { .. })),
            "{result:?}"
        );
    }
    let none = world
        .engine
        .gate(&[], proposal(), None, None, &limits(), &world.log);
    assert!(matches!(none, Err(PolicyError::BadRequest { .. })));
}

#[test]
fn counts_leave_with_the_engines_noise_and_never_as_they_are() {
    let world = World::new();
    let permit = permit_under(&world, &evaluation(), &facts());
    let release = Told::new().gate(&world, &permit).unwrap();
    assert!(release.update().is_empty());
    // The chance that all three draws are zero is below 10^-5.
    assert_ne!(release.metrics(), &metrics());
    let record = world.last_record();
    assert_eq!(record["dp"], "secure");
    assert_eq!(record["reservation"], "h-1");
    assert_eq!(record["counts"]["noise_multiplier"], "2");
    assert_eq!(record["counts"]["loss_cap_milli"], 10_000);
    for value in release.metrics().values().filter(|v| v.abs() > 999) {
        assert!(!record.to_string().contains(&value.to_string()));
    }
    let exact = Told {
        noise: None,
        reservation: None,
        epsilon: 0,
        ..Told::new()
    };
    let permit = permit_under(&world, &evaluation(), &facts());
    assert_eq!(failed(exact.gate(&world, &permit)), ["counts"]);
}

#[test]
fn each_fault_of_an_evaluation_is_refused() {
    type Change = fn(&mut Told);
    let told: Vec<(&str, Change)> = vec![
        ("budget", |t| t.reservation = None),
        ("budget", |t| t.epsilon = 0),
        ("budget", |t| t.epsilon = 8_000_001),
        ("counts", |t| {
            t.noise.as_mut().unwrap().seed = Some(3);
        }),
        ("secure_aggregation", |t| t.secure_aggregation = false),
    ];
    for (name, change) in told {
        let world = World::new();
        let permit = permit_under(&world, &evaluation(), &facts());
        let mut case = Told::new();
        change(&mut case);
        assert_eq!(failed(case.gate(&world, &permit)), [name]);
    }
    let bad: Vec<Change> = vec![
        |t| t.noise.as_mut().unwrap().z = 0.0,
        |t| t.noise.as_mut().unwrap().z = 1e-155,
        |t| t.noise.as_mut().unwrap().z = f64::NAN,
        |t| t.noise.as_mut().unwrap().loss_cap_milli = 0,
        |t| {
            t.metrics.insert("weight_of_patient_7".into(), 81);
        },
    ];
    for change in bad {
        let world = World::new();
        let permit = permit_under(&world, &evaluation(), &facts());
        let mut case = Told::new();
        change(&mut case);
        let result = case.gate(&world, &permit);
        assert!(
            matches!(result, Err(PolicyError::BadRequest { .. })),
            "{result:?}"
        );
        assert!(!world.last_record().to_string().contains("patient_7"));
    }
}

#[test]
fn exact_counts_leave_where_no_privacy_is_asked_for_and_values_never_beside_them() {
    let world = World::new();
    let free = DatasetFacts {
        require_dp: false,
        ..facts()
    };
    let exact = || Told {
        noise: None,
        reservation: None,
        epsilon: 0,
        facts: free.clone(),
        ..Told::new()
    };
    let permit = permit_under(&world, &evaluation(), &free);
    let release = exact().gate(&world, &permit).unwrap();
    assert_eq!(release.metrics(), &metrics());

    let permit = permit_under(&world, &evaluation(), &free);
    let part = Part {
        permit: &permit,
        facts: &free,
        reservation: None,
        epsilon_micro_total: 0,
    };
    let result = world
        .engine
        .gate(&[part], proposal(), None, None, &limits(), &world.log);
    assert_eq!(failed(result), ["contract"]);
}

#[test]
fn a_release_names_all_permits_it_used_and_each_is_asked_under_its_own_terms() {
    let ask = |world: &World, holdout: &DatasetFacts, epsilon: u64| {
        let (train, evaluate) = (permit(world), permit_under(world, &evaluation(), holdout));
        let own = facts();
        let parts = [
            Part {
                permit: &train,
                facts: &own,
                reservation: None,
                epsilon_micro_total: 2_000_000,
            },
            Part {
                permit: &evaluate,
                facts: holdout,
                reservation: Some("h-1".into()),
                epsilon_micro_total: epsilon,
            },
        ];
        let both = Proposal {
            metrics: metrics(),
            ..proposal()
        };
        let gate = |s: Option<DpSession>| {
            world.engine.gate(
                &parts,
                both.clone(),
                s,
                Some(counts()),
                &limits(),
                &world.log,
            )
        };
        let result = gate(Some(session(&train, 3)));
        if result.is_ok() {
            assert!(
                matches!(gate(None), Err(PolicyError::BadRequest { .. })),
                "both permits are used up"
            );
            let again = Told::new().gate(world, &evaluate);
            assert!(matches!(again, Err(PolicyError::BadRequest { .. })));
        }
        result
    };
    let world = World::new();
    let release = ask(&world, &facts(), 3_000_000).unwrap();
    assert_eq!(release.update(), &[0.5; 7][..]);
    let record = world
        .records()
        .into_iter()
        .find(|r| r["event"] == "release" && r["decision"] == "allow")
        .unwrap();
    let part = |at: usize, key: &str| record["parts"][at][key].clone();
    assert_eq!(
        (part(0, "action"), part(1, "action")),
        ("train".into(), "evaluate".into())
    );
    assert_eq!(
        (part(0, "dp"), part(1, "dp")),
        ("secure".into(), "secure".into())
    );
    assert_eq!(
        (part(0, "reservation"), part(1, "reservation")),
        ("r-1".into(), "h-1".into())
    );
    assert_eq!(part(1, "epsilon_micro_total"), 3_000_000);

    let poor = DatasetFacts {
        budget_micro_epsilon: 1_000_000,
        ..facts()
    };
    assert_eq!(failed(ask(&World::new(), &poor, 3_000_000)), ["budget"]);
    let few = DatasetFacts {
        min_rows: 11,
        ..facts()
    };
    // Too few rows are refused before any is read.
    let (world, index) = (World::new(), rows(class("contract", None), 10));
    let refused = world.engine.authorize(
        &evaluation(),
        &few,
        &index,
        None,
        &world.consent,
        &world.log,
    );
    assert!(matches!(
        refused,
        Err(PolicyError::Denied { policies, .. }) if policies.iter().eq(["engine.minimum"])
    ));
}

#[test]
fn a_node_without_held_out_rows_tells_zeros_on_record() {
    let world = World::new();
    let names = ["examples", "correct"].map(str::to_owned);
    let release = world
        .engine
        .release_nothing(names, true, &world.log)
        .unwrap();
    assert!(release.update().is_empty() && release.metrics().values().all(|v| *v == 0));
    assert_eq!(release.metrics().len(), 2);
    let record = world.last_record();
    assert_eq!(
        (&record["event"], &record["rows"]),
        (&"release".into(), &0.into())
    );
    std::fs::remove_file(world.log.path()).unwrap();
    let unrecorded = world.engine.release_nothing([], true, &world.log);
    assert!(matches!(unrecorded, Err(PolicyError::Audit(_))));
}

#[test]
fn the_largest_number_of_rows_of_one_person_is_on_the_permit_and_on_record() {
    let world = World::new();
    assert_eq!(permit(&world).rows_per_subject_max(), 2);
    assert_eq!(world.last_record()["rows_per_subject_max"], 2);
    let mut index = rows(class("contract", None), 10);
    for row in [1, 4, 8] {
        index.subjects[row] = subject(0);
    }
    let permit = world.ask(&request(), &index).unwrap().permit;
    assert_eq!(permit.rows_per_subject_max(), 4);
}
