//! Signature Version 4: proves that who sent a request knows the secret of an access key, and that nobody changed it on the way.
//!
//! Start at [`check`]. Steps and words are those of "Create a signed AWS API request" in the IAM user guide. Only signatures in the
//! header `Authorization` are taken.

use hmac::{Hmac, Mac};
use hyper::http::request::Parts;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use sha2::{Digest, Sha256};

use crate::config::AccessKey;
use crate::error::{AwsError, Kind};
use crate::hex::{hex, unhex};
use crate::time;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// How far a request's time may be from ours, milliseconds.
const SKEW_MS_MAX: i64 = 15 * 60_000;
/// Headers that a signature may cover.
const HEADERS_MAX: usize = 128;
/// All but the unreserved characters of RFC 3986.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const ENCODED_PATH: &AsciiSet = &ENCODED.remove(b'/');

/// What the header `Authorization` says.
struct Claim<'a> {
    id: &'a str,
    /// `DATE/REGION/SERVICE/aws4_request`.
    scope: &'a str,
    signed: Vec<&'a str>,
    signature: Vec<u8>,
}

/// The id of the access key that signed a request.
pub(crate) fn check<'k>(
    parts: &Parts,
    body: &[u8],
    keys: &'k [AccessKey],
    service: &str,
    now_ms: u64,
) -> Result<&'k str, AwsError> {
    let header = parts.headers.get("authorization").ok_or_else(|| {
        AwsError::new(Kind::MissingAuthenticationToken, "Request is missing Authentication Token: sign it.")
    })?;
    let incomplete = |text: &str| AwsError::new(Kind::IncompleteSignature, text);
    let claim = header.to_str().ok().and_then(claim).ok_or_else(|| {
        incomplete("Authorization must be AWS4-HMAC-SHA256 with Credential, SignedHeaders and Signature.")
    })?;
    let date = value(parts, "x-amz-date")
        .ok_or_else(|| incomplete("The request must have the header X-Amz-Date."))?;
    let at_ms =
        time::parse(&date).ok_or_else(|| incomplete("X-Amz-Date must be a time like 20150830T123600Z."))?;
    let scope: Vec<&str> = claim.scope.split('/').collect();
    let [day, region, scope_service, "aws4_request"] = *scope.as_slice() else {
        return Err(incomplete("Credential must be KEY/DATE/REGION/SERVICE/aws4_request."));
    };
    let mismatch = |text: String| AwsError::new(Kind::SignatureDoesNotMatch, text);
    if scope_service != service || !date.starts_with(day) {
        return Err(mismatch(format!(
            "Credential should be scoped to the date of the request and to {service}."
        )));
    }
    let now_ms = i64::try_from(now_ms).unwrap_or(i64::MAX);
    if (now_ms - at_ms).abs() > SKEW_MS_MAX {
        return Err(mismatch(format!("Signature expired: {date} is more than 15 minutes from the present.")));
    }
    if !claim.signed.contains(&"host") || claim.signed.len() > HEADERS_MAX {
        return Err(mismatch("The header host must be signed.".to_owned()));
    }
    let key = keys.iter().find(|k| k.id == claim.id).ok_or_else(|| {
        AwsError::new(Kind::InvalidClientTokenId, "The security token included in the request is invalid.")
    })?;
    let canonical = canonical_request(parts, &claim.signed, body)
        .ok_or_else(|| mismatch("A signed header is not there.".to_owned()))?;
    let to_sign =
        format!("{ALGORITHM}\n{date}\n{}\n{}", claim.scope, hex(&Sha256::digest(canonical.as_bytes())));
    let mut secret = hmac(format!("AWS4{}", key.secret).as_bytes(), day.as_bytes());
    for part in [region, service, "aws4_request"] {
        secret = hmac(&secret, part.as_bytes());
    }
    let verified = Hmac::<Sha256>::new_from_slice(&secret)
        .is_ok_and(|m| m.chain_update(to_sign.as_bytes()).verify_slice(&claim.signature).is_ok());
    if verified {
        return Ok(&key.id);
    }
    Err(mismatch(
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and \
         signing method."
            .to_owned(),
    ))
}

fn claim(header: &str) -> Option<Claim<'_>> {
    let rest = header.strip_prefix(ALGORITHM)?.trim_start();
    let (mut credential, mut signed, mut signature) = (None, None, None);
    for part in rest.split(',') {
        match part.trim().split_once('=')? {
            ("Credential", v) => credential = Some(v),
            ("SignedHeaders", v) => signed = Some(v),
            ("Signature", v) => signature = Some(v),
            _ => {}
        }
    }
    let (id, scope) = credential?.split_once('/')?;
    Some(Claim { id, scope, signed: signed?.split(';').collect(), signature: unhex(signature?)? })
}

