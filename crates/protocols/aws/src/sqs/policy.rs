//! What a queue's `Policy` may be. Policies are kept and told of, and decide nothing: every access key is the account's owner, who may do
//! everything without one, and there are no other accounts that one could let in. So a statement that allows is true as it stands, and one
//! that denies would not be kept to: it is refused (`docs/adr/0027-policies-never-deny.md`).

use serde_json::Value;

use crate::error::{AwsError, Kind};

/// Bytes of a policy.
const POLICY_BYTES_MAX: usize = 8_192;
/// Statements of a policy.
pub(crate) const STATEMENTS_MAX: usize = 20;
/// Versions of the language.
const VERSIONS: &[&str] = &["2012-10-17", "2008-10-17"];

/// Whether a policy can be kept.
///
/// # Errors
/// `InvalidAttributeValue`: it is none; `UnsupportedOperation`: it denies.
pub(crate) fn check(text: &str) -> Result<(), AwsError> {
    let wrong = |why: &str| {
        let text = format!("Invalid value for the parameter Policy. Reason: {why}.");
        Err(AwsError::new(Kind::InvalidAttributeValue, text))
    };
    if text.len() > POLICY_BYTES_MAX {
        return wrong(&format!("it must have at most {POLICY_BYTES_MAX} bytes"));
    }
    let Ok(Value::Object(policy)) = serde_json::from_str::<Value>(text) else {
        return wrong("it must be a policy in JSON");
    };
    if policy.get("Version").is_some_and(|v| !v.as_str().is_some_and(|v| VERSIONS.contains(&v))) {
        return wrong("its Version must be 2012-10-17 or 2008-10-17");
    }
    let statements: &[Value] = match policy.get("Statement") {
        Some(Value::Array(all)) => all,
        Some(one @ Value::Object(_)) => std::slice::from_ref(one),
        _ => return wrong("it must have a Statement, or a list of them"),
    };
    if statements.len() > STATEMENTS_MAX {
        return wrong(&format!("it must have at most {STATEMENTS_MAX} statements"));
    }
    for s in statements {
        let has = |name: &str| s.get(name).is_some_and(|v| !v.is_null());
        if !has("Principal") && !has("NotPrincipal") || !has("Action") && !has("NotAction") {
            return wrong("each statement must have a Principal and an Action");
        }
        match s.get("Effect").and_then(Value::as_str) {
            Some("Allow") => {}
            Some("Deny") => {
                return Err(AwsError::new(
                    Kind::UnsupportedOperation,
                    "Statements with the Effect Deny are not supported: every access key is the account's owner, and would not be kept \
                     from anything. Leave the statement out.",
                ));
            }
            _ => return wrong("the Effect of each statement must be Allow"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: &str = r#""Principal":"*","Action":"sqs:SendMessage","Resource":"*""#;

    #[test]
    fn what_allows_is_kept_and_what_denies_is_refused() {
        for effects in [&["Allow"][..], &["Allow", "Allow"]] {
            let all: Vec<String> = effects.iter().map(|e| format!(r#"{{"Effect":"{e}",{S}}}"#)).collect();
            let policy = format!(r#"{{"Version":"2012-10-17","Statement":[{}]}}"#, all.join(","));
            assert_eq!(check(&policy), Ok(()));
        }
        assert_eq!(check(&format!(r#"{{"Statement":{{"Effect":"Allow",{S}}}}}"#)), Ok(()));
        let denies = format!(r#"{{"Statement":[{{"Effect":"Allow",{S}}},{{"Effect":"Deny",{S}}}]}}"#);
        assert_eq!(check(&denies).unwrap_err().kind, Kind::UnsupportedOperation);
    }

    #[test]
    fn what_is_no_policy_is_refused() {
        let many =
            format!(r#"{{"Statement":[{}]}}"#, vec![format!(r#"{{"Effect":"Allow",{S}}}"#); 21].join(","));
        for text in [
            "no JSON",
            "[]",
            "{}",
            r#"{"Statement":1}"#,
            r#"{"Statement":[1]}"#,
            r#"{"Statement":[{"Effect":"Allow","Action":"*"}]}"#,
            r#"{"Version":"1","Statement":[]}"#,
            &format!(r#"{{"Statement":[{{"Effect":"allow",{S}}}]}}"#),
            &many,
            &format!(r#"{{"Statement":[],"Id":"{}"}}"#, "x".repeat(8_192)),
        ] {
            assert_eq!(check(text).unwrap_err().kind, Kind::InvalidAttributeValue, "{text}");
        }
    }
}
