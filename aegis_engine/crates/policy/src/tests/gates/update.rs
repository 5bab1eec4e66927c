//! An update: what passes, what each gate refuses, and what the record says of it.

use super::*;

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
