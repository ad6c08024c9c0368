//! Who a client is: the mechanisms of SASL that are served, and the users that there are.
//!
//! Start at [`log_in`]. EXTERNAL needs TLS and is not offered.

use std::net::IpAddr;

use bytes::Bytes;
use millstream_broker::{HeaderValue, Users};

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
    Refused {
        /// Who it says it is.
        user: String,
        /// It may come from this machine only, and does not.
        far: bool,
    },
}

/// Logs a client in; gives the user's name. `loopback` are the users that may come from this machine only.
pub(crate) async fn log_in(
    users: &Users,
    loopback: &[String],
    mechanism: &str,
    response: &[u8],
    from: IpAddr,
) -> Result<String, LoginError> {
    let said = match mechanism {
        "PLAIN" => plain(response)?,
        "AMQPLAIN" => amqplain(response)?,
        _ => return Err(LoginError::Mechanism),
    };
    let far = !from.to_canonical().is_loopback() && loopback.contains(&said.user);
    if !far && users.log_in(&said.user, &said.password).await {
        Ok(said.user)
    } else {
        Err(LoginError::Refused { user: said.user, far })
    }
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

    #[test]
    fn amqplain_is_a_table_without_its_length() {
        let response = b"\x05LOGINS\0\0\0\x05guest\x08PASSWORDS\0\0\0\x05guest";
        let said = Credentials { user: "guest".to_owned(), password: "guest".to_owned() };
        assert_eq!(amqplain(response), Ok(said));
        for cut in 0..response.len() {
            assert!(matches!(amqplain(&response[..cut]), Err(LoginError::Syntax(_))));
        }
    }

    #[test]
    fn plain_is_three_parts_of_text() {
        let said = Credentials { user: "guest".to_owned(), password: "p\0".to_owned() };
        assert_eq!(plain(b"\0guest\0p\0"), Ok(said));
        assert!(matches!(plain(b"guest"), Err(LoginError::Syntax(_))));
        assert!(matches!(plain(b"\0\xff\0guest"), Err(LoginError::Syntax(_))));
    }
}
