//! An answer being written, in the form that its request had.
//!
//! Start at [`Answer`]. Where two names are given, the first is JSON's and the second XML's: lists and maps are *flattened* there, a
//! member with its own name each.

use serde_json::Value;

use crate::error::AwsError;

/// Which form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// JSON 1.0, `X-Amz-Target`.
    Json,
    /// Query parameters, XML back.
    Query,
}

const XML_NS: &str = "http://queue.amazonaws.com/doc/2012-11-05/";

/// The members of an answer.
#[derive(Debug)]
pub(crate) struct Answer {
    form: Form,
    out: String,
    /// JSON: a member stands in front of the next one in this structure.
    behind: bool,
}

impl Answer {
    pub(crate) fn new(form: Form) -> Self {
        Self { form, out: String::new(), behind: false }
    }

    fn key(&mut self, name: &str) {
        if std::mem::replace(&mut self.behind, true) {
            self.out.push(',');
        }
        put_json(&mut self.out, name);
        self.out.push(':');
    }

    fn next(&mut self, n: usize) {
        if n > 0 {
            self.out.push(',');
        }
    }

    fn element(&mut self, name: &str, inner: impl FnOnce(&mut Self)) {
        self.out.push('<');
        self.out.push_str(name);
        self.out.push('>');
        inner(self);
        self.out.push_str("</");
        self.out.push_str(name);
        self.out.push('>');
    }

    fn object(&mut self, inner: impl FnOnce(&mut Self)) {
        let behind = std::mem::replace(&mut self.behind, false);
        self.out.push('{');
        inner(self);
        self.out.push('}');
        self.behind = behind;
    }

    /// A text.
    pub(crate) fn text(&mut self, name: &str, value: &str) {
        match self.form {
            Form::Json => {
                self.key(name);
                put_json(&mut self.out, value);
            }
            Form::Query => self.element(name, |a| put_xml(&mut a.out, value)),
        }
    }

    /// A number, or anything else that is written as it is.
    fn plain(&mut self, name: &str, value: &str) {
        match self.form {
            Form::Json => {
                self.key(name);
                self.out.push_str(value);
            }
            Form::Query => self.element(name, |a| a.out.push_str(value)),
        }
    }

    /// A number.
    pub(crate) fn int(&mut self, name: &str, value: u64) {
        self.plain(name, &value.to_string());
    }

    /// A truth.
    pub(crate) fn bool(&mut self, name: &str, value: bool) {
        self.plain(name, if value { "true" } else { "false" });
    }

    /// A list of texts.
    pub(crate) fn texts<'a>(&mut self, json: &str, xml: &str, all: impl IntoIterator<Item = &'a str>) {
        match self.form {
            Form::Json => {
                self.key(json);
                self.out.push('[');
                for (n, text) in all.into_iter().enumerate() {
                    self.next(n);
                    put_json(&mut self.out, text);
                }
                self.out.push(']');
            }
            Form::Query => all.into_iter().for_each(|text| self.text(xml, text)),
        }
    }

    /// A list of structures.
    pub(crate) fn structs<T>(
        &mut self,
        json: &str,
        xml: &str,
        all: impl IntoIterator<Item = T>,
        mut one: impl FnMut(&mut Self, T),
    ) {
        match self.form {
            Form::Json => {
                self.key(json);
                self.out.push('[');
                for (n, item) in all.into_iter().enumerate() {
                    self.next(n);
                    self.object(|a| one(a, item));
                }
                self.out.push(']');
            }
            Form::Query => all.into_iter().for_each(|item| self.element(xml, |a| one(a, item))),
        }
    }

    /// A map of texts; in XML a list of members of `key` and `value`.
    pub(crate) fn text_map<'a>(
        &mut self,
        (json, xml): (&str, &str),
        (key, value): (&str, &str),
        all: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) {
        match self.form {
            Form::Json => {
                self.key(json);
                self.object(|a| all.into_iter().for_each(|(k, v)| a.text(k, v)));
            }
            Form::Query => {
                for (k, v) in all {
                    self.element(xml, |a| {
                        a.text(key, k);
                        a.text(value, v);
                    });
                }
            }
        }
    }

    /// A map of structures; in XML a list of members of `Name` and `Value`.
    pub(crate) fn struct_map<'a, T>(
        &mut self,
        json: &str,
        xml: &str,
        all: impl IntoIterator<Item = (&'a str, T)>,
        mut one: impl FnMut(&mut Self, T),
    ) {
        match self.form {
            Form::Json => {
                self.key(json);
                self.object(|a| {
                    for (k, item) in all {
                        a.key(k);
                        a.object(|a| one(a, item));
                    }
                });
            }
            Form::Query => {
                for (k, item) in all {
                    self.element(xml, |a| {
                        a.text("Name", k);
                        a.element("Value", |a| one(a, item));
                    });
                }
            }
        }
    }

    /// The whole body of a successful answer.
    pub(crate) fn finish(self, action: &str, request_id: &str) -> String {
        match self.form {
            Form::Json if self.out.is_empty() => String::new(),
            Form::Json => format!("{{{}}}", self.out),
            Form::Query => {
                let result = match self.out.as_str() {
                    "" if !HAS_RESULT.contains(&action) => String::new(),
                    inner => format!("<{action}Result>{inner}</{action}Result>"),
                };
                format!(
                    "<?xml version=\"1.0\"?><{action}Response xmlns=\"{XML_NS}\">{result}\
                     <ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata></{action}Response>"
                )
            }
        }
    }
}

