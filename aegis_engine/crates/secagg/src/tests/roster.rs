//! The operator's roster: what is read is what was signed, and a node never goes back.

use std::fmt::Write;

use data_encoding::HEXLOWER;

use crate::keys;
use crate::roster::*;

const SEED: [u8; 32] = [7; 32];

fn roster() -> SignedRoster {
    let member = |n: u8| (keys::identity(&[n; 32]).unwrap(), format!("node-{n}"));
    SignedRoster {
        serial: 7,
        issued: 1_000_000,
        expires: 2_000_000,
        members: (1..4).map(member).collect(),
    }
}

#[test]
fn what_was_signed_is_what_is_read() {
    let text = roster().sign(&SEED).unwrap();
    let signer = keys::identity(&SEED).unwrap();
    assert_eq!(SignedRoster::open(&text, &signer).unwrap(), roster());
}

#[test]
fn two_members_of_one_name_are_neither_written_nor_read() {
    let mut twice = roster();
    let names = twice.members.values_mut();
    names.for_each(|name| "node".clone_into(name));
    assert!(matches!(twice.sign(&SEED), Err(RosterError::Member { .. })));
    // signed by other means than this crate's
    let text = roster().covered(&keys::identity(&SEED).unwrap()).unwrap();
    let mut text = text.replace("node-2", "node-1");
    let signature = keys::sign(&SEED, &[DOMAIN, text.as_bytes()].concat()).unwrap();
    let _ = writeln!(text, "signature {}", HEXLOWER.encode(&signature));
    let found = SignedRoster::open(&text, &keys::identity(&SEED).unwrap()).unwrap_err();
    assert!(
        matches!(&found, RosterError::Malformed { reason, .. } if reason.contains("name")),
        "{found}"
    );
}

#[test]
fn every_changed_cut_or_added_byte_is_refused() {
    let text = roster().sign(&SEED).unwrap();
    let signer = keys::identity(&SEED).unwrap();
    for at in 0..text.len() {
        assert!(
            SignedRoster::open(&text[..at], &signer).is_err(),
            "cut at {at}"
        );
        let mut bytes = text.clone().into_bytes();
        for bit in 0..7 {
            bytes[at] ^= 1 << bit;
            if let Ok(changed) = std::str::from_utf8(&bytes) {
                assert!(SignedRoster::open(changed, &signer).is_err(), "byte {at}");
            }
            bytes[at] ^= 1 << bit;
        }
    }
    for added in ["\n", " ", "member", "x\n"] {
        assert!(SignedRoster::open(&format!("{text}{added}"), &signer).is_err());
    }
}

#[test]
fn a_roster_of_another_operator_names_both_keys() {
    let text = roster().sign(&[8; 32]).unwrap();
    let signer = keys::identity(&SEED).unwrap();
    assert_eq!(
        SignedRoster::open(&text, &signer).unwrap_err(),
        RosterError::OtherSigner {
            pinned: HEXLOWER.encode(&signer),
            found: HEXLOWER.encode(&keys::identity(&[8; 32]).unwrap()),
        }
    );
    // The name of the right signer does not make the signature.
    let claimed = text.replace(
        &HEXLOWER.encode(&keys::identity(&[8; 32]).unwrap()),
        &HEXLOWER.encode(&signer),
    );
    assert_eq!(
        SignedRoster::open(&claimed, &signer).unwrap_err(),
        RosterError::BadSignature
    );
}

#[test]
fn other_spellings_of_the_same_are_refused_with_their_line() {
    let signed = |text: &str| {
        let signature = keys::sign(&SEED, &[DOMAIN, text.as_bytes()].concat()).unwrap();
        format!("{text}signature {}\n", HEXLOWER.encode(&signature))
    };
    let public = keys::identity(&SEED).unwrap();
    let text = roster().sign(&SEED).unwrap();
    let body = &text[..text.find("signature").unwrap()];
    assert!(SignedRoster::open(&signed(body), &public).is_ok());
    let lines: Vec<&str> = body.lines().collect();
    let swapped = {
        let mut lines = lines.clone();
        lines.swap(5, 6);
        lines.join("\n") + "\n"
    };
    let twice = format!("{body}{}\n", lines[7]);
    let cases = [
        (body.replace("serial 7", "serial 07"), 2),
        (body.replace("serial 7", "serial +7"), 2),
        (body.replace("serial 7", "serial  7"), 2),
        (body.replace("issued", "Issued"), 3),
        (body.replace('\n', "\r\n"), 1),
        (
            body.replace(
                &HEXLOWER.encode(&public),
                &HEXLOWER.encode(&public).to_uppercase(),
            ),
            5,
        ),
        (body.replace("node-1", "node 1"), 0),
        (body.replace("node-1", ""), 0),
        (swapped, 7),
        (twice, 9),
    ];
    for (changed, expected) in cases {
        match SignedRoster::open(&signed(&changed), &public).unwrap_err() {
            RosterError::Malformed { line, .. } => {
                assert!(expected == 0 || line == expected, "{line} of {changed}");
            }
            other => panic!("{other}"),
        }
    }
}

#[test]
fn names_that_cannot_be_read_back_are_not_signed() {
    for name in ["", "a b", "a\nb", "a\u{7f}", &"x".repeat(65)] {
        let mut bad = roster();
        bad.members.insert([0; 32], name.to_owned());
        assert!(
            matches!(bad.sign(&SEED), Err(RosterError::Member { .. })),
            "{name:?}"
        );
    }
    let mut same = roster();
    same.members.insert([0; 32], "node-1".to_owned());
    assert!(matches!(same.sign(&SEED), Err(RosterError::Member { .. })));
}

#[test]
fn a_serial_never_goes_down_and_is_never_two_rosters() {
    let roster = roster();
    let taken = |serial, hash| Some(Taken { serial, hash });
    let now = 1_500_000;
    assert_eq!(roster.take([1; 32], now, None).unwrap().serial, 7);
    assert!(roster.take([1; 32], now, taken(6, [2; 32])).is_ok());
    assert!(roster.take([1; 32], now, taken(7, [1; 32])).is_ok());
    assert_eq!(
        roster.take([1; 32], now, taken(7, [2; 32])).unwrap_err(),
        RosterError::TwoOfASerial { serial: 7 }
    );
    assert_eq!(
        roster.take([1; 32], now, taken(8, [1; 32])).unwrap_err(),
        RosterError::OlderSerial { serial: 7, last: 8 }
    );
    assert_eq!(
        roster.take([1; 32], 2_000_000, None).unwrap_err(),
        RosterError::Expired { since: 0 }
    );
    assert_eq!(
        roster.take([1; 32], 913_599, None).unwrap_err(),
        RosterError::NotYet { ahead: 86_401 }
    );
}
