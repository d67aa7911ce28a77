//! R0: exactly one policy decides.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    expr::{self, Bindings, OnError},
    policy::Policy,
    reason::{Code, Reason},
    verdict::PolicyView,
};

use super::{Decides, world::World};

/// The policy of the highest priority that matches.
///
/// One whose `match.when` has no answer counts as one that matches: if it would decide, nobody can.
pub fn select(world: &mut World<'_>, resource: &str) -> Result<Decides, Box<Reason>> {
    let (control, environment) = (world.control, world.environment);
    let mut matching: Vec<Decides> = Vec::new();
    let mut unsure: BTreeMap<String, Box<Reason>> = BTreeMap::new();
    for (name, active) in &control.policies {
        let policy = active.policy.as_ref().map_err(|error| {
            let message = format!("policy `{name}` revision {} cannot be read: {error}", active.revision);
            Reason::error(Code::PolInvalid, name, "", message)
        })?;
        if policy.matches(resource, environment) {
            match holds(world, name, policy) {
                Ok(false) => continue,
                Ok(true) => {}
                Err(reason) => {
                    unsure.insert(name.clone(), reason);
                }
            }
            let view = PolicyView { name: name.clone(), revision: active.revision, digest: active.digest };
            matching.push(Decides { policy: Arc::clone(policy), view });
        }
    }
    let Some(highest) = matching.iter().map(|d| d.policy.spec().selects.priority).max() else {
        let of = environment.map(|e| format!(" in environment {e}")).unwrap_or_default();
        let message = format!("no policy selects {resource}{of}");
        return Err(Box::new(Reason::error(Code::PolNoMatch, resource, "match.resources", message)));
    };
    matching.retain(|d| d.policy.spec().selects.priority == highest);
    #[cfg(feature = "faults")]
    if crate::faults::on(crate::faults::Fault::FirstOfEqualPolicies) {
        matching.truncate(1);
    }
    if matching.len() == 1
        && let Some(decides) = matching.pop()
    {
        return unsure.remove(&decides.view.name).map_or(Ok(decides), Err);
    }
    if let Some(reason) = matching.iter().find_map(|decides| unsure.remove(&decides.view.name)) {
        return Err(reason);
    }
    let names: Vec<String> = matching.into_iter().map(|d| d.view.name).collect();
    let message = format!("policies {} all select {resource} with priority {highest}", names.join(", "));
    Err(Box::new(
        Reason::error(Code::PolAmbiguous, resource, "match.priority", message).because("one policy", names),
    ))
}

/// Whether `match.when` holds.
fn holds(world: &mut World<'_>, name: &str, policy: &Policy) -> Result<bool, Box<Reason>> {
    let Some(when) = &policy.spec().selects.when else { return Ok(true) };
    let bindings = Bindings::default().with("ctx", expr::context(world.question));
    when.expr.evaluate(&bindings, &mut world.steps).map_err(|fault| {
        let code = match when.on_error {
            OnError::Indeterminate => Code::PolEvalError,
            OnError::Fail => Code::PolNoMatch,
        };
        let message = format!("whether policy `{name}` is for the question cannot be evaluated: {fault}");
        let reason = Reason::error(code, name, "match.when", message);
        Box::new(reason.because(when.expr.source(), fault.to_string()))
    })
}

/// `POL_EXPIRED`; the evaluation goes on, so that all reasons are shown.
pub fn expired(policy: &Policy, world: &World<'_>) -> Option<Reason> {
    let expires = policy.expires().filter(|expires| *expires <= world.now)?;
    let message = format!("policy `{}` expired at {expires}", policy.name());
    let reason = Reason::error(Code::PolExpired, policy.name(), "metadata.expires", message);
    Some(reason.because(format!("after {}", world.now), expires.to_string()))
}
