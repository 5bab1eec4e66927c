//! The permits of a release: in force, used once, each under its own terms, and on record first.

use super::*;

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
