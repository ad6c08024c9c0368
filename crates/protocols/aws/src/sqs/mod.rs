//! The actions of SQS, one file per subject. Start at [`act`].

pub(crate) mod attempts;
mod attributes;
mod batch;
mod fifo;
mod handle;
pub(crate) mod mapping;
mod message_attributes;
mod names;
mod permissions;
mod policy;
mod queues;
mod receive;
mod redrive;
mod send;
mod settings;
mod settle;
mod tags;
mod tasks;

use crate::answer::Answer;
use crate::error::AwsError;
use crate::params::Params;
use crate::request::unknown;
use crate::server::Cx;

/// The actions there are, in order.
pub(crate) const ACTIONS: &[&str] = &[
    "AddPermission",
    "CancelMessageMoveTask",
    "ChangeMessageVisibility",
    "ChangeMessageVisibilityBatch",
    "CreateQueue",
    "DeleteMessage",
    "DeleteMessageBatch",
    "DeleteQueue",
    "GetQueueAttributes",
    "GetQueueUrl",
    "ListDeadLetterSourceQueues",
    "ListMessageMoveTasks",
    "ListQueueTags",
    "ListQueues",
    "PurgeQueue",
    "ReceiveMessage",
    "RemovePermission",
    "SendMessage",
    "SendMessageBatch",
    "SetQueueAttributes",
    "StartMessageMoveTask",
    "TagQueue",
    "UntagQueue",
];

/// Does what a request asks, and gives the members of the answer.
pub(crate) async fn act(cx: &Cx<'_>, action: &str, p: Params<'_>) -> Result<Answer, AwsError> {
    let mut a = Answer::new(cx.form);
    match action {
        "AddPermission" => permissions::add(cx, p).await?,
        "CancelMessageMoveTask" => tasks::cancel(cx, p, &mut a).await?,
        "ChangeMessageVisibility" => settle::change(cx, p).await?,
        "ChangeMessageVisibilityBatch" => settle::change_batch(cx, p, &mut a).await?,
        "CreateQueue" => queues::create(cx, p, &mut a).await?,
        "DeleteMessage" => settle::delete(cx, p).await?,
        "DeleteMessageBatch" => settle::delete_batch(cx, p, &mut a).await?,
        "DeleteQueue" => queues::delete(cx, p).await?,
        "GetQueueAttributes" => attributes::get(cx, p, &mut a).await?,
        "GetQueueUrl" => queues::url(cx, p, &mut a)?,
        "ListDeadLetterSourceQueues" => redrive::sources(cx, p, &mut a)?,
        "ListMessageMoveTasks" => tasks::list(cx, p, &mut a).await?,
        "ListQueueTags" => tags::list(cx, p, &mut a)?,
        "ListQueues" => queues::list(cx, p, &mut a)?,
        "PurgeQueue" => queues::purge(cx, p).await?,
        "ReceiveMessage" => receive::receive(cx, p, &mut a).await?,
        "RemovePermission" => permissions::remove(cx, p).await?,
        "SendMessage" => send::send(cx, p, &mut a).await?,
        "SendMessageBatch" => send::send_batch(cx, p, &mut a).await?,
        "SetQueueAttributes" => attributes::set(cx, p).await?,
        "StartMessageMoveTask" => tasks::start(cx, p, &mut a).await?,
        "TagQueue" => tags::tag(cx, p).await?,
        "UntagQueue" => tags::untag(cx, p).await?,
        other => return Err(unknown(other)),
    }
    Ok(a)
}

#[cfg(test)]
mod tests {
    use super::ACTIONS;

    #[test]
    fn every_action_that_is_listed_is_done_and_no_other() {
        let source = include_str!("mod.rs");
        let (_, arms) = source.split_once("match action {").unwrap();
        let (arms, _) = arms.split_once("other =>").unwrap();
        let done: Vec<&str> = arms.lines().filter_map(|l| l.split('"').nth(1)).collect();
        assert_eq!(done, ACTIONS);
    }
}
