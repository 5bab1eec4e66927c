//! The ledger against a plain model, across handles, and closed when in doubt.

use proptest::prelude::*;
use serde_json::json;

use super::*;

#[test]
fn each_event_does_what_it_says() {
    let world = World::new();
    let (c, s) = (&world.consent, subject(1));
    let see = |purpose: &str| {
        let f = c.flags(s, purpose);
        (f.consent, f.objected, f.restricted, f.erased)
    };
    c.grant(s, "a").unwrap();
    assert_eq!(
        (see("a"), see("b")),
        ((true, false, false, false), (false, false, false, false))
    );
    c.withdraw(s, "a").unwrap();
    assert_eq!(see("a"), (false, false, false, false));
    c.object(s, Some("a")).unwrap();
    c.restrict(s, None).unwrap();
    assert_eq!(
        (see("a"), see("b")),
        ((false, true, true, false), (false, false, true, false))
    );
    c.lift(s, Some("a")).unwrap();
    assert_eq!(
        see("a"),
        (false, false, true, false),
        "what was said of all purposes stays"
    );
    c.object(s, Some("b")).unwrap();
    c.lift(s, None).unwrap();
    assert_eq!(
        (see("a"), see("b")),
        ((false, false, false, false), (false, false, false, false))
    );
    c.grant(s, "a").unwrap();
    assert_eq!(c.erase(s).unwrap(), 9);
    assert_eq!(see("a"), (false, false, false, true));
    assert!(matches!(c.grant(s, "a"), Err(ConsentError::Erased)));
    assert_eq!(c.flags(subject(2), "a"), Flags::default());
}

#[test]
fn grants_for_ten_thousand_subjects_are_one_record_and_more_are_split() {
    let world = World::new();
    let subjects: Vec<Subject> = (0..60_000_u128).map(u128::to_be_bytes).collect();
    assert_eq!(
        world.consent.grant_many(&subjects[..10_000], "a").unwrap(),
        1
    );
    assert_eq!(world.consent.grant_many(&subjects, "b").unwrap(), 4);
    assert!(
        subjects
            .iter()
            .all(|s| world.consent.flags(*s, "b").consent)
    );
    assert!(!world.consent.flags(subjects[10_000], "a").consent);
}

#[test]
fn bad_purposes_are_refused_before_anything_is_written() {
    let world = World::new();
    for purpose in ["", "a\nb", &"x".repeat(300)] {
        assert!(matches!(
            world.consent.grant(subject(1), purpose),
            Err(ConsentError::BadPurpose { .. })
        ));
    }
    assert_eq!(world.consent.epoch(), 0);
}

#[test]
fn another_handle_sees_changes_after_refresh_and_its_watch_notices_them_before() {
    let world = World::new();
    let other = ConsentLedger::open(&world.dir.path().join("consent"), "test", prove()).unwrap();
    world.consent.grant(subject(1), "a").unwrap();
    let (path, length) = other.watch();
    assert_ne!(std::fs::metadata(path).unwrap().len(), length);
    assert!(!other.flags(subject(1), "a").consent);
    assert_eq!(other.refresh().unwrap(), 1);
    assert!(other.flags(subject(1), "a").consent);
    assert_eq!(other.watch(), world.consent.watch());
    other.withdraw(subject(1), "a").unwrap();
    world.consent.refresh().unwrap();
    assert!(!world.consent.flags(subject(1), "a").consent);
}

#[test]
fn a_ledger_that_cannot_be_understood_or_was_cut_denies_and_is_on_record() {
    for how in ["unknown", "cut", "gone"] {
        let world = World::new();
        world
            .consent
            .grant_many(&(0..5).map(subject).collect::<Vec<_>>(), "research")
            .unwrap();
        let dir = world.dir.path().join("consent");
        let (path, length) = world.consent.watch();
        match how {
            "unknown" => {
                let log = Log::open(&dir, "test").unwrap();
                log.append(&json!({"event": "consent.new", "purpose": null, "subjects": []}))
                    .map(|_| ())
                    .unwrap();
            }
            "cut" => std::fs::OpenOptions::new()
                .write(true)
                .open(path)
                .unwrap()
                .set_len(length - 1)
                .unwrap(),
            _ => std::fs::remove_file(path).unwrap(),
        }
        let result = world.ask(&request(), &rows(class("consent", None), 10));
        assert!(
            matches!(result, Err(PolicyError::Consent(_))),
            "{how}: {result:?}"
        );
        let record = world.last_record();
        assert_eq!(
            (record["decision"].as_str(), record.get("permit")),
            (Some("deny"), None)
        );
        assert!(!record["errors"][0].as_str().unwrap().is_empty());
        // And it stays so: nothing half read counts.
        assert!(
            world
                .ask(&request(), &rows(class("consent", None), 10))
                .is_err()
        );
    }
}

