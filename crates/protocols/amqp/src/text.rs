//! Text as the protocol has it: 255 bytes at most.

use amq_protocol::types::ShortString;

/// Most bytes of a short string.
pub(crate) const SHORT_BYTES_MAX: usize = 255;

/// A short string, cut between characters if it is too long.
pub(crate) fn short(text: &str) -> ShortString {
    ShortString::from(cut(text, SHORT_BYTES_MAX))
}

/// A name without carriage returns and line feeds: clients send such by mistake, and `RabbitMQ` takes them off.
pub(crate) fn one_line(name: &ShortString) -> ShortString {
    if name.as_str().contains(['\r', '\n']) {
        return ShortString::from(name.as_str().replace(['\r', '\n'], ""));
    }
    name.clone()
}

/// The front of a text, at most `max` bytes of it.
pub(crate) fn cut(text: &str, max: usize) -> &str {
    text.get(..text.floor_char_boundary(max)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abö", 3), "ab");
        assert_eq!(one_line(&ShortString::from("a\r\nb\n")).as_str(), "ab");
        assert_eq!(short(&"ö".repeat(200)).as_str().len(), 254);
    }
}
