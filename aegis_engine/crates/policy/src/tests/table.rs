//! Every core policy allows and denies in this table, and none of them can be dropped without a change in it.

use crate::cedar::{Asker, Measured, Verdict, use_context};
use crate::{Bundle, Class, DatasetFacts, Flags, PolicyError};

use super::{TODAY, class, facts};

enum Case {
    Dataset {
        purpose: &'static str,
        columns: &'static [&'static str],
    },
    Rows(Class, Flags),
    Update(Box<(DatasetFacts, Measured)>),
    Counts(Box<(DatasetFacts, Measured)>),
}
use Case::{Counts, Dataset, Rows, Update};

fn good_flags() -> Flags {
    Flags {
        consent: true,
        ..Flags::default()
    }
}

fn good_update() -> Measured {
    Measured {
        dp: "secure".into(),
        epsilon_micro_total: 8_000_000,
        operator_min_rows: 5,
        purpose: "research".into(),
        reserved: true,
        rows: 5,
        secure_aggregation: true,
        subjects: 2,
        weight: 1,
        ..Measured::default()
    }
}

/// What is asked, and the only policy that denies it (or that allows it, for `true`).
#[expect(clippy::too_many_lines, reason = "a table, one line a case")]
fn table() -> Vec<(Case, bool, &'static str)> {
    let flags = |change: &dyn Fn(&mut Flags)| {
        let mut flags = good_flags();
        change(&mut flags);
        flags
    };
    let update = |change: &dyn Fn(&mut DatasetFacts, &mut Measured)| {
        let (mut facts, mut measured) = (facts(), good_update());
        change(&mut facts, &mut measured);
        Update(Box::new((facts, measured)))
    };
    let consent = || class("consent", None);
    vec![
        (
            Dataset {
                purpose: "research",
                columns: &["age", "pulse"],
            },
            true,
            "core.permit.use",
        ),
        (
            Dataset {
                purpose: "care",
                columns: &["age"],
            },
            true,
            "core.permit.use",
        ),
        (
            Dataset {
                purpose: "marketing",
                columns: &["age"],
            },
            false,
            "core.purpose",
        ),
        (
            Dataset {
                purpose: "Research",
                columns: &["age"],
            },
            false,
            "core.purpose",
        ),
        (
            Dataset {
                purpose: "research",
                columns: &["age", "name"],
            },
            false,
            "core.columns",
        ),
        (Rows(consent(), good_flags()), true, "core.permit.use"),
        (Rows(consent(), Flags::default()), false, "core.consent"),
        (
            Rows(class("contract", None), Flags::default()),
            true,
            "core.permit.use",
        ),
        (
            Rows(consent(), flags(&|f| f.objected = true)),
            false,
            "core.objection",
        ),
        (
            Rows(class("public_task", None), flags(&|f| f.objected = true)),
            false,
            "core.objection",
        ),
        (
            Rows(consent(), flags(&|f| f.restricted = true)),
            false,
            "core.restriction",
        ),
        (
            Rows(class("vital_interests", None), flags(&|f| f.erased = true)),
            false,
            "core.erased",
        ),
        (
            Rows(class("consent", Some(TODAY)), good_flags()),
            true,
            "core.permit.use",
        ),
        (
            Rows(class("consent", Some(TODAY - 1)), good_flags()),
            false,
            "core.retention",
        ),
        (update(&|_, _| ()), true, "core.permit.release"),
        (
            Counts(Box::new((
                DatasetFacts {
                    require_dp: true,
                    ..facts()
                },
                Measured {
                    dp: "off".into(),
                    reserved: false,
                    epsilon_micro_total: 0,
                    ..good_update()
                },
            ))),
            true,
            "core.permit.release",
        ),
        (
            update(&|_, m| m.dp = "off".into()),
            false,
            "core.release.dp",
        ),
        (
            update(&|_, m| m.dp = "insecure_test".into()),
            false,
            "core.release.dp",
        ),
        (
            update(&|f, _| f.require_dp = false),
            true,
            "core.permit.release",
        ),
        (
            update(&|f, m| (f.require_dp, m.dp, m.reserved) = (false, "off".into(), false)),
            true,
            "core.permit.release",
        ),
        (
            update(&|f, m| (f.require_dp, m.dp) = (false, "insecure_test".into())),
            true,
            "core.permit.release",
        ),
        (
            update(&|_, m| m.epsilon_micro_total += 1),
            false,
            "core.release.budget",
        ),
        (
            update(&|_, m| m.reserved = false),
            false,
            "core.release.budget",
        ),
        (
            update(&|f, _| f.min_rows = 6),
            false,
            "core.release.minimum",
        ),
        (
            update(&|_, m| m.operator_min_rows = 6),
            false,
            "core.release.minimum",
        ),
        (
            update(&|_, m| m.subjects = 1),
            false,
            "core.release.minimum",
        ),
        (
            update(&|_, m| m.failed = vec!["finite".into()]),
            false,
            "core.release.gates",
        ),
        (
            update(&|_, m| m.secure_aggregation = false),
            false,
            "core.release.secure_aggregation",
        ),
        (
            update(&|f, m| (f.require_secure_aggregation, m.secure_aggregation) = (false, false)),
            true,
            "core.permit.release",
        ),
    ]
}

