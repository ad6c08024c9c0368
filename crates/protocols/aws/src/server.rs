//! What all requests share, and one request's way from its bytes to its answer.
//!
//! Start at [`Server::serve`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Body;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, ORIGIN};
use hyper::http::request::Parts;
use hyper::{Request, Response, StatusCode};
use millstream_broker::{Broker, Principal, Session};
use siphasher::sip128::{Hasher128, SipHasher24};
use tokio::sync::{Semaphore, watch};

use crate::answer::{Form, error_body};
use crate::config::AwsConfig;
use crate::error::{AwsError, Kind};
use crate::hex::uuid;
use crate::recent::Recent;
use crate::request::{Call, form_of};
use crate::signature;
use crate::sqs;
use crate::sqs::attempts::Attempts;

/// Bodies up to so many bytes are not counted against [`AwsConfig::bodies_bytes_max`].
const SMALL_BODY_BYTES: usize = 64 << 10;
/// The name of the service in signatures.
const SERVICE: &str = "sqs";

/// What all requests share.
pub(crate) struct Server {
    pub(crate) broker: Broker,
    pub(crate) cfg: AwsConfig,
    /// Under which receipt handles are made.
    pub(crate) handle_key: [u8; 16],
    /// Under which deduplication ids are hashed that are each group's own.
    pub(crate) id_key: [u8; 16],
    pub(crate) deleted: Recent,
    pub(crate) purged: Recent,
    pub(crate) attempts: Attempts,
    pub(crate) stopped: watch::Receiver<bool>,
    /// In units of [`SMALL_BODY_BYTES`].
    bodies: Semaphore,
    request_key: [u8; 16],
    requests: AtomicU64,
}

/// One connection.
pub(crate) struct Peer {
    pub(crate) session: Arc<Session>,
    pub(crate) local: SocketAddr,
}

/// One request, as its action sees it.
pub(crate) struct Cx<'a> {
    pub(crate) server: &'a Server,
    pub(crate) session: &'a Arc<Session>,
    /// Host and port that the client called.
    pub(crate) host: &'a str,
    /// Who signed it; `None`: nobody is asked to.
    pub(crate) signer: Option<&'a str>,
    pub(crate) form: Form,
}

impl Server {
    pub(crate) fn new(broker: Broker, cfg: AwsConfig, stopped: watch::Receiver<bool>) -> Self {
        let cooldown_ms = u64::try_from(cfg.cooldown.as_millis()).unwrap_or(u64::MAX);
        Self {
            handle_key: broker.derived_key("aws receipt handle"),
            id_key: broker.derived_key("aws deduplication id by group"),
            request_key: broker.derived_key("aws request id"),
            deleted: Recent::new(cooldown_ms),
            purged: Recent::new(cooldown_ms),
            attempts: Attempts::default(),
            bodies: Semaphore::new(cfg.bodies_bytes_max / SMALL_BODY_BYTES),
            requests: AtomicU64::new(0),
            broker,
            cfg,
            stopped,
        }
    }

    /// Answers one request. Dropped when the client goes away.
    pub(crate) async fn serve<B>(&self, peer: &Peer, request: Request<B>) -> Response<Full<Bytes>>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let id = uuid(self.unique());
        let (parts, body) = request.into_parts();
        let form = form_of(&parts);
        let mut action = String::new();
        let answer = self.answer(peer, &parts, body, (form, &id), &mut action).await;
        self.cfg.stats.answered(&action, answer.as_ref().map(drop).map_err(|e| e.kind));
        let (status, query_error, text) = match answer {
            Ok(text) => (200, None, text),
            Err(e) => {
                let who = if e.kind.is_sender() { "Sender" } else { "Receiver" };
                (e.kind.status(), Some(format!("{};{who}", e.kind.code())), error_body(form, &e, &id))
            }
        };
        let mut response = Response::new(Full::new(Bytes::from(text)));
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        let kind = match form {
            Form::Json => "application/x-amz-json-1.0",
            Form::Query => "text/xml",
        };
        headers.insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
        if let Ok(id) = id.parse() {
            headers.insert("x-amzn-requestid", id);
        }
        if form == Form::Json
            && let Some(Ok(error)) = query_error.map(|e| e.parse())
        {
            headers.insert("x-amzn-query-error", error);
        }
        response
    }

    async fn answer<B>(
        &self,
        peer: &Peer,
        parts: &Parts,
        body: B,
        (form, id): (Form, &str),
        action: &mut String,
    ) -> Result<String, AwsError>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let max = self.cfg.request_bytes_max;
        let too_large = || {
            let text = format!("The request's body must be shorter than {max} bytes.");
            AwsError::new(Kind::RequestTooLarge, text)
        };
        let length = parts.headers.get(CONTENT_LENGTH).and_then(|l| l.to_str().ok()?.parse::<usize>().ok());
        if length.is_some_and(|l| l > max) {
            return Err(too_large());
        }
        let units = u32::try_from(length.unwrap_or(max) / SMALL_BODY_BYTES).unwrap_or(u32::MAX);
        let closed = || AwsError::new(Kind::ServiceUnavailable, "The server is stopping.");
        let room = self.bodies.acquire_many(units).await.map_err(|_| closed())?;
        let read = tokio::time::timeout(self.cfg.read_max, Limited::new(body, max).collect()).await;
        let body = match read {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(e)) if e.is::<http_body_util::LengthLimitError>() => return Err(too_large()),
            Ok(Err(_)) | Err(_) => {
                return Err(AwsError::new(Kind::MalformedInput, "The request's body did not come whole."));
            }
        };
        let signer = if self.cfg.keys.is_empty() {
            // A page in a browser can send a form to any address: it says where it comes from.
            if parts.headers.contains_key(ORIGIN) {
                return Err(AwsError::new(
                    Kind::AccessDenied,
                    "Requests of web pages must be signed: configure an access key.",
                ));
            }
            None
        } else {
            Some(signature::check(parts, &body, &self.cfg.keys, SERVICE, self.broker.wall_ms())?)
        };
        let call = Call::of(parts, &body)?;
        action.clone_from(&call.action);
        drop(body);
        let local = peer.local.to_string();
        let host = parts.headers.get(HOST).and_then(|h| h.to_str().ok());
        let host = host.or_else(|| parts.uri.authority().map(hyper::http::uri::Authority::as_str));
        let cx = Cx { server: self, session: &peer.session, host: host.unwrap_or(&local), signer, form };
        // What a call holds now is its parameters; a receive that waits holds next to nothing.
        let answer = sqs::act(&cx, &call.action, call.params()).await?;
        drop(room);
        Ok(answer.finish(&call.action, id))
    }

    /// 16 bytes that are given once.
    pub(crate) fn unique(&self) -> [u8; 16] {
        use std::hash::Hasher as _;
        let mut hasher = SipHasher24::new_with_key(&self.request_key);
        hasher.write_u64(self.broker.epoch().0);
        hasher.write_u64(self.requests.fetch_add(1, Ordering::Relaxed));
        hasher.finish128().as_bytes()
    }
}

impl Cx<'_> {
    /// Who asks, as far as permissions go: every access key is the account's owner, and no user of another protocol's.
    #[expect(clippy::unused_self, reason = "the place where keys would become users")]
    pub(crate) fn principal(&self) -> Principal {
        Principal::anonymous()
    }
}
