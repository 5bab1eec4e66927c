//! The decision over many rows is the decision of each row.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::consent::{PURPOSES, event, model, play};
use super::*;
use crate::cedar::{Asker, use_context};
use crate::engine::rows::Question;
use crate::rows::BASES;

/// Couples an attribute of the class with flags: no algebra of independent bitmaps would get it right.
const COUPLED: &str = "@id(\"test.coupled\")@advice(\"x\") forbid(principal, action in Action::\"use\", \
    resource is Rows) when { resource.special && !resource.consent && resource.basis != \"consent\" };";

fn index() -> impl Strategy<Value = RowIndex> {
    let day = prop::option::of(TODAY - 2..TODAY + 2);
    let class = (0_usize..6, day, any::<bool>()).prop_map(|(basis, delete_after, special)| Class {
        basis: BASES[basis].into(),
        delete_after,
        special,
    });
    let classes = prop::collection::vec(class, 1..9);
    let row = (any::<prop::sample::Index>(), 0_u8..6);
    (classes, prop::collection::vec(row, 1..700)).prop_map(|(classes, rows)| RowIndex {
        class_of: rows
            .iter()
            .map(|(c, _)| u16::try_from(c.index(classes.len())).unwrap())
            .collect(),
        subjects: rows.iter().map(|(_, s)| subject(*s)).collect(),
        classes,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn bulk_is_single_is_the_plain_rule(
        index in index(),
        events in prop::collection::vec(event(), 0..10),
        purpose in 0_u8..2,
        candidates in prop::option::of(prop::collection::vec(any::<prop::sample::Index>(), 0..300)),
    ) {
        let core = Bundle::core();
        let files = [("core.cedar", core.policies()), ("coupled.cedar", COUPLED)];
        let world = World::with(Bundle::parse("coupled", core.schema(), &files).unwrap());
        play(&world.consent, &events);
        let count = index.class_of.len();
        let candidates: Option<RowSet> =
            candidates.map(|list| list.iter().map(|i| u32::try_from(i.index(count)).unwrap()).collect());
        let rule = |row: u32| {
            let class = &index.classes[usize::from(index.class_of[row as usize])];
            let f = model(&events, index.subjects[row as usize][0], purpose);
            let consent = if class.basis == "consent" || class.special { f.consent } else { true };
            consent && !f.objected && !f.restricted && !f.erased && class.delete_after.is_none_or(|d| d >= TODAY)
        };
        let asked: Vec<u32> = match &candidates {
            Some(set) => set.iter().collect(),
            None => (0..index.len()).collect(),
        };
        let want: Vec<u32> = asked.iter().copied().filter(|row| rule(*row)).collect();

        let request = Request { purpose: PURPOSES[usize::from(purpose)].into(), ..request() };
        let got = world.engine.authorize(&request, &facts(), &index, candidates.as_ref(), &world.consent, &world.log);
        match got {
            Ok(authorized) => {
                prop_assert_eq!(scope_rows(&authorized.permit), want.clone());
                let subjects: BTreeSet<Subject> = want.iter().map(|r| index.subjects[*r as usize]).collect();
                prop_assert_eq!(authorized.permit.subjects(), subjects.len() as u64);
            }
            Err(PolicyError::Denied { .. }) => prop_assert!(want.is_empty()),
            Err(other) => prop_assert!(false, "{}", other),
        }
        with_question(&world, &request, &index, |question| {
            for row in &asked {
                assert_eq!(question.single(*row).unwrap().allow, rule(*row), "row {row}");
            }
        });
    }
}

fn with_question<T>(
    world: &World,
    request: &Request,
    index: &RowIndex,
    then: impl FnOnce(&Question<'_>) -> T,
) -> T {
    let asker = Asker::new(
        world.engine.bundle(),
        "run",
        "node",
        "hash",
        "object",
        &facts(),
    )
    .unwrap();
    let context = use_context(&request.purpose, &request.columns, request.round, TODAY).unwrap();
    let view = world.consent.view().unwrap();
    then(&Question {
        asker: &asker,
        action: "train",
        context: &context,
        purpose: &request.purpose,
        object: request.object,
        index,
        candidates: None,
        consent: &view,
    })
}

#[test]
fn a_bulk_decision_that_differs_from_the_single_one_denies_all() {
    let world = World::new();
    world.consent.object(subject(0), None).unwrap();
    let index = rows(class("contract", None), 200);
    with_question(&world, &request(), &index, |question| {
        let right: RowSet = (2..200).collect();
        question.recheck(&right, 200).unwrap();
        for wrong in [(1..200).collect::<RowSet>(), (3..200).collect()] {
            let result = question.recheck(&wrong, 200);
            assert!(
                matches!(result, Err(PolicyError::Divergence { row: 1 | 2, .. })),
                "{result:?}"
            );
        }
    });
}
