//! `ApiVersions`: which versions there are.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::ApiVersionsRequest;
use kafka_protocol::messages::api_versions_response::{ApiVersion, ApiVersionsResponse};

use crate::connection::Conn;
use crate::error::NONE;
use crate::versions::APIS;
use crate::wire::{self, Close, Header, Out};

fn response(error: i16) -> ApiVersionsResponse {
    let keys = APIS
        .iter()
        .map(|a| ApiVersion::default().with_api_key(a.key).with_min_version(a.min).with_max_version(a.max))
        .collect();
    ApiVersionsResponse::default().with_error_code(error).with_api_keys(keys)
}

/// The answer to a version that is not served: a body of version 0 with error 35 and the ranges.
///
/// # Errors
/// The connection is to be closed.
pub(crate) fn unsupported(h: &Header) -> Result<Out, Close> {
    wire::encode_as(h, &response(ResponseError::UnsupportedVersion.code()), 0)
}

/// Answers.
pub(crate) async fn answer(
    _: Arc<Conn>,
    h: Header,
    req: ApiVersionsRequest,
) -> Result<ApiVersionsResponse, Close> {
    // KIP-511: from version 3 on the client names its software, and badly formed names are refused.
    let named = |s: &str| {
        let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        edge(s.chars().next())
            && edge(s.chars().next_back())
            && s.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.')
    };
    if h.version >= 3 && !(named(&req.client_software_name) && named(&req.client_software_version)) {
        let error = ResponseError::InvalidRequest.code();
        return Ok(ApiVersionsResponse::default().with_error_code(error));
    }
    Ok(response(NONE))
}
