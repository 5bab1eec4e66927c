//! Requests in Cedar's words. The only file, beside the bundle's, that knows Cedar's types.

use std::collections::{BTreeSet, HashMap, HashSet};

use cedar_policy::{
    AuthorizationError, Authorizer, Context, Decision, Entities, Entity, EntityId, EntityTypeName,
    EntityUid, Request, RestrictedExpression,
};

use crate::bundle::{Bundle, DEFAULT_DENY};
use crate::consent::Flags;
use crate::error::PolicyError;
use crate::rows::{Class, DatasetFacts};

/// Id of the engine's own refusal of erased people.
pub(crate) const ERASED: &str = "engine.erased";

/// What the policies said about one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub allow: bool,
    /// Ids of the policies that decided; of those that failed when any did.
    pub policies: BTreeSet<String>,
    /// Policies that could not be evaluated. One is enough to deny: Cedar itself skips it, and skipping a forbid
    /// would allow what it forbids.
    pub errors: Vec<String>,
}

/// The facts of one update as policies see them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Measured {
    pub dp: String,
    pub epsilon_micro_total: u64,
    pub failed: Vec<String>,
    pub operator_min_rows: u64,
    pub purpose: String,
    pub reserved: bool,
    pub round: u64,
    pub rows: u64,
    pub secure_aggregation: bool,
    pub subjects: u64,
    pub weight: u64,
}

impl Measured {
    pub(crate) fn context(&self) -> Result<Context, PolicyError> {
        context([
            ("dp", text(&self.dp)),
            (
                "epsilon_micro_total",
                long("epsilon_micro_total", self.epsilon_micro_total)?,
            ),
            ("failed", texts(&self.failed)),
            (
                "operator_min_rows",
                long("min_rows", self.operator_min_rows)?,
            ),
            ("purpose", text(&self.purpose)),
            ("reserved", truth(self.reserved)),
            ("round", long("round", self.round)?),
            ("rows", long("rows", self.rows)?),
            ("secure_aggregation", truth(self.secure_aggregation)),
            ("subjects", long("subjects", self.subjects)?),
            ("weight", long("weight", self.weight)?),
        ])
    }
}

/// A bundle with the entities that one request does not change.
pub(crate) struct Asker<'b> {
    bundle: &'b Bundle,
    authorizer: Authorizer,
    run: Entity,
    dataset: Entity,
}

type Attrs = HashMap<String, RestrictedExpression>;

impl<'b> Asker<'b> {
    pub(crate) fn new(
        bundle: &'b Bundle,
        run: &str,
        node: &str,
        app_hash: &str,
        object: &str,
        facts: &DatasetFacts,
    ) -> Result<Self, PolicyError> {
        let run = entity(
            bundle,
            uid("Run", run)?,
            attrs([("app_hash", text(app_hash)), ("node", text(node))]),
            HashSet::new(),
        )?;
        let dataset = entity(
            bundle,
            uid("Dataset", object)?,
            attrs([
                ("approved_columns", texts(&facts.approved_columns)),
                (
                    "budget_micro_epsilon",
                    long("budget_micro_epsilon", facts.budget_micro_epsilon)?,
                ),
                ("columns", texts(&facts.columns)),
                ("controller", text(&facts.controller)),
                ("min_rows", long("min_rows", facts.min_rows)?),
                ("min_subjects", long("min_subjects", facts.min_subjects)?),
                ("purposes", texts(&facts.purposes)),
                ("require_dp", truth(facts.require_dp)),
                (
                    "require_secure_aggregation",
                    truth(facts.require_secure_aggregation),
                ),
            ]),
            HashSet::new(),
        )?;
        Ok(Self {
            bundle,
            authorizer: Authorizer::new(),
            run,
            dataset,
        })
    }

    /// A question about the dataset as a whole.
    pub(crate) fn dataset(&self, action: &str, context: &Context) -> Result<Verdict, PolicyError> {
        self.ask(
            action,
            self.dataset.uid(),
            context,
            [self.run.clone(), self.dataset.clone()],
        )
    }

    /// A question about rows of one class whose subjects have these flags. The entity has one id for all of them, so
    /// that no policy can tell two rows with the same class and flags apart.
    pub(crate) fn rows(
        &self,
        action: &str,
        context: &Context,
        class: &Class,
        flags: Flags,
    ) -> Result<Verdict, PolicyError> {
        let mut about = attrs([
            ("basis", text(&class.basis)),
            ("consent", truth(flags.consent)),
            (
                "dataset",
                RestrictedExpression::new_entity_uid(self.dataset.uid()),
            ),
            ("erased", truth(flags.erased)),
            ("objected", truth(flags.objected)),
            ("restricted", truth(flags.restricted)),
            ("special", truth(class.special)),
        ]);
        if let Some(day) = class.delete_after {
            about.insert(
                "delete_after".into(),
                RestrictedExpression::new_long(i64::from(day)),
            );
        }
        let erased = flags.erased;
        let rows = uid("Rows", "of one class")?;
        let entity = entity(
            self.bundle,
            rows.clone(),
            about,
            HashSet::from([self.dataset.uid()]),
        )?;
        let mut verdict = self.ask(
            action,
            rows,
            context,
            [self.run.clone(), self.dataset.clone(), entity],
        )?;
        // Erasure is final, whatever a bundle says.
        if erased && verdict.allow {
            verdict.allow = false;
            verdict.policies = BTreeSet::from([ERASED.to_owned()]);
        }
        Ok(verdict)
    }

