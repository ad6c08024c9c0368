//! Message attributes as SQS has them: read, checked, digested, chosen and written.
//!
//! Start at [`read`]. The digest is that of "Calculating the MD5 message digest for message attributes" in the developer guide.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use md5::{Digest, Md5};

use crate::answer::Answer;
use crate::error::{AwsError, Kind, shown};
use crate::hex::hex;
use crate::params::Params;

/// Attributes of one message.
pub(crate) const ATTRIBUTES_MAX: usize = 10;
/// Characters of an attribute's name, and of its type.
const NAME_CHARS_MAX: usize = 256;

/// A message attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attribute {
    pub(crate) name: String,
    /// `String`, `Number` or `Binary`, perhaps with a label: `Number.int`.
    pub(crate) data_type: String,
    pub(crate) value: AttributeValue,
}

/// Its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AttributeValue {
    Text(String),
    Binary(Bytes),
}

impl Attribute {
    pub(crate) fn text(name: &str, data_type: &str, value: impl Into<String>) -> Self {
        let value = AttributeValue::Text(value.into());
        Self { name: name.to_owned(), data_type: data_type.to_owned(), value }
    }

    pub(crate) fn binary(name: &str, value: Bytes) -> Self {
        Self { name: name.to_owned(), data_type: "Binary".to_owned(), value: AttributeValue::Binary(value) }
    }

    /// What it counts of a message's size.
    pub(crate) fn bytes(&self) -> usize {
        let value = match &self.value {
            AttributeValue::Text(t) => t.len(),
            AttributeValue::Binary(b) => b.len(),
        };
        self.name.len() + self.data_type.len() + value
    }
}

/// Whether a text may be a body or an attribute's value: characters that XML 1.0 has.
pub(crate) fn is_sqs_text(text: &str) -> bool {
    // The bytes of all other characters are above these.
    text.bytes().all(|b| b >= 0x20 || matches!(b, b'\t' | b'\n' | b'\r'))
        && !text.contains(['\u{fffe}', '\u{ffff}'])
}

/// Whether an attribute may have this name.
pub(crate) fn is_attribute_name(name: &str) -> bool {
    let lower = name.get(..7).unwrap_or(name).to_ascii_lowercase();
    !name.is_empty()
        && name.len() <= NAME_CHARS_MAX
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        && !name.starts_with('.')
        && !name.ends_with('.')
        && !name.contains("..")
        && !lower.starts_with("aws.")
        && !lower.starts_with("amazon.")
}

/// Reads the attributes of a message that is sent, in the order of their names.
pub(crate) fn read(p: Params<'_>, json: &str, query: &str) -> Result<Vec<Attribute>, AwsError> {
    let all = p.struct_map(json, query)?;
    let mut attributes = all.into_iter().map(|(name, v)| one(name, v)).collect::<Result<Vec<_>, _>>()?;
    attributes.sort_by(|a, b| a.name.cmp(&b.name));
    if attributes.windows(2).any(|w| matches!(w, [a, b] if a.name == b.name)) {
        return Err(AwsError::invalid("Message attribute names must be distinct."));
    }
    Ok(attributes)
}

fn one(name: &str, p: Params<'_>) -> Result<Attribute, AwsError> {
    let shown_name = shown(name);
    let wrong = |text: &str| AwsError::invalid(&format!("The message attribute '{shown_name}' {text}"));
    if !is_attribute_name(name) {
        return Err(wrong(
            "has an invalid name: 1 to 256 letters, digits, hyphens, underscores and periods, not beginning with 'AWS.' or 'Amazon.', \
             and no period at either end or twice in a row.",
        ));
    }
    let data_type = p.text("DataType")?.unwrap_or_default();
    if data_type.is_empty() {
        return Err(wrong("must contain a non-empty message attribute type."));
    }
    if data_type.len() > NAME_CHARS_MAX || !is_sqs_text(data_type) {
        return Err(wrong("has an invalid type: at most 256 characters."));
    }
    let (text, binary) = (p.text("StringValue")?, p.blob("BinaryValue")?);
    let value = match (data_type.split('.').next().unwrap_or_default(), text, binary) {
        ("String" | "Number", _, Some(_)) | ("Binary", Some(_), _) => {
            return Err(wrong("must contain a single value of its type."));
        }
        (base @ ("String" | "Number"), text, None) => {
            let text = text.filter(|t| !t.is_empty()).ok_or_else(|| {
                wrong(&format!(
                    "must contain a non-empty message attribute value for message attribute type '{base}'."
                ))
            })?;
            if !is_sqs_text(text) {
                return Err(AwsError::new(Kind::InvalidMessageContents, INVALID_CHARACTERS));
            }
            if base == "Number" && !is_number(text) {
                return Err(wrong("must be a number of at most 38 digits, from -10^128 to 10^126."));
            }
            AttributeValue::Text(text.to_owned())
        }
        ("Binary", None, binary) => {
            let binary = binary.filter(|b| !b.is_empty()).ok_or_else(|| {
                wrong("must contain a non-empty message attribute value for message attribute type 'Binary'.")
            })?;
            AttributeValue::Binary(binary)
        }
        _ => {
            return Err(wrong(
                "has an invalid message attribute type: the supported ones are String, Number and Binary.",
            ));
        }
    };
    Ok(Attribute { name: name.to_owned(), data_type: data_type.to_owned(), value })
}

