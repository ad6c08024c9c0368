//! `AddPermission` and `RemovePermission`: statements of a queue's policy by their labels.
//!
//! A policy is kept and told of, and decides nothing; see [`policy`](super::policy).

use millstream_broker::{Action, QueueSettings};
use serde_json::{Value, json};

use super::names;
use super::policy::{self, STATEMENTS_MAX};
use super::settings::{self, POLICY};
use crate::error::{AwsError, Kind};
use crate::params::Params;
use crate::server::Cx;

/// Actions that can be given to others.
const ACTIONS: &[&str] = &[
    "*",
    "ChangeMessageVisibility",
    "DeleteMessage",
    "GetQueueAttributes",
    "GetQueueUrl",
    "ListDeadLetterSourceQueues",
    "PurgeQueue",
    "ReceiveMessage",
    "SendMessage",
];
/// Actions of one statement.
const ACTIONS_MAX: usize = 7;
/// Characters of a label.
const LABEL_CHARS_MAX: usize = 80;

fn label(p: Params<'_>) -> Result<&str, AwsError> {
    let label = p.needed("Label")?;
    let legal = label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    if legal && label.len() <= LABEL_CHARS_MAX {
        return Ok(label);
    }
    Err(AwsError::value("Label", label, "1 to 80 alphanumeric characters, hyphens and underscores."))
}

/// The policy of a queue with its list of statements.
fn policy_of(settings: &QueueSettings, arn: &str) -> Value {
    let kept = settings.more.get(POLICY).and_then(|p| serde_json::from_str::<Value>(p).ok());
    let mut policy = kept.filter(Value::is_object).unwrap_or_else(
        || json!({"Version": "2012-10-17", "Id": format!("{arn}/SQSDefaultPolicy"), "Statement": []}),
    );
    // One statement may stand without a list.
    if let Some(statement) = policy.get_mut("Statement").filter(|s| !s.is_array()) {
        *statement = json!([statement.take()]);
    }
    policy
}

pub(crate) async fn add(cx: &Cx<'_>, p: Params<'_>) -> Result<(), AwsError> {
    let def = cx.queue(p, Action::Configure)?;
    let label = label(p)?;
    let accounts = p.texts("AWSAccountIds", "AWSAccountId")?;
    let actions = p.texts("Actions", "ActionName")?;
    if accounts.is_empty() {
        return Err(AwsError::missing("AWSAccountIds"));
    }
    if actions.is_empty() {
        return Err(AwsError::missing("Actions"));
    }
    if let Some(id) = accounts.iter().find(|id| id.len() != 12 || !id.bytes().all(|b| b.is_ascii_digit())) {
        return Err(AwsError::value("PrincipalId", id, "Unable to verify: an account has 12 digits."));
    }
    if let Some(a) = actions.iter().find(|a| !ACTIONS.contains(a)) {
        let reason = format!(
            "Only the queue owner is allowed to invoke this action, or there is none of the name. Others: {}.",
            ACTIONS.join(", ")
        );
        return Err(AwsError::value("ActionName", a, &reason));
    }
    if actions.len() > ACTIONS_MAX {
        let text = format!("{} actions were specified; at most {ACTIONS_MAX} are allowed.", actions.len());
        return Err(AwsError::new(Kind::OverLimit, text));
    }
    let arn = names::arn(&cx.server.cfg, &def.name);
    let principals: Vec<String> = accounts.iter().map(|id| format!("arn:aws:iam::{id}:root")).collect();
    let allowed: Vec<String> = actions.iter().map(|a| format!("SQS:{a}")).collect();
    let change = |_: &_, _: &mut _, settings: &mut QueueSettings| {
        let mut policy = policy_of(settings, &arn);
        let statements = policy.get_mut("Statement").and_then(Value::as_array_mut);
        let statements =
            statements.ok_or_else(|| AwsError::invalid("The queue's policy has no list of statements."))?;
        if statements.iter().any(|s| s.get("Sid").and_then(Value::as_str) == Some(label)) {
            return Err(AwsError::value("Label", label, "Already exists."));
        }
        if statements.len() >= STATEMENTS_MAX {
            let text = format!("A policy has at most {STATEMENTS_MAX} statements.");
            return Err(AwsError::new(Kind::OverLimit, text));
        }
        statements.push(json!({
            "Sid": label, "Effect": "Allow", "Principal": {"AWS": principals}, "Action": allowed, "Resource": arn,
        }));
        let policy = policy.to_string();
        policy::check(&policy)?;
        settings::keep(settings, POLICY, Some(policy));
        Ok(())
    };
    cx.session.update_queue(def.id, change).await??;
    Ok(())
}

pub(crate) async fn remove(cx: &Cx<'_>, p: Params<'_>) -> Result<(), AwsError> {
    let def = cx.queue(p, Action::Configure)?;
    let label = label(p)?;
    let arn = names::arn(&cx.server.cfg, &def.name);
    let change = |_: &_, _: &mut _, settings: &mut QueueSettings| {
        let mut policy = policy_of(settings, &arn);
        let missing = || AwsError::value("Label", label, "can't find label on existing policy.");
        let statements = policy.get_mut("Statement").and_then(Value::as_array_mut).ok_or_else(missing)?;
        let before = statements.len();
        statements.retain(|s| s.get("Sid").and_then(Value::as_str) != Some(label));
        if statements.len() == before {
            return Err(missing());
        }
        let empty = statements.is_empty();
        settings::keep(settings, POLICY, (!empty).then(|| policy.to_string()));
        Ok(())
    };
    cx.session.update_queue(def.id, change).await??;
    Ok(())
}
