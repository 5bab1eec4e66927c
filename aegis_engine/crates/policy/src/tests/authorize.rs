//! Decisions: by name, durable before a permit, and in force for as long as they say.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::thread::sleep;

use super::*;
use crate::digest::hex;

#[test]
fn a_purpose_outside_is_denied_by_name_durably_and_without_a_permit() {
    let world = World::new();
    let bad = Request {
        purpose: "marketing".into(),
        ..request()
    };
    assert_eq!(
        denied_by(world.ask(&bad, &rows(class("contract", None), 10))),
        ["core.purpose"]
    );
    let record = world.last_record();
    assert_eq!(record["event"], "authorize");
    assert_eq!(record["decision"], "deny");
    assert_eq!(record["policies"], serde_json::json!(["core.purpose"]));
    assert_eq!(record["rows_allowed"], 0);
    assert_eq!(record.get("permit"), None);
    assert_eq!(record.get("row_set"), None);
    aegis_audit::verify(&world.dir.path().join("audit"), Some("test"), None).unwrap();
}

#[test]
fn unapproved_and_unknown_columns_are_denied_alike() {
    let world = World::new();
    let index = rows(class("contract", None), 10);
    let ask = |columns: &[&str]| {
        let columns = columns.iter().map(|c| (*c).to_owned()).collect();
        world.ask(
            &Request {
                columns,
                ..request()
            },
            &index,
        )
    };
    assert_eq!(denied_by(ask(&["age", "name"])), ["core.columns"]);
    assert_eq!(denied_by(ask(&["age", "nothing"])), ["core.columns"]);
    for bad in [&[][..], &["age", "age"]] {
        assert!(
            matches!(ask(bad), Err(PolicyError::BadRequest { .. })),
            "{bad:?}"
        );
    }
    let permit = ask(&["pulse", "age"]).unwrap().permit;
    let Scope::Rows { columns, .. } = permit.scope() else {
        panic!()
    };
    assert_eq!(columns, &["pulse", "age"], "in the order asked for");
}

#[test]
fn a_permit_carries_the_decision_and_its_record_was_there_first() {
    let world = World::new();
    let before = world.log.head().seq;
    let permit = world
        .ask(&request(), &rows(class("contract", None), 10))
        .unwrap()
        .permit;
    let record = world.last_record();
    assert_eq!(permit.audit_seq(), before);
    assert_eq!(record["permit"], permit.id().to_string());
    assert_eq!(record["rows_allowed"], 10);
    assert_eq!(record["subjects"], 5);
    assert_eq!(record["bundle"], hex(&world.engine.bundle().hash()));
    let all: RowSet = (0..10).collect();
    assert_eq!(record["row_set"], hex(&all.hash()));
    assert_eq!(
        (permit.row_count(), permit.subjects(), permit.round()),
        (10, 5, 3)
    );
    assert_eq!(
        (permit.run(), permit.node(), permit.app_hash()),
        ("run-1", "node-1", "ab")
    );
    assert_eq!(permit.authority(), Authority::Bundle(Bundle::core().hash()));
    permit.redeem(request().vault, request().object).unwrap();
    assert!(matches!(
        permit.redeem(Uuid::nil(), request().object),
        Err(PermitError::Scope { .. })
    ));
    assert!(matches!(
        permit.redeem(request().vault, Uuid::nil()),
        Err(PermitError::Scope { .. })
    ));
    assert_eq!(permit.uses(), 1);
}

#[test]
fn no_permit_without_a_durable_record() {
    let world = World::new();
    world
        .ask(&request(), &rows(class("contract", None), 10))
        .unwrap();
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(world.log.path())
        .unwrap();
    file.set_len(70).unwrap();
    let result = world.ask(&request(), &rows(class("contract", None), 10));
    assert!(matches!(result, Err(PolicyError::Audit(_))), "{result:?}");
    let gone = World::new();
    std::fs::remove_file(gone.log.path()).unwrap();
    assert!(matches!(
        gone.ask(&request(), &rows(class("contract", None), 10)),
        Err(PolicyError::Audit(_))
    ));
    assert!(owner_permit(Uuid::nil(), Uuid::nil(), Action::Read, &gone.log).is_err());
}

