//! Names of queues, and the ways in which SQS writes them: URLs and ARNs.
//!
//! A queue's URL ends in `/ACCOUNT/NAME`; a name that SQS cannot spell is percent-encoded in it. What stands before is not looked at: a
//! queue is the same by whatever host and account it is called.

use std::sync::Arc;

use millstream_broker::queue::api::QueueDef;
use millstream_broker::{Action, Resource};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::config::AwsConfig;
use crate::error::{AwsError, Kind, shown};
use crate::params::Params;
use crate::server::Cx;

const URL_ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// Characters of a queue's name.
const NAME_CHARS_MAX: usize = 80;
/// How the names of FIFO queues end.
pub(crate) const FIFO_SUFFIX: &str = ".fifo";

/// Whether SQS can spell a queue's name: 1 to 80 letters, digits, hyphens and underscores, perhaps with `.fifo` behind.
pub(crate) fn is_sqs_name(name: &str) -> bool {
    let stem = name.strip_suffix(FIFO_SUFFIX).unwrap_or(name);
    !stem.is_empty()
        && name.len() <= NAME_CHARS_MAX
        && stem.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

/// The name in a queue's URL, or in the path of one.
fn name_in_url(url: &str) -> Option<String> {
    let path = match url.split_once("://") {
        Some((_, rest)) => rest.split_once('/')?.1,
        None => url,
    };
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let last = path.trim_end_matches('/').rsplit('/').next()?;
    let name = percent_decode_str(last).decode_utf8().ok()?;
    (!name.is_empty()).then(|| name.into_owned())
}

pub(crate) fn arn(cfg: &AwsConfig, name: &str) -> String {
    format!("arn:aws:sqs:{}:{}:{name}", cfg.region, cfg.account)
}

/// The name in a queue's ARN, whatever its region and account.
pub(crate) fn name_in_arn(arn: &str) -> Option<&str> {
    let mut parts = arn.splitn(6, ':');
    let (arn, _, service) = (parts.next()?, parts.next()?, parts.next()?);
    let name = parts.nth(2)?;
    (arn == "arn" && service == "sqs" && !name.is_empty()).then_some(name)
}

impl Cx<'_> {
    /// The URL of a queue, by the host that the client called.
    pub(crate) fn url(&self, name: &str) -> String {
        let (host, account) = (self.host, &self.server.cfg.account);
        format!("http://{host}/{account}/{}", utf8_percent_encode(name, URL_ENCODED))
    }

    /// The queue that `QueueUrl` names, if whoever asks may do this to it.
    pub(crate) fn queue(&self, p: Params<'_>, action: Action) -> Result<Arc<QueueDef>, AwsError> {
        let url = p.needed("QueueUrl")?;
        let name = name_in_url(url).ok_or_else(|| {
            let text = format!("The address {} is not valid for this endpoint.", shown(url));
            AwsError::new(Kind::InvalidAddress, text)
        })?;
        self.named(&name, action)
    }

    /// The queue with this name, likewise. Those that belong to a connection are not there for anybody else.
    pub(crate) fn named(&self, name: &str, action: Action) -> Result<Arc<QueueDef>, AwsError> {
        self.may(name, action)?;
        let def = self.session.queue(name).filter(|def| !self.session.is_locked(def.id));
        def.ok_or_else(AwsError::no_queue)
    }

    /// Whether whoever asks may do this to a queue of that name.
    pub(crate) fn may(&self, name: &str, action: Action) -> Result<(), AwsError> {
        let what = Resource::Queue(self.session.namespace(), name.to_owned());
        if self.server.broker.authorized(&self.principal(), action, &what) {
            return Ok(());
        }
        let text = format!("Access to the resource {} is denied.", shown(&self.url(name)));
        Err(AwsError::new(Kind::AccessDenied, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_its_queue_by_the_end_of_its_path() {
        for url in [
            "http://127.0.0.1:4566/000000000000/orders",
            "https://sqs.eu-west-1.amazonaws.com/123456789012/orders",
            "/1/orders",
            "orders",
            "http://h/queue/orders/",
        ] {
            assert_eq!(name_in_url(url).as_deref(), Some("orders"), "{url}");
        }
        assert_eq!(name_in_url("http://h/1/a%2Fb%20c").as_deref(), Some("a/b c"));
        for url in ["", "http://host", "http://host/", "/", "http://h/1/%ff"] {
            assert_eq!(name_in_url(url), None, "{url}");
        }
    }

    #[test]
    fn an_arn_names_its_queue_and_names_may_hold_colons() {
        assert_eq!(name_in_arn("arn:aws:sqs:us-east-1:000000000000:a:b"), Some("a:b"));
        for wrong in
            ["", "a", "arn:aws:sns:us-east-1:0:a", "arn:aws:sqs:us-east-1:0:", "arn:aws:sqs:us-east-1"]
        {
            assert_eq!(name_in_arn(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_sqs_can_spell() {
        for good in ["a", "A-1_b", "a.fifo", &"x".repeat(80), &format!("{}.fifo", "x".repeat(75))] {
            assert!(is_sqs_name(good), "{good}");
        }
        for bad in ["", ".fifo", "a.b", "a b", "ü", &"x".repeat(81), &format!("{}.fifo", "x".repeat(76))] {
            assert!(!is_sqs_name(bad), "{bad}");
        }
    }
}