/// What a text gets that SQS cannot carry.
pub(crate) const INVALID_CHARACTERS: &str = "Invalid characters found. Valid unicode characters are #x9 | #xA | #xD | #x20 to #xD7FF | \
    #xE000 to #xFFFD | #x10000 to #x10FFFF";

pub(crate) fn is_number(text: &str) -> bool {
    const DIGITS_MAX: usize = 38;
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let digits = mantissa.bytes().filter(u8::is_ascii_digit).count();
    let others = mantissa.bytes().filter(|b| !b.is_ascii_digit()).count();
    let small = exponent.parse::<i32>().is_ok_and(|e| (-128..=126).contains(&e));
    (1..=DIGITS_MAX).contains(&digits) && (others == 0 || others == 1 && mantissa.contains('.')) && small
}

/// The digest of attributes, in hexadecimal.
pub(crate) fn md5_of(attributes: &[Attribute]) -> String {
    let mut sorted: Vec<&Attribute> = attributes.iter().collect();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    let mut all = Vec::new();
    for a in sorted {
        put_part(&mut all, a.name.as_bytes());
        put_part(&mut all, a.data_type.as_bytes());
        match &a.value {
            AttributeValue::Text(t) => {
                all.push(1);
                put_part(&mut all, t.as_bytes());
            }
            AttributeValue::Binary(b) => {
                all.push(2);
                put_part(&mut all, b);
            }
        }
    }
    md5_hex(&all)
}

fn put_part(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// A digest in hexadecimal.
pub(crate) fn md5_hex(bytes: &[u8]) -> String {
    hex(&Md5::digest(bytes))
}

/// Which attributes a receive wants, by `MessageAttributeNames`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a>(pub(crate) &'a [&'a str]);

impl Wanted<'_> {
    /// Whether this one is wanted, by its name, or as part of a group.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.all() || self.by_name(name)
    }

    fn all(&self) -> bool {
        self.0.iter().any(|w| matches!(*w, "All" | ".*" | "*"))
    }

    /// Whether this one is wanted by its name or the beginning of it, and not because all are.
    pub(crate) fn by_name(&self, name: &str) -> bool {
        self.0.iter().any(|w| match w.strip_suffix(".*") {
            Some("") => false,
            Some(prefix) => name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('.')),
            None => *w == name,
        })
    }
}

/// Writes attributes and their digest.
pub(crate) fn write(a: &mut Answer, attributes: &[Attribute]) {
    if attributes.is_empty() {
        return;
    }
    a.text("MD5OfMessageAttributes", &md5_of(attributes));
    let all = attributes.iter().map(|at| (at.name.as_str(), at));
    a.struct_map("MessageAttributes", "MessageAttribute", all, |a, at| {
        match &at.value {
            AttributeValue::Text(t) => a.text("StringValue", t),
            AttributeValue::Binary(b) => a.text("BinaryValue", &STANDARD.encode(b)),
        }
        a.text("DataType", &at.data_type);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_that_of_the_sdks() {
        // As botocore reckons it: computed with its handler for these two attributes.
        let all = [
            Attribute::text("timestamp", "Number", "1493147359900"),
            Attribute::text("city", "String.label", "Any City"),
            Attribute::binary("blob", Bytes::from_static(b"\x00\x01")),
        ];
        assert_eq!(md5_of(&all), "00c807b8896615a54be52bcb69212b7f");
        assert_eq!(md5_hex(b"hello"), "5d41402abc4b2a76b9719d911017c592");
    }

    #[test]
    fn names_are_as_the_service_has_them() {
        for good in ["a", "A.b-c_1", &"x".repeat(256)] {
            assert!(is_attribute_name(good), "{good}");
        }
        for bad in ["", ".a", "a.", "a..b", "AWS.x", "aws.x", "Amazon.x", "a b", "ü", &"x".repeat(257)] {
            assert!(!is_attribute_name(bad), "{bad}");
        }
    }

    #[test]
    fn texts_are_what_xml_can_carry() {
        assert!(is_sqs_text("a\t\n\r\u{e000}\u{10ffff}ü") && is_sqs_text(""));
        for bad in ["\u{0}", "\u{b}", "\u{1f}", "\u{fffe}", "\u{ffff}"] {
            assert!(!is_sqs_text(bad), "{bad:?}");
        }
    }

    #[test]
    fn numbers_are_decimal() {
        for good in ["0", "-1.5", "1e10", "+7", &"9".repeat(38)] {
            assert!(is_number(good), "{good}");
        }
        for bad in ["", "a", "1.2.3", "1e999", "NaN", "0x1", &"9".repeat(39), "--1"] {
            assert!(!is_number(bad), "{bad}");
        }
    }

    #[test]
    fn a_receive_wants_names_beginnings_or_all() {
        assert!(Wanted(&["All"]).has("a") && Wanted(&[".*"]).has("a"));
        assert!(Wanted(&["a.*"]).has("a.b") && !Wanted(&["a.*"]).has("ab") && !Wanted(&["a.*"]).has("a"));
        assert!(Wanted(&["a"]).has("a") && !Wanted(&["a"]).has("b") && !Wanted(&[]).has("a"));
        assert!(
            !Wanted(&["All"]).by_name("millstream.death")
                && Wanted(&["millstream.*"]).by_name("millstream.death")
        );
    }
}