#[test]
fn rows_of_withdrawn_objecting_restricted_erased_and_expired_subjects_are_left_out_and_counted() {
    let world = World::new();
    let c = &world.consent;
    c.grant_many(&(0..5).map(subject).collect::<Vec<_>>(), "research")
        .unwrap();
    let mut index = rows(class("consent", None), 10);
    c.withdraw(subject(1), "research").unwrap();
    c.object(subject(2), None).unwrap();
    c.restrict(subject(3), Some("research")).unwrap();
    index.classes.push(class("consent", Some(TODAY - 1)));
    index.class_of[8] = 1;
    let authorized = world.ask(&request(), &index).unwrap();
    assert_eq!(scope_rows(&authorized.permit), [0, 1, 9]);
    assert_eq!(authorized.permit.subjects(), 2);
    let counts = [
        ("core.consent", 2),
        ("core.objection", 2),
        ("core.restriction", 2),
        ("core.retention", 1),
    ];
    assert_eq!(
        authorized.denied,
        counts.map(|(id, n)| (id.to_owned(), n)).into()
    );
    assert_eq!(world.last_record()["rows_denied"]["core.consent"], 2);
    c.erase(subject(0)).unwrap();
    let authorized = world.ask(&request(), &index).unwrap();
    assert_eq!(scope_rows(&authorized.permit), [9]);
    assert_eq!(authorized.denied["core.erased"], 2);
    // Nothing that identifies somebody is in the log, not even a pseudonym.
    let text = std::fs::read(world.log.path()).unwrap();
    assert!(!String::from_utf8_lossy(&text).contains(&hex(&subject(1))));
}

#[test]
fn consent_to_another_purpose_does_not_count() {
    let world = World::new();
    world
        .consent
        .grant_many(&(0..5).map(subject).collect::<Vec<_>>(), "care")
        .unwrap();
    assert_eq!(
        denied_by(world.ask(&request(), &rows(class("consent", None), 10))),
        ["core.consent"]
    );
    assert_eq!(world.last_record()["rows_denied"]["core.consent"], 10);
    let care = Request {
        purpose: "care".into(),
        ..request()
    };
    assert_eq!(
        world
            .ask(&care, &rows(class("consent", None), 10))
            .unwrap()
            .permit
            .row_count(),
        10
    );
}

#[test]
fn candidates_narrow_and_never_widen() {
    let world = World::new();
    world.consent.grant(subject(1), "research").unwrap();
    let index = rows(class("consent", None), 10);
    let ask = |rows: &[u32]| {
        let set: RowSet = rows.iter().copied().collect();
        world.engine.authorize(
            &request(),
            &facts(),
            &index,
            Some(&set),
            &world.consent,
            &world.log,
        )
    };
    let some = ask(&[0, 3, 9]).unwrap();
    assert_eq!(scope_rows(&some.permit), [3]);
    assert_eq!(
        some.denied,
        BTreeMap::from([("core.consent".to_owned(), 2)])
    );
    assert_eq!(denied_by(ask(&[0, 9])), ["core.consent"]);
    assert_eq!(denied_by(ask(&[])), ["core.default_deny"]);
    assert!(matches!(ask(&[10]), Err(PolicyError::BadRequest { .. })));
}

#[test]
fn a_permit_is_revoked_when_the_consent_log_grows_by_any_process() {
    let world = World::new();
    let other = ConsentLedger::open(&world.dir.path().join("consent"), "test", prove()).unwrap();
    for ledger in [&world.consent, &other] {
        let permit = world
            .ask(&request(), &rows(class("contract", None), 10))
            .unwrap()
            .permit;
        permit.redeem(request().vault, request().object).unwrap();
        ledger.withdraw(subject(0), "care").unwrap();
        let refused = permit.redeem(request().vault, request().object);
        assert!(
            matches!(refused, Err(PermitError::Revoked { .. })),
            "{refused:?}"
        );
    }
    let permit = world
        .ask(&request(), &rows(class("contract", None), 10))
        .unwrap()
        .permit;
    assert_eq!(permit.ledger_epoch(), 2);
    permit.redeem(request().vault, request().object).unwrap();
}

