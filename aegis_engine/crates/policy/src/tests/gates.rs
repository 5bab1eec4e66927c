//! Every gate passes and fails, all are reported, and a release is one record.

use super::*;

pub fn permit(world: &World) -> Permit {
    world
        .ask(&request(), &rows(class("contract", None), 10))
        .unwrap()
        .permit
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

pub fn proposal() -> Proposal {
    Proposal {
        update: vec![0.5; 7],
        tensors: tensors(),
        metrics: [("loss".to_owned(), 12)].into(),
        rows: 10,
        subjects: 5,
        dp: "secure".into(),
        reservation: Some("r-1".into()),
        epsilon_micro_total: 8_000_000,
        secure_aggregation: true,
        weight: 10,
    }
}

pub fn limits() -> GateLimits {
    GateLimits {
        contract: tensors(),
        max_norm: 1.75_f64.sqrt(),
        metrics_allowed: ["loss".to_owned(), "accuracy".to_owned()].into(),
        weight_max: 10,
        min_rows: 5,
    }
}

const NAMES: [&str; 8] = [
    "contract",
    "finite",
    "norm",
    "rows",
    "budget",
    "metrics",
    "weight",
    "secure_aggregation",
];

#[test]
fn an_update_that_passes_is_released_and_recorded_without_its_values() {
    let world = World::new();
    let permit = permit(&world);
    let release = world
        .engine
        .gate(&permit, proposal(), &facts(), &limits(), &world.log)
        .unwrap();
    assert_eq!(
        release.gates().iter().map(|g| g.name).collect::<Vec<_>>(),
        NAMES
    );
    assert!(release.gates().iter().all(|g| g.passed));
    assert_eq!(
        (release.update(), release.metrics()["loss"]),
        (&[0.5; 7][..], 12)
    );
    assert_eq!(
        (
            release.rows(),
            release.weight(),
            release.secure_aggregation()
        ),
        (10, 10, true)
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
    // "12:00:10.512Z" holds "0.5", too.
    assert!(said.as_object_mut().unwrap().remove("time").is_some());
    assert!(!said.to_string().contains("0.5"));
    assert!(!format!("{release:?} {:?}", proposal()).contains("0.5"));
}

type Change = fn(&mut Proposal, &mut GateLimits);

#[test]
fn each_gate_fails_on_its_own_fault_and_the_others_still_report() {
    let faults: Vec<(&str, Change)> = vec![
        ("contract", |p, _| p.tensors[0].shape = vec![3, 2]),
        ("contract", |p, _| p.tensors[1].name = "c".into()),
        ("contract", |p, _| p.tensors.swap(0, 1)),
        ("contract", |p, _| p.tensors.truncate(1)),
        ("contract", |p, _| p.update.truncate(6)),
        ("contract", |p, l| {
            let huge = TensorSpec {
                name: "w".into(),
                shape: vec![u64::MAX, 2],
            };
            p.tensors = vec![huge.clone()];
            l.contract = vec![huge];
        }),
        ("norm", |_, l| l.max_norm *= 0.999_99),
        ("norm", |p, _| p.update[0] = 0.500_1),
        ("rows", |p, _| p.rows = 4),
        ("rows", |p, _| p.rows = 11),
        ("rows", |p, _| p.subjects = 1),
        ("rows", |p, _| p.subjects = 6),
        ("rows", |_, l| l.min_rows = 11),
        ("budget", |p, _| p.reservation = None),
        ("budget", |p, _| p.epsilon_micro_total += 1),
        ("metrics", |p, _| {
            p.metrics.extend([("patient_7".into(), 1)]);
        }),
        ("weight", |p, _| p.weight = 11),
        ("weight", |p, _| p.weight = 0),
        ("secure_aggregation", |p, _| p.secure_aggregation = false),
    ];
    let world = World::new();
    let permit = permit(&world);
    for (at, (name, change)) in faults.iter().enumerate() {
        let (mut proposal, mut limits) = (proposal(), limits());
        change(&mut proposal, &mut limits);
        match world
            .engine
            .gate(&permit, proposal, &facts(), &limits, &world.log)
            .unwrap_err()
        {
            PolicyError::GateFailed { failed, gates } => {
                assert_eq!(
                    failed.iter().map(|g| g.name).collect::<Vec<_>>(),
                    [*name],
                    "fault {at}"
                );
                assert_eq!(gates.iter().map(|g| g.name).collect::<Vec<_>>(), NAMES);
            }
            other => panic!("fault {at}: {other}"),
        }
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
    world
        .engine
        .gate(&permit, proposal(), &facts(), &limits(), &world.log)
        .unwrap();
}

#[test]
fn values_that_are_not_finite_fail_finite_and_norm() {
    let world = World::new();
    let permit = permit(&world);
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut proposal = proposal();
        proposal.update[3] = value;
        let error = world
            .engine
            .gate(&permit, proposal, &facts(), &limits(), &world.log)
            .unwrap_err();
        let PolicyError::GateFailed { failed, .. } = error else {
            panic!()
        };
        assert_eq!(
            failed.iter().map(|g| g.name).collect::<Vec<_>>(),
            ["finite", "norm"]
        );
    }
}

#[test]
fn privacy_off_or_insecure_is_denied_by_policy_where_privacy_is_required() {
    let world = World::new();
    let permit = permit(&world);
    let off = || Proposal {
        dp: "off".into(),
        reservation: None,
        epsilon_micro_total: 0,
        ..proposal()
    };
    let insecure = || Proposal {
        dp: "insecure_test".into(),
        ..proposal()
    };
    for proposal in [off(), insecure()] {
        let result = world
            .engine
            .gate(&permit, proposal, &facts(), &limits(), &world.log);
        assert_eq!(denied_by(result), ["core.release.dp"]);
        assert_eq!(
            world.last_record()["policies"],
            serde_json::json!(["core.release.dp"])
        );
    }
    let free = DatasetFacts {
        require_dp: false,
        ..facts()
    };
    for proposal in [off(), insecure()] {
        let index = rows(class("contract", None), 10);
        let permit = world
            .engine
            .authorize(&request(), &free, &index, None, &world.consent, &world.log)
            .unwrap()
            .permit;
        world
            .engine
            .gate(&permit, proposal, &free, &limits(), &world.log)
            .unwrap();
    }
}

#[test]
fn facts_other_than_those_of_the_decision_are_refused() {
    let world = World::new();
    let weaker = DatasetFacts {
        require_dp: false,
        ..facts()
    };
    let result = world
        .engine
        .gate(&permit(&world), proposal(), &weaker, &limits(), &world.log);
    assert!(matches!(result, Err(PolicyError::BadRequest { .. })));
    assert_eq!(world.last_record()["decision"], "deny");
}

#[test]
fn a_permit_releases_once_only_in_force_only_for_training_and_only_under_its_bundle() {
    let world = World::new();
    let gate = |permit: &Permit| {
        world
            .engine
            .gate(permit, proposal(), &facts(), &limits(), &world.log)
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
    let read = world
        .ask(&read, &rows(class("contract", None), 10))
        .unwrap()
        .permit;
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
    let result = world
        .engine
        .gate(&permit, proposal(), &facts(), &limits(), &world.log);
    assert!(matches!(result, Err(PolicyError::Audit(_))));
}

#[test]
fn nonsense_from_the_caller_is_a_bad_request() {
    let world = World::new();
    let permit = permit(&world);
    let changes: [Change; 5] = [
        |p, _| p.dp = "yes".into(),
        |_, l| l.max_norm = f64::NAN,
        |_, l| l.max_norm = 0.0,
        |p, _| p.reservation = Some(String::new()),
        |p, _| p.epsilon_micro_total = u64::MAX,
    ];
    for change in changes {
        let (mut proposal, mut limits) = (proposal(), limits());
        change(&mut proposal, &mut limits);
        let result = world
            .engine
            .gate(&permit, proposal, &facts(), &limits, &world.log);
        assert!(
            matches!(result, Err(PolicyError::BadRequest { .. })),
            "{result:?}"
        );
    }
}

#[test]
fn a_permit_to_evaluate_releases_counts_and_never_a_value() {
    let world = World::new();
    let asked = Request {
        action: Action::Evaluate,
        ..request()
    };
    let permit = || {
        world
            .ask(&asked, &rows(class("contract", None), 10))
            .unwrap()
            .permit
    };
    let counts = || Proposal {
        update: Vec::new(),
        tensors: Vec::new(),
        dp: "off".into(),
        reservation: None,
        epsilon_micro_total: 0,
        ..proposal()
    };
    let none = GateLimits {
        contract: Vec::new(),
        ..limits()
    };
    let release = world
        .engine
        .gate(&permit(), counts(), &facts(), &none, &world.log)
        .unwrap();
    assert!(release.update().is_empty());
    assert_eq!(release.metrics()["loss"], 12);

    let failed = |result: Result<Release, PolicyError>| match result {
        Err(PolicyError::GateFailed { failed, .. }) => {
            failed.iter().map(|g| g.name).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    let with_values = world
        .engine
        .gate(&permit(), proposal(), &facts(), &limits(), &world.log);
    assert_eq!(failed(with_values), ["contract"]);
    let in_clear = Proposal {
        secure_aggregation: false,
        ..counts()
    };
    let strict = DatasetFacts {
        require_secure_aggregation: true,
        ..facts()
    };
    let permit = world
        .engine
        .authorize(
            &asked,
            &strict,
            &rows(class("contract", None), 10),
            None,
            &world.consent,
            &world.log,
        )
        .unwrap()
        .permit;
    let refused = world
        .engine
        .gate(&permit, in_clear, &strict, &none, &world.log);
    assert_eq!(failed(refused), ["secure_aggregation"]);
}