#[derive(Debug, Clone)]
pub enum Event {
    Grant(u8, u8),
    Withdraw(u8, u8),
    Object(u8, Option<u8>),
    Restrict(u8, Option<u8>),
    Lift(u8, Option<u8>),
    Erase(u8),
}
use Event::{Erase, Grant, Lift, Object, Restrict, Withdraw};

pub const PURPOSES: [&str; 2] = ["research", "care"];

pub fn event() -> impl Strategy<Value = Event> {
    let (s, p, o) = (0_u8..6, 0_u8..2, prop::option::of(0_u8..2));
    prop_oneof![
        5 => (s.clone(), p.clone()).prop_map(|(s, p)| Grant(s, p)),
        1 => (s.clone(), p).prop_map(|(s, p)| Withdraw(s, p)),
        1 => (s.clone(), o.clone()).prop_map(|(s, o)| Object(s, o)),
        1 => (s.clone(), o.clone()).prop_map(|(s, o)| Restrict(s, o)),
        1 => (s.clone(), o).prop_map(|(s, o)| Lift(s, o)),
        1 => s.prop_map(Erase),
    ]
}

pub fn play(ledger: &ConsentLedger, events: &[Event]) {
    let name = |p: &u8| PURPOSES[usize::from(*p)];
    for event in events {
        let result = match event {
            Grant(s, p) => ledger.grant(subject(*s), name(p)),
            Withdraw(s, p) => ledger.withdraw(subject(*s), name(p)),
            Object(s, o) => ledger.object(subject(*s), o.as_ref().map(name)),
            Restrict(s, o) => ledger.restrict(subject(*s), o.as_ref().map(name)),
            Lift(s, o) => ledger.lift(subject(*s), o.as_ref().map(name)),
            Erase(s) => ledger.erase(subject(*s)),
        };
        assert!(matches!(result, Ok(_) | Err(ConsentError::Erased)));
    }
}

/// What the events mean for one subject and purpose, by the definition rather than by tables.
pub fn model(events: &[Event], s: u8, p: u8) -> Flags {
    let (mut consent, mut erased) = (false, false);
    // (for this purpose, for all)
    let (mut objected, mut restricted) = ((false, false), (false, false));
    for event in events {
        match event {
            Grant(x, q) if (*x, *q) == (s, p) && !erased => consent = true,
            Withdraw(x, q) if (*x, *q) == (s, p) => consent = false,
            Object(x, None) if *x == s => objected.1 = true,
            Object(x, Some(q)) if (*x, *q) == (s, p) => objected.0 = true,
            Restrict(x, None) if *x == s => restricted.1 = true,
            Restrict(x, Some(q)) if (*x, *q) == (s, p) => restricted.0 = true,
            Lift(x, None) if *x == s => (objected, restricted) = ((false, false), (false, false)),
            Lift(x, Some(q)) if (*x, *q) == (s, p) => (objected.0, restricted.0) = (false, false),
            Erase(x) if *x == s => (consent, erased) = (false, true),
            _ => {}
        }
    }
    Flags {
        consent,
        objected: objected.0 || objected.1,
        restricted: restricted.0 || restricted.1,
        erased,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn ledger_and_model_agree_live_and_reopened(events in prop::collection::vec(event(), 0..15)) {
        let world = World::new();
        play(&world.consent, &events);
        let again = ConsentLedger::open(&world.dir.path().join("consent"), "test", prove()).unwrap();
        for s in 0..6 {
            for p in 0..2 {
                let want = model(&events, s, p);
                prop_assert_eq!(world.consent.flags(subject(s), PURPOSES[usize::from(p)]), want);
                prop_assert_eq!(again.flags(subject(s), PURPOSES[usize::from(p)]), want);
            }
        }
    }
}
