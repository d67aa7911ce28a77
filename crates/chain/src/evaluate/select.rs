//! R0: exactly one policy decides.

use std::sync::Arc;

use crate::{
    control::Control,
    policy::Policy,
    reason::{Code, Reason},
    verdict::PolicyView,
};

use super::{Decides, world::World};

/// The policy of the highest priority that matches.
pub fn select(control: &Control, resource: &str, environment: Option<&str>) -> Result<Decides, Box<Reason>> {
    let mut matching: Vec<Decides> = Vec::new();
    for (name, active) in &control.policies {
        let policy = active.policy.as_ref().map_err(|error| {
            let message = format!("policy `{name}` revision {} cannot be read: {error}", active.revision);
            Reason::error(Code::PolInvalid, name, "", message)
        })?;
        if policy.matches(resource, environment) {
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
        return Ok(decides);
    }
    let names: Vec<String> = matching.into_iter().map(|d| d.view.name).collect();
    let message = format!("policies {} all select {resource} with priority {highest}", names.join(", "));
    Err(Box::new(
        Reason::error(Code::PolAmbiguous, resource, "match.priority", message).because("one policy", names),
    ))
}

/// `POL_EXPIRED`; the evaluation goes on, so that all reasons are shown.
pub fn expired(policy: &Policy, world: &World<'_>) -> Option<Reason> {
    let expires = policy.expires().filter(|expires| *expires <= world.now)?;
    let message = format!("policy `{}` expired at {expires}", policy.name());
    let reason = Reason::error(Code::PolExpired, policy.name(), "metadata.expires", message);
    Some(reason.because(format!("after {}", world.now), expires.to_string()))
}