    /// A question about an update, or about counts alone.
    pub(crate) fn update(
        &self,
        action: &str,
        id: &str,
        context: &Context,
    ) -> Result<Verdict, PolicyError> {
        let update = uid("ModelUpdate", id)?;
        let about = attrs([(
            "dataset",
            RestrictedExpression::new_entity_uid(self.dataset.uid()),
        )]);
        let entity = entity(
            self.bundle,
            update.clone(),
            about,
            HashSet::from([self.dataset.uid()]),
        )?;
        self.ask(
            action,
            update,
            context,
            [self.run.clone(), self.dataset.clone(), entity],
        )
    }

    fn ask(
        &self,
        action: &str,
        resource: EntityUid,
        context: &Context,
        entities: impl IntoIterator<Item = Entity>,
    ) -> Result<Verdict, PolicyError> {
        let misfit = |what: &str, e: &dyn std::fmt::Display| misfit(self.bundle, what, e);
        let schema = Some(&self.bundle.schema);
        let entities =
            Entities::from_entities(entities, schema).map_err(|e| misfit("entities", &e))?;
        let request = Request::new(
            self.run.uid(),
            uid("Action", action)?,
            resource,
            context.clone(),
            schema,
        )
        .map_err(|e| misfit("a request", &e))?;
        let response = self
            .authorizer
            .is_authorized(&request, &self.bundle.set, &entities);
        let diagnostics = response.diagnostics();
        let mut failed = BTreeSet::new();
        let mut errors = Vec::new();
        for error in diagnostics.errors() {
            let AuthorizationError::PolicyEvaluationError(inner) = error;
            failed.insert(inner.policy_id().to_string());
            errors.push(error.to_string());
        }
        let mut policies: BTreeSet<String> =
            diagnostics.reason().map(ToString::to_string).collect();
        let permitted = response.decision() == Decision::Allow;
        if !errors.is_empty() {
            // Permits that matched did not decide when something else failed; forbids that matched did.
            if permitted {
                policies.clear();
            }
            policies.extend(failed);
        } else if !permitted && policies.is_empty() {
            policies.insert(DEFAULT_DENY.into());
        }
        Ok(Verdict {
            allow: permitted && errors.is_empty(),
            policies,
            errors,
        })
    }
}

/// The context of a use of data.
pub(crate) fn use_context(
    purpose: &str,
    columns: &[String],
    round: u64,
    today: u32,
) -> Result<Context, PolicyError> {
    context([
        ("columns", texts(columns)),
        ("purpose", text(purpose)),
        ("round", long("round", round)?),
        ("today", RestrictedExpression::new_long(i64::from(today))),
    ])
}

fn context<const N: usize>(
    pairs: [(&str, RestrictedExpression); N],
) -> Result<Context, PolicyError> {
    Context::from_pairs(pairs.map(|(k, v)| (k.to_owned(), v)))
        .map_err(|e| PolicyError::bad(format!("the request has no meaning in policies: {e}")))
}

fn text(value: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(value.to_owned())
}

fn texts<'t>(values: impl IntoIterator<Item = &'t String>) -> RestrictedExpression {
    RestrictedExpression::new_set(values.into_iter().map(|v| text(v)))
}

fn truth(value: bool) -> RestrictedExpression {
    RestrictedExpression::new_bool(value)
}

/// Cedar counts in i64; a bigger number is refused, as clamping it would change a comparison.
fn long(name: &str, value: u64) -> Result<RestrictedExpression, PolicyError> {
    i64::try_from(value)
        .map(RestrictedExpression::new_long)
        .map_err(|_| PolicyError::bad(format!("{name} is {value}, at most 2^63-1 is possible")))
}

fn attrs<const N: usize>(pairs: [(&str, RestrictedExpression); N]) -> Attrs {
    pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()
}

fn uid(kind: &str, id: &str) -> Result<EntityUid, PolicyError> {
    let kind: EntityTypeName = kind
        .parse()
        .map_err(|e| PolicyError::bad(format!("entity type {kind}: {e}")))?;
    Ok(EntityUid::from_type_name_and_id(kind, EntityId::new(id)))
}

fn entity(
    bundle: &Bundle,
    uid: EntityUid,
    attrs: Attrs,
    parents: HashSet<EntityUid>,
) -> Result<Entity, PolicyError> {
    Entity::new(uid, attrs, parents).map_err(|e| misfit(bundle, "an entity", &e))
}

fn misfit(bundle: &Bundle, what: &str, e: &dyn std::fmt::Display) -> PolicyError {
    let reason =
        format!("its schema does not fit {what} of this engine: {e}; start from the core schema");
    PolicyError::InvalidBundle {
        bundle: bundle.name().to_owned(),
        reason,
    }
}
