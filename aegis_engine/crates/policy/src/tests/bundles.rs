//! Bundles: what is refused, and that a failing policy denies.

use std::fs;

use super::*;

fn parse(policies: &str) -> Result<Bundle, PolicyError> {
    Bundle::parse("t", Bundle::core().schema(), &[("a.cedar", policies)])
}

fn reason(result: Result<Bundle, PolicyError>) -> String {
    match result.unwrap_err() {
        PolicyError::InvalidBundle { reason, .. } => reason,
        other => panic!("{other}"),
    }
}

/// The core policies and this one.
fn core_and(policy: &str) -> Bundle {
    let core = Bundle::core();
    Bundle::parse(
        "more",
        core.schema(),
        &[("core.cedar", core.policies()), ("more.cedar", policy)],
    )
    .unwrap()
}

#[test]
fn a_policy_without_id_or_advice_is_refused_by_name() {
    assert!(reason(parse("permit(principal, action, resource);")).contains("no @id"));
    let no_advice = reason(parse("@id(\"a.b\") permit(principal, action, resource);"));
    assert!(
        no_advice.contains("a.b") && no_advice.contains("a.cedar"),
        "{no_advice}"
    );
    assert!(
        reason(parse(
            "@id(\"A b\")@advice(\"x\") permit(principal, action, resource);"
        ))
        .contains("A b")
    );
    assert!(
        reason(parse(
            "@id(\"core.default_deny\")@advice(\"x\") permit(principal, action, resource);"
        ))
        .contains("not")
    );
    let one = "@id(\"a\")@advice(\"x\") permit(principal, action, resource);";
    assert!(reason(parse(&format!("{one}{one}"))).contains("twice"));
    let template = "@id(\"a\")@advice(\"x\") permit(principal == ?principal, action, resource);";
    assert!(reason(parse(template)).contains("template"));
}

#[test]
fn a_policy_that_does_not_validate_is_refused_by_name() {
    let typo = "@id(\"my.typo\")@advice(\"x\") forbid(principal, action in Action::\"use\", resource is Dataset) \
                when { resource.purpose == \"x\" };";
    assert!(reason(parse(typo)).contains("my.typo"));
    assert!(reason(parse("this is not cedar")).contains("a.cedar"));
    assert!(reason(Bundle::parse("t", "entity {", &[])).contains("schema.cedarschema"));
}

#[test]
fn load_reads_a_folder_in_the_order_of_names_and_the_hash_covers_every_byte() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    assert!(reason(Bundle::load(dir.path())).contains("schema.cedarschema"));
    let core = Bundle::core();
    write("schema.cedarschema", core.schema());
    write("core.cedar", include_str!("../../policies/core/core.cedar"));
    write(
        "gates.cedar",
        include_str!("../../policies/core/gates.cedar"),
    );
    write("README.md", "not a policy");
    let loaded = Bundle::load(dir.path()).unwrap();
    assert_eq!(loaded.hash(), core.hash());
    assert_eq!(loaded.ids(), core.ids());
    write("z.cedar", "// a comment");
    assert_ne!(Bundle::load(dir.path()).unwrap().hash(), core.hash());
}

#[test]
fn a_bundle_whose_schema_lacks_the_engines_words_is_refused_by_the_engine() {
    let schema = Bundle::core().schema().replace(
        "columns: Set<String>, purpose: String, ",
        "purpose: String, ",
    );
    let policy = "@id(\"a\")@advice(\"x\") permit(principal, action, resource);";
    let bundle = Bundle::parse("t", &schema, &[("a.cedar", policy)]).unwrap();
    assert!(matches!(
        Engine::new(bundle),
        Err(PolicyError::InvalidBundle { .. })
    ));
}

/// Strict validation passes both: Cedar alone would skip the forbid and allow.
#[test]
fn a_policy_that_overflows_denies_everything_and_is_named() {
    let on_dataset = "@id(\"bad.dataset\")@advice(\"fix it\") forbid(principal, action in Action::\"use\", \
                      resource is Dataset) when { context.today * 9223372036854775807 > 10 };";
    let on_rows = "@id(\"bad.rows\")@advice(\"fix it\") forbid(principal, action in Action::\"use\", resource is Rows) \
                   when { resource has delete_after && resource.delete_after * 9223372036854775807 > 10 };";
    // Row 0 has a retention date and fails to evaluate; row 1 has none and does not.
    let index = RowIndex {
        classes: vec![class("contract", Some(TODAY)), class("contract", None)],
        class_of: vec![0, 1],
        subjects: vec![subject(0), subject(1)],
    };
    for (policy, id) in [(on_dataset, "bad.dataset"), (on_rows, "bad.rows")] {
        let world = World::with(core_and(policy));
        assert_eq!(denied_by(world.ask(&request(), &index)), [id]);
        let record = world.last_record();
        assert_eq!(record["decision"], "deny");
        assert!(
            record["errors"][0].as_str().unwrap().contains("overflow"),
            "{record}"
        );
        assert!(record.get("permit").is_none());
    }
}

#[test]
fn a_release_policy_that_overflows_denies() {
    let policy = "@id(\"bad.release\")@advice(\"fix it\") forbid(principal, action == Action::\"release_update\", \
                  resource) when { context.rows * 9223372036854775807 > 10 };";
    let world = World::with(core_and(policy));
    let permit = super::gates::permit(&world);
    let result = super::gates::Case::new(&permit).gate(&world, &permit);
    assert_eq!(denied_by(result), ["bad.release"]);
}

#[test]
fn a_vault_keeps_the_bundle_it_is_under_and_finds_it_again_by_its_hash() {
    let dir = tempfile::tempdir().unwrap();
    let core = Bundle::core();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    fs::create_dir(dir.path().join("own")).unwrap();
    write("own/schema.cedarschema", core.schema());
    write("own/all.cedar", core.policies());
    let own = Bundle::named(dir.path().join("own").to_str().unwrap()).unwrap();
    fs::create_dir(dir.path().join("vault")).unwrap();
    let kept = aegis_folder::Folder::open(&dir.path().join("vault")).unwrap();
    let kept = kept.place("policy");

    own.keep(&dir.path().join("own"), &kept).unwrap();
    let found = Bundle::pinned(own.hash(), &kept).unwrap().unwrap();
    assert_eq!(found.hash(), own.hash());
    let found = Bundle::pinned(core.hash(), &kept).unwrap().unwrap();
    assert_eq!(found.name(), "core");
    assert!(Bundle::pinned([7; 32], &kept).unwrap().is_none());

    // Files that changed after they were read are another bundle, and what a bundle no longer has is not kept.
    write("own/more.cedar", "");
    write("own/all.cedar", &format!("{}\n", core.policies()));
    let changed = own.keep(&dir.path().join("own"), &kept).unwrap_err();
    assert!(changed.to_string().contains("changed while it was copied"));
    fs::remove_file(dir.path().join("own/more.cedar")).unwrap();
    write("own/all.cedar", core.policies());
    own.keep(&dir.path().join("own"), &kept).unwrap();
    assert!(!kept.join("more.cedar").exists());
}
