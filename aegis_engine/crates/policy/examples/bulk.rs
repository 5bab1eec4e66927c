//! Prints how long decisions take: `cargo run --release -p aegis-policy --example bulk`.

use std::time::{Duration, Instant};

use aegis_audit::Log;
use aegis_policy::{
    Action, Bundle, Class, ConsentLedger, DatasetFacts, Engine, Request, RowIndex, Subject,
    owner_permit,
};
use uuid::Uuid;

const ROWS: u32 = 1_000_000;
const SUBJECTS: u32 = 100_000;

#[expect(clippy::too_many_lines, reason = "one script, read from top to bottom")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let log = Log::open(&dir.path().join("audit"), "example")?;
    let consent = ConsentLedger::open(
        &dir.path().join("consent"),
        "example",
        Box::new(|_| [0; 32]),
    )?;
    let start = Instant::now();
    let engine = Engine::new(Bundle::core())?;
    println!(
        "load and probe the core bundle      {:>10.2?}",
        start.elapsed()
    );

    let subjects: Vec<Subject> = (0..SUBJECTS).map(pseudonym).collect();
    let start = Instant::now();
    consent.grant_many(&subjects, "research")?;
    println!(
        "grants of {SUBJECTS} subjects            {:>10.2?}",
        start.elapsed()
    );
    for subject in subjects.iter().step_by(1000) {
        consent.withdraw(*subject, "research")?;
    }

    let bases = ["consent", "contract", "legal_obligation", "public_task"];
    let classes: Vec<Class> = (0..32_u32)
        .map(|k| Class {
            basis: bases[k as usize % 4].into(),
            delete_after: (k > 3).then_some(19_990 + k),
            special: k % 2 == 0,
        })
        .collect();
    let index = RowIndex {
        class_of: (0..ROWS)
            .map(|row| u16::try_from(row.wrapping_mul(2_654_435_761) >> 27).unwrap_or(0))
            .collect(),
        subjects: (0..ROWS)
            .map(|row| subjects[(row.wrapping_mul(40_503) % SUBJECTS) as usize])
            .collect(),
        classes,
    };
    let facts = DatasetFacts {
        purposes: ["research".to_owned()].into(),
        columns: vec!["x".into()],
        approved_columns: ["x".to_owned()].into(),
        min_rows: 100,
        min_subjects: 10,
        require_dp: true,
        require_secure_aggregation: true,
        budget_micro_epsilon: 8_000_000,
        controller: "example".into(),
        ..DatasetFacts::default()
    };
    let request = Request {
        vault: Uuid::from_u128(1),
        object: Uuid::from_u128(2),
        action: Action::Train,
        purpose: "research".into(),
        columns: vec!["x".into()],
        run: "run".into(),
        round: 1,
        app_hash: String::new(),
        valid_for: Duration::from_mins(10),
        today: Some(20_000),
        node: "node".into(),
    };
    for _ in 0..3 {
        let start = Instant::now();
        let done = engine.authorize(&request, &facts, &index, None, &consent, &log)?;
        let rows = done.permit.row_count();
        println!(
            "authorize {ROWS} rows, durable    {:>10.2?}  ({rows} allowed, denied {:?})",
            start.elapsed(),
            done.denied
        );
        let start = Instant::now();
        for _ in 0..1000 {
            done.permit.redeem(request.vault, request.object)?;
        }
        println!(
            "redeem a permit                     {:>10.2?}",
            start.elapsed() / 1000
        );
    }
    let small = RowIndex {
        classes: index.classes[..1].to_vec(),
        class_of: vec![0],
        subjects: vec![subjects[1]],
    };
    let start = Instant::now();
    for _ in 0..100 {
        engine.explain(&request, &facts, &small, None, &consent)?;
    }
    println!(
        "decide on 1 row, nothing logged     {:>10.2?}",
        start.elapsed() / 100
    );
    let start = Instant::now();
    for _ in 0..20 {
        owner_permit(request.vault, request.object, Action::Read, &log)?;
    }
    println!(
        "one durable record                  {:>10.2?}",
        start.elapsed() / 20
    );
    Ok(())
}

/// Random-looking, as a MAC would be.
fn pseudonym(n: u32) -> Subject {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &n.to_le_bytes());
    let mut subject = [0; 16];
    subject.copy_from_slice(&digest.as_ref()[..16]);
    subject
}
