use super::*;

fn mark(seq: u64) -> Mark {
    Mark {
        head: Head { seq, hash: [9; 32] },
        last: 64,
        end: 200,
    }
}

fn encode(body: &Body) -> Pages {
    body.encode(&Delta::default(), &body.audit).unwrap()
}

fn shred(body: &mut Body, id: u128) -> Pages {
    let mut delta = Delta::default();
    delta
        .entries
        .insert(Uuid::from_u128(id), Entry::Shredded { when: 1 });
    let merged = body.encode(&delta, &mark(6)).unwrap();
    body.apply(delta, mark(6));
    merged
}

fn sample() -> Body {
    let mut body = Body::new().unwrap();
    let mut delta = Delta {
        bundle: Some([3; 32]),
        ..Delta::default()
    };
    delta.subjects.insert([1; 16], Secret::random().unwrap());
    let record = |n| KeyRecord {
        object: Uuid::from_u128(n),
        kind: Kind::Data,
        key_record: Uuid::new_v4(),
        subject: [1; 16],
        rows: (n == 2).then(|| Uuid::from_u128(9)),
        wrapped: [5; WRAPPED],
        header_mac: [6; 32],
        length: 7,
        created: 8,
        name: (n == 1).then(|| "new.csv".to_owned()),
    };
    delta.fill(record, 3);
    let head = NamedHead {
        count: 7,
        mac: [8; 32],
    };
    delta.heads.insert("consent".into(), head);
    body.apply(delta, mark(5));
    body
}

#[test]
fn the_body_round_trips() {
    let bytes = encode(&sample());
    assert_eq!(*encode(&Body::decode(&bytes, 2).unwrap()), *bytes);
}

#[test]
fn every_truncation_and_any_trailing_byte_is_refused() {
    let bytes = encode(&sample());
    for len in 0..bytes.len() {
        assert!(Body::decode(&bytes[..len], 2).is_err(), "length {len}");
    }
    let mut longer = bytes.to_vec();
    longer.push(0);
    assert!(Body::decode(&longer, 2).is_err());
}

#[test]
fn the_last_shred_of_a_subject_drops_its_key() {
    let mut body = sample();
    shred(&mut body, 1);
    assert_eq!(body.subjects.len(), 1);
    shred(&mut body, 2);
    assert!(body.subjects.is_empty());
}

#[test]
fn a_body_with_a_change_is_encoded_as_it_is_after_it() {
    for id in [1, 2, 3, 4] {
        let mut body = sample();
        let merged = shred(&mut body, id);
        assert_eq!(*merged, *encode(&body), "{id}");
        let merged = shred(&mut body, 2);
        assert_eq!(*merged, *encode(&body), "{id}, then 2");
    }
}

#[test]
fn a_key_that_a_new_object_needs_does_not_go_with_the_old_one() {
    for (old, new) in [(1, 9), (9, 1)] {
        let mut body = sample();
        shred(&mut body, 2);
        if old == 9 {
            let record = body.live(Uuid::from_u128(1)).unwrap().clone();
            let mut delta = Delta::default();
            let entry = Entry::Live(Box::new(record));
            delta.entries.insert(Uuid::from_u128(9), entry);
            body.apply(delta, mark(7));
            shred(&mut body, 1);
        }
        let record = body.live(Uuid::from_u128(old)).unwrap().clone();
        let mut delta = Delta::default();
        let entry = Entry::Live(Box::new(record));
        delta.entries.insert(Uuid::from_u128(new), entry);
        let tombstone = Entry::Shredded { when: 1 };
        delta.entries.insert(Uuid::from_u128(old), tombstone);
        let merged = body.encode(&delta, &mark(8)).unwrap();
        body.apply(delta, mark(8));
        assert_eq!(body.subjects.len(), 1, "{old} to {new}");
        assert_eq!(*merged, *encode(&body));
    }
}

#[test]
fn a_change_round_trips_and_shreds_nothing() {
    let delta = Delta {
        entries: [(Uuid::from_u128(3), Entry::Shredded { when: 11 })].into(),
        ..Delta::default()
    };
    let bytes = delta.encode(&mark(1)).unwrap();
    assert!(Delta::decode(&bytes).is_err());
    let head = NamedHead {
        count: 7,
        mac: [8; 32],
    };
    let delta = Delta {
        heads: [("a".to_owned(), head), ("b".to_owned(), head)].into(),
        subjects: [([1; 16], Secret::random().unwrap())].into(),
        ..Delta::default()
    };
    let bytes = delta.encode(&mark(1)).unwrap();
    let (again, audit) = Delta::decode(&bytes).unwrap();
    assert_eq!(*again.encode(&audit).unwrap(), *bytes);
    for len in 0..bytes.len() {
        assert!(Delta::decode(&bytes[..len]).is_err(), "length {len}");
    }
}