#[test]
fn a_permit_expires() {
    let world = World::new();
    let short = Request {
        valid_for: Duration::from_millis(40),
        ..request()
    };
    let permit = world
        .ask(&short, &rows(class("contract", None), 10))
        .unwrap()
        .permit;
    sleep(Duration::from_millis(60));
    assert!(matches!(
        permit.redeem(short.vault, short.object),
        Err(PermitError::Expired { .. })
    ));
    for valid_for in [Duration::ZERO, Duration::from_secs(86_401), Duration::MAX] {
        let bad = Request {
            valid_for,
            ..request()
        };
        assert!(matches!(
            world.ask(&bad, &rows(class("contract", None), 10)),
            Err(PolicyError::BadRequest { .. })
        ));
    }
}

#[test]
fn a_clock_that_went_back_denies() {
    let world = World::new();
    world
        .ask(&request(), &rows(class("contract", None), 10))
        .unwrap();
    world.engine.latest.fetch_add(10_000, Ordering::AcqRel);
    assert_eq!(
        denied_by(world.ask(&request(), &rows(class("contract", None), 10))),
        ["engine.clock"]
    );
    assert_eq!(world.last_record()["decision"], "deny");
}

#[test]
fn export_of_the_whole_object_is_all_or_nothing() {
    let world = World::new();
    let export = Request {
        action: Action::Export,
        columns: Vec::new(),
        ..request()
    };
    let ask = |facts: &DatasetFacts| {
        let index = rows(class("contract", None), 10);
        world
            .engine
            .authorize(&export, facts, &index, None, &world.consent, &world.log)
    };
    assert_eq!(
        denied_by(ask(&facts())),
        ["core.columns"],
        "every column must be approved"
    );
    let open = DatasetFacts {
        approved_columns: facts().columns.into_iter().collect(),
        ..facts()
    };
    assert_eq!(ask(&open).unwrap().permit.scope(), &Scope::Whole);
    world.consent.object(subject(0), None).unwrap();
    assert_eq!(denied_by(ask(&open)), ["core.objection"]);
}

#[test]
fn explain_decides_alike_logs_nothing() {
    let world = World::new();
    world.consent.object(subject(0), None).unwrap();
    let index = rows(class("contract", None), 10);
    let why = |r: &Request| {
        world
            .engine
            .explain(r, &facts(), &index, None, &world.consent)
            .unwrap()
    };
    let yes = why(&request());
    assert_eq!(
        (
            yes.allowed,
            yes.rows,
            yes.subjects,
            yes.denied["core.objection"]
        ),
        (true, 8, 4, 2)
    );
    let no = why(&Request {
        purpose: "marketing".into(),
        ..request()
    });
    assert_eq!(
        (no.allowed, no.rows, no.policies),
        (false, 0, vec!["core.purpose".to_owned()])
    );
    assert!(no.advice.contains("purpose"));
    assert!(world.records().is_empty());
}

#[test]
fn a_malformed_index_or_request_is_refused() {
    let world = World::new();
    let good = rows(class("contract", None), 4);
    let mut short = good.clone();
    short.subjects.pop();
    let mut class_out = good.clone();
    class_out.class_of[2] = 1;
    let basis = rows(class("because", None), 4);
    for index in [short, class_out, basis] {
        assert!(matches!(
            world.ask(&request(), &index),
            Err(PolicyError::BadRequest { .. })
        ));
    }
    let long = "x".repeat(300);
    for bad in [
        Request {
            purpose: String::new(),
            ..request()
        },
        Request {
            run: long.clone(),
            ..request()
        },
        Request {
            node: "a\u{7}".into(),
            ..request()
        },
        Request {
            round: u64::MAX,
            ..request()
        },
    ] {
        assert!(matches!(
            world.ask(&bad, &good),
            Err(PolicyError::BadRequest { .. })
        ));
    }
}

#[test]
fn an_owner_permit_is_on_record_and_opens_the_whole_object() {
    let world = World::new();
    let (vault, object) = (Uuid::from_u128(7), Uuid::from_u128(8));
    let permit = owner_permit(vault, object, Action::Read, &world.log).unwrap();
    assert_eq!(
        (permit.authority(), permit.scope()),
        (Authority::Owner, &Scope::Whole)
    );
    assert_eq!(world.last_record()["permit"], permit.id().to_string());
    permit.redeem(vault, object).unwrap();
}
