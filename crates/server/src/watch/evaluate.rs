//! Evaluating many questions at one log position: those of a group share their round trips.

use std::sync::Arc;

use catenary_chain::{
    Control, Evidence, Gather, Question, Verdict, evaluate::evaluate_until, gather::ReadSet, gather::Want,
    verdict::LogView,
};
use catenary_evidence::digest::Sha256;
use catenary_store::{follow::Snapshot, watched::Watched};
use jiff::Timestamp;
use tokio::task::JoinSet;

use crate::{App, problem::Fault, verdict};

/// Questions that are gathered together: their evidence is in memory at once.
const GROUP: usize = 16;
/// Groups at a time.
const LANES: usize = 4;

/// A question's answer now.
pub struct Evaluated {
    /// The answer.
    pub verdict: Verdict,
    /// What it rests on.
    pub reads: ReadSet,
    /// When time alone may change it.
    pub ends: Option<Timestamp>,
}

/// Evaluates the rows, in order.
pub async fn all(app: &App, snapshot: &Arc<Snapshot>, rows: &[Watched]) -> Result<Vec<Evaluated>, Fault> {
    let mut questions = Vec::with_capacity(rows.len());
    for row in rows {
        let question = verdict::question(&row.image, row.environment.as_deref(), row.platform.as_deref())?;
        let context = serde_json::from_str(&row.context).map_err(|_| Fault::Internal)?;
        questions.push(verdict::in_context(question, context)?);
    }
    let controls = [snapshot.control.clone()];
    Ok(under(app, snapshot, &controls, questions).await?.into_iter().flatten().collect())
}

/// Evaluates the questions, in order: each once under every control state.
pub async fn under(
    app: &App,
    snapshot: &Arc<Snapshot>,
    controls: &[Arc<Control>],
    questions: Vec<Question>,
) -> Result<Vec<Vec<Evaluated>>, Fault> {
    let mut groups = questions.chunks(GROUP).map(<[Question]>::to_vec).enumerate();
    let mut lanes = JoinSet::new();
    let mut done: Vec<(usize, Vec<Vec<Evaluated>>)> = Vec::new();
    loop {
        while lanes.len() < LANES
            && let Some((at, questions)) = groups.next()
        {
            let (app, snapshot, controls) = (app.clone(), snapshot.clone(), controls.to_vec());
            lanes.spawn(
                async move { group(&app, &snapshot, &controls, &questions).await.map(|all| (at, all)) },
            );
        }
        let Some(ended) = lanes.join_next().await else { break };
        done.push(ended.map_err(|_| Fault::Internal)??);
    }
    done.sort_by_key(|(at, _)| *at);
    Ok(done.into_iter().flat_map(|(_, all)| all).collect())
}

/// Evaluates a group: together, unless what is wrong with the evidence of one could be told of another.
async fn group(
    app: &App,
    snapshot: &Snapshot,
    controls: &[Arc<Control>],
    questions: &[Question],
) -> Result<Vec<Vec<Evaluated>>, Fault> {
    let (all, whole) = together(app, snapshot, controls, questions).await?;
    if whole || questions.len() == 1 {
        return Ok(all);
    }
    let mut all = Vec::with_capacity(questions.len());
    for question in questions {
        all.extend(together(app, snapshot, controls, std::slice::from_ref(question)).await?.0);
    }
    Ok(all)
}

/// Gathers frontier by frontier for all of them, and evaluates each. `false`: some evidence is damaged or cut.
async fn together(
    app: &App,
    snapshot: &Snapshot,
    controls: &[Arc<Control>],
    questions: &[Question],
) -> Result<(Vec<Vec<Evaluated>>, bool), Fault> {
    let at = snapshot.prefix();
    let mut evidence = Evidence::default();
    let asked =
        || questions.iter().flat_map(|question| controls.iter().map(move |control| (question, control)));
    let mut gathers: Vec<Gather<'_>> =
        asked().map(|(question, control)| Gather::new(question, control)).collect();
    loop {
        let mut wanted: Option<Want> = None;
        for gather in &mut gathers {
            let Some(want) = gather.next(&evidence) else { continue };
            match &mut wanted {
                Some(all) => {
                    all.nodes.extend(want.nodes);
                    // Signers and identities are the control state's, the same for each question.
                    if controls.len() > 1 {
                        all.signers.extend(want.signers);
                        all.identities.extend(want.identities);
                    }
                }
                None => wanted = Some(want),
            }
        }
        let Some(mut want) = wanted else { break };
        want.nodes.sort();
        want.nodes.dedup();
        want.signers.sort();
        want.signers.dedup();
        app.backend.store.gather(&snapshot.tenant, &want, &at, &mut evidence).await?;
    }
    let log = LogView { size: snapshot.size, root: Sha256(snapshot.root.0) };
    let now = Timestamp::now();
    let mut evaluated = asked().zip(gathers).map(|((question, control), gather)| {
        let (verdict, ends) = evaluate_until(question, control, &evidence, log, now);
        Evaluated { verdict, reads: gather.read_set(), ends }
    });
    let all = questions.iter().map(|_| evaluated.by_ref().take(controls.len()).collect()).collect();
    Ok((all, evidence.damaged.is_empty() && evidence.truncated.is_empty()))
}