/// Actions whose answer has a result, though it may be empty.
const HAS_RESULT: &[&str] = &[
    "CancelMessageMoveTask",
    "ChangeMessageVisibilityBatch",
    "CreateQueue",
    "DeleteMessageBatch",
    "GetQueueAttributes",
    "GetQueueUrl",
    "ListDeadLetterSourceQueues",
    "ListMessageMoveTasks",
    "ListQueueTags",
    "ListQueues",
    "ReceiveMessage",
    "SendMessage",
    "SendMessageBatch",
    "StartMessageMoveTask",
];

/// The whole body of an error.
pub(crate) fn error_body(form: Form, e: &AwsError, request_id: &str) -> String {
    match form {
        Form::Json => {
            serde_json::json!({ "__type": e.kind.shape(), "message": Value::from(e.message.as_str()) })
                .to_string()
        }
        Form::Query => {
            let who = if e.kind.is_sender() { "Sender" } else { "Receiver" };
            let mut message = String::new();
            put_xml(&mut message, &e.message);
            format!(
                "<?xml version=\"1.0\"?><ErrorResponse xmlns=\"{XML_NS}\"><Error><Type>{who}</Type><Code>{}</Code>\
                 <Message>{message}</Message><Detail/></Error><RequestId>{request_id}</RequestId></ErrorResponse>",
                e.kind.code()
            )
        }
    }
}

fn put_json(out: &mut String, text: &str) {
    out.push('"');
    let mut from = 0;
    for (at, b) in text.bytes().enumerate() {
        let escape = match b {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0..0x20 => "",
            _ => continue,
        };
        out.push_str(text.get(from..at).unwrap_or_default());
        if escape.is_empty() {
            out.push_str("\\u00");
            out.push_str(&crate::hex::hex(&[b]));
        } else {
            out.push_str(escape);
        }
        from = at + 1;
    }
    out.push_str(text.get(from..).unwrap_or_default());
    out.push('"');
}

/// Characters that XML does not have become the replacement character: only errors can have them, as they repeat what a client said.
fn put_xml(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // A reader would make it a line feed.
            '\r' => out.push_str("&#xD;"),
            '\t' | '\n' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'.. => out.push(c),
            _ => out.push('\u{fffd}'),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::Kind;

    fn write(form: Form) -> String {
        let mut a = Answer::new(form);
        a.structs("Messages", "Message", [1, 2], |a, n| {
            a.int("N", n);
            a.text("Body", "a<\"b\r");
            a.text_map(("Attributes", "Attribute"), ("Name", "Value"), [("k", "v")]);
            a.struct_map("MessageAttributes", "MessageAttribute", [("m", "x")], |a, v| a.text("DataType", v));
        });
        a.texts("Urls", "Url", ["u"]);
        a.finish("Do", "id")
    }

    #[test]
    fn json_nests_and_xml_flattens() {
        let one = |n| {
            serde_json::json!({"N": n, "Body": "a<\"b\r", "Attributes": {"k": "v"},
                "MessageAttributes": {"m": {"DataType": "x"}}})
        };
        let json: Value = serde_json::from_str(&write(Form::Json)).unwrap();
        assert_eq!(json, serde_json::json!({"Messages": [one(1), one(2)], "Urls": ["u"]}));
        let member = |n| {
            format!(
                "<Message><N>{n}</N><Body>a&lt;&quot;b&#xD;</Body><Attribute><Name>k</Name><Value>v</Value></Attribute>\
                 <MessageAttribute><Name>m</Name><Value><DataType>x</DataType></Value></MessageAttribute></Message>"
            )
        };
        let xml = write(Form::Query);
        assert!(
            xml.contains(&format!("<DoResult>{}{}<Url>u</Url></DoResult>", member(1), member(2))),
            "{xml}"
        );
    }

    #[test]
    fn an_error_repeats_nothing_that_xml_does_not_have() {
        let e = AwsError::new(Kind::OverLimit, "a\u{0}<b>");
        let xml = error_body(Form::Query, &e, "id");
        assert!(
            xml.contains("<Message>a\u{fffd}&lt;b&gt;</Message>") && xml.contains("<Type>Sender</Type>"),
            "{xml}"
        );
    }

    proptest! {
        #[test]
        fn any_text_is_the_same_after_json(text: String) {
            let mut out = String::new();
            put_json(&mut out, &text);
            prop_assert_eq!(serde_json::from_str::<String>(&out).unwrap(), text);
        }
    }
}
