//! Who a client is: the mechanisms of SASL that are served, and the users that there are.
//!
//! Start at [`log_in`]. EXTERNAL needs TLS and is not offered.

use std::net::IpAddr;

use bytes::Bytes;
use millstream_broker::HeaderValue;

use crate::error::CodecError;
use crate::table;

/// The mechanisms, as `connection.start` lists them.
pub(crate) const MECHANISMS: &str = "AMQPLAIN PLAIN";

/// What a client says that it is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) user: String,
    pub(crate) password: String,
}

/// Why a login failed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum LoginError {
    /// No such mechanism.
    Mechanism,
    /// The response is not of its form.
    Syntax(CodecError),
    /// No such user, or another password, or not from there.
    Refused,
}

/// Decides who may log in.
pub trait Users: Send + Sync {
    /// Whether this user with this password may come from that address.
    fn check(&self, user: &str, password: &str, from: IpAddr) -> bool;
}

/// The one user that there is before anybody made another: `guest` with the password `guest`, from this machine only.
#[derive(Clone, Copy, Debug, Default)]
pub struct Guest;

impl Users for Guest {
    fn check(&self, user: &str, password: &str, from: IpAddr) -> bool {
        user == "guest" && password == "guest" && from.to_canonical().is_loopback()
    }
}

/// Logs a client in; gives the user's name.
pub(crate) fn log_in(
    users: &dyn Users,
    mechanism: &str,
    response: &[u8],
    from: IpAddr,
) -> Result<String, LoginError> {
    let said = match mechanism {
        "PLAIN" => plain(response)?,
        "AMQPLAIN" => amqplain(response)?,
        _ => return Err(LoginError::Mechanism),
    };
    if users.check(&said.user, &said.password, from) { Ok(said.user) } else { Err(LoginError::Refused) }
}

/// RFC 4616: `authzid NUL authcid NUL passwd`. The first is not used.
fn plain(response: &[u8]) -> Result<Credentials, LoginError> {
    let mut parts = response.splitn(3, |b| *b == 0);
    let (_, user, password) = (parts.next(), parts.next(), parts.next());
    match (user.and_then(utf8), password.and_then(utf8)) {
        (Some(user), Some(password)) => Ok(Credentials { user, password }),
        _ => Err(LoginError::Syntax(CodecError::Illegal { what: "the response of PLAIN" })),
    }
}

/// A field table without its length, of LOGIN and PASSWORD.
fn amqplain(response: &[u8]) -> Result<Credentials, LoginError> {
    let wrong = || LoginError::Syntax(CodecError::Illegal { what: "the response of AMQPLAIN" });
    let length = u32::try_from(response.len()).map_err(|_| wrong())?;
    let mut bytes = Bytes::from([&length.to_be_bytes()[..], response].concat());
    let entries = table::read(&mut bytes).map_err(LoginError::Syntax)?;
    let text = |name: &str| {
        entries.iter().find(|h| h.name == name).and_then(|h| match &h.value {
            HeaderValue::Str(text) => Some(text.clone()),
            _ => None,
        })
    };
    match (text("LOGIN"), text("PASSWORD")) {
        (Some(user), Some(password)) => Ok(Credentials { user, password }),
        _ => Err(wrong()),
    }
}

fn utf8(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).ok().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn guest_may_come_from_this_machine_only() {
        let there = "192.0.2.7".parse().unwrap();
        let mapped = "::ffff:127.0.0.1".parse().unwrap();
        assert_eq!(log_in(&Guest, "PLAIN", b"\0guest\0guest", HERE), Ok("guest".to_owned()));
        assert_eq!(log_in(&Guest, "PLAIN", b"\0guest\0guest", mapped), Ok("guest".to_owned()));
        assert_eq!(log_in(&Guest, "PLAIN", b"\0guest\0guest", there), Err(LoginError::Refused));
        assert_eq!(log_in(&Guest, "PLAIN", b"\0guest\0guess", HERE), Err(LoginError::Refused));
        assert_eq!(log_in(&Guest, "PLAIN", b"\0admin\0guest", HERE), Err(LoginError::Refused));
    }

    #[test]
    fn amqplain_is_a_table_without_its_length() {
        let response = b"\x05LOGINS\0\0\0\x05guest\x08PASSWORDS\0\0\0\x05guest";
        assert_eq!(log_in(&Guest, "AMQPLAIN", response, HERE), Ok("guest".to_owned()));
        for cut in 0..response.len() {
            assert!(matches!(log_in(&Guest, "AMQPLAIN", &response[..cut], HERE), Err(LoginError::Syntax(_))));
        }
    }

    #[test]
    fn a_response_of_another_form_or_mechanism_is_refused() {
        assert!(matches!(log_in(&Guest, "PLAIN", b"guest", HERE), Err(LoginError::Syntax(_))));
        assert!(matches!(log_in(&Guest, "PLAIN", b"\0\xff\0guest", HERE), Err(LoginError::Syntax(_))));
        assert_eq!(log_in(&Guest, "EXTERNAL", b"", HERE), Err(LoginError::Mechanism));
    }
}