/// A header's values: joined, trimmed, spaces in a row as one.
fn value(parts: &Parts, name: &str) -> Option<String> {
    let all = parts.headers.get_all(name);
    let texts: Vec<String> = all
        .iter()
        .map(|v| String::from_utf8_lossy(v.as_bytes()).split_ascii_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    if texts.is_empty() { None } else { Some(texts.join(",")) }
}

fn canonical_request(parts: &Parts, signed: &[&str], body: &[u8]) -> Option<String> {
    let mut out = format!("{}\n", parts.method);
    // Encoded twice, as for all services but one.
    out.push_str(&percent_encode(parts.uri.path().as_bytes(), ENCODED_PATH).to_string());
    out.push('\n');
    let query = parts.uri.query().unwrap_or_default();
    let encode = |text: &str| percent_encode(text.as_bytes(), ENCODED).to_string();
    let mut pairs: Vec<(String, String)> =
        form_urlencoded::parse(query.as_bytes()).map(|(k, v)| (encode(&k), encode(&v))).collect();
    pairs.sort_unstable();
    let pairs: Vec<String> = pairs.into_iter().map(|(k, v)| format!("{k}={v}")).collect();
    out.push_str(&pairs.join("&"));
    out.push('\n');
    for name in signed {
        out.push_str(name);
        out.push(':');
        out.push_str(&value(parts, name)?);
        out.push('\n');
    }
    out.push('\n');
    out.push_str(&signed.join(";"));
    out.push('\n');
    out.push_str(&hex(&Sha256::digest(body)));
    Some(out)
}

fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    // A key may have any length: there is no error to be had.
    Hmac::<Sha256>::new_from_slice(key)
        .map(|m| m.chain_update(text).finalize().into_bytes().to_vec())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    /// The credentials and the moment of Amazon's own test suite.
    fn suite() -> (Vec<AccessKey>, u64) {
        let key = AccessKey {
            id: "AKIDEXAMPLE".to_owned(),
            secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned(),
        };
        (vec![key], 1_440_938_160_000)
    }

    fn request(method: &str, uri: &str, headers: &[(&str, &str)], signature: &str) -> Parts {
        let mut names: Vec<String> = headers.iter().map(|h| h.0.to_ascii_lowercase()).collect();
        names.extend(["host".to_owned(), "x-amz-date".to_owned()]);
        names.sort_unstable();
        names.dedup();
        let mut r = Request::builder()
            .method(method)
            .uri(uri)
            .header("Host", "example.amazonaws.com")
            .header("X-Amz-Date", "20150830T123600Z");
        for (k, v) in headers {
            r = r.header(*k, *v);
        }
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders={}, Signature={signature}",
            names.join(";")
        );
        r.header("Authorization", authorization).body(()).unwrap().into_parts().0
    }

    #[test]
    fn the_vectors_of_the_test_suite_are_verified() {
        let (keys, now) = suite();
        let get_vanilla = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31";
        let post_vanilla = "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b";
        let query_order = "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500";
        let value_trim = "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736";
        let form = "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a";
        let url_encoded = [("Content-Type", "application/x-www-form-urlencoded")];
        let spaces = [("My-Header1", "value1"), ("My-Header2", "\"a   b   c\"")];
        for (parts, body) in [
            (request("GET", "/", &[], get_vanilla), ""),
            (request("POST", "/", &[], post_vanilla), ""),
            (request("GET", "/?Param2=value2&Param1=value1", &[], query_order), ""),
            (request("GET", "/", &spaces, value_trim), ""),
            (request("POST", "/", &url_encoded, form), "Param1=value1"),
        ] {
            assert_eq!(check(&parts, body.as_bytes(), &keys, "service", now), Ok("AKIDEXAMPLE"), "{parts:?}");
            let changed = check(&parts, b"something else", &keys, "service", now).unwrap_err();
            assert_eq!(changed.kind, Kind::SignatureDoesNotMatch);
        }
    }

    #[test]
    fn what_is_wrong_with_a_signature_is_said_by_its_code() {
        let (keys, now) = suite();
        let good = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31";
        let kind = |parts: &Parts, keys: &[AccessKey], now| {
            check(parts, b"", keys, "service", now).unwrap_err().kind
        };
        let parts = request("GET", "/", &[], good);
        assert_eq!(kind(&parts, &[], now), Kind::InvalidClientTokenId);
        assert_eq!(kind(&parts, &keys, now + 16 * 60_000), Kind::SignatureDoesNotMatch);
        assert_eq!(check(&parts, b"", &keys, "sqs", now).unwrap_err().kind, Kind::SignatureDoesNotMatch);
        let mut bare = request("GET", "/", &[], good);
        bare.headers.remove("authorization");
        assert_eq!(kind(&bare, &keys, now), Kind::MissingAuthenticationToken);
        for wrong in [
            "AWS4-HMAC-SHA256",
            "Basic x",
            "AWS4-HMAC-SHA256 Credential=a/b/c/d/e, SignedHeaders=host, Signature=zz",
        ] {
            let mut parts = request("GET", "/", &[], good);
            parts.headers.insert("authorization", wrong.parse().unwrap());
            assert_eq!(kind(&parts, &keys, now), Kind::IncompleteSignature, "{wrong}");
        }
    }
}