fn verdict(bundle: &Bundle, case: &Case, action: &str) -> Result<Verdict, PolicyError> {
    let facts = if let Update(update) | Counts(update) = case {
        update.0.clone()
    } else {
        facts()
    };
    let asker = Asker::new(bundle, "run", "node", "hash", "object", &facts)?;
    match case {
        Dataset { purpose, columns } => {
            let columns: Vec<String> = columns.iter().map(|c| (*c).to_owned()).collect();
            asker.dataset(action, &use_context(purpose, &columns, 1, TODAY)?)
        }
        Rows(class, flags) => asker.rows(
            action,
            &use_context("research", &["age".into()], 1, TODAY)?,
            class,
            *flags,
        ),
        Update(update) => asker.update("release_update", "update", &update.1.context()?),
        Counts(counts) => asker.update("release_counts", "counts", &counts.1.context()?),
    }
}

fn decisions(bundle: &Bundle) -> Vec<bool> {
    table()
        .iter()
        .map(|(case, ..)| verdict(bundle, case, "train").unwrap().allow)
        .collect()
}

#[test]
fn each_case_is_decided_by_its_policy_alone_for_every_use() {
    let bundle = Bundle::core();
    for action in ["read", "train", "evaluate", "export"] {
        for (at, (case, allow, id)) in table().iter().enumerate() {
            let verdict = verdict(&bundle, case, action).unwrap();
            assert_eq!(
                (verdict.allow, verdict.policies),
                (*allow, [(*id).to_owned()].into()),
                "case {at} {action}"
            );
            assert!(verdict.errors.is_empty());
        }
    }
}

#[test]
fn every_policy_decides_a_case_and_every_forbid_lets_one_pass() {
    let table = table();
    let deciding: std::collections::BTreeSet<String> =
        table.iter().map(|(.., id)| (*id).to_owned()).collect();
    assert_eq!(deciding, Bundle::core().ids());
    assert_eq!(deciding.len(), 14);
    for kind in [
        |c: &Case| matches!(c, Dataset { .. }),
        |c: &Case| matches!(c, Rows(..)),
        |c: &Case| matches!(c, Update(..)),
    ] {
        assert!(table.iter().any(|(case, allow, _)| kind(case) && *allow));
    }
}

#[test]
fn dropping_any_policy_changes_a_decision() {
    let core = Bundle::core();
    let whole = decisions(&core);
    for id in core.ids() {
        let rest: Vec<String> = core
            .set
            .policies()
            .filter(|p| p.id().to_string() != id)
            .map(ToString::to_string)
            .collect();
        let bundle =
            Bundle::parse("mutant", core.schema(), &[("rest.cedar", &rest.join("\n"))]).unwrap();
        assert_eq!(bundle.ids().len(), core.ids().len() - 1);
        if id == "core.erased" {
            // No bundle can let the erased in: without the policy the engine itself says no.
            let erased = Rows(
                class("vital_interests", None),
                Flags {
                    erased: true,
                    ..Flags::default()
                },
            );
            let verdict = verdict(&bundle, &erased, "train").unwrap();
            assert_eq!(
                (verdict.allow, verdict.policies),
                (false, ["engine.erased".to_owned()].into())
            );
            continue;
        }
        assert_ne!(decisions(&bundle), whole, "nobody misses {id}");
    }
}

#[test]
fn nothing_is_allowed_without_policies() {
    let empty = Bundle::parse("empty", Bundle::core().schema(), &[]).unwrap();
    for (case, ..) in table() {
        let verdict = verdict(&empty, &case, "train").unwrap();
        assert_eq!(
            (verdict.allow, verdict.policies),
            (false, ["core.default_deny".to_owned()].into())
        );
    }
}
