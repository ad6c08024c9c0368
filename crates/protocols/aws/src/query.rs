//! The Query form: parameters as a URL encodes them, with names like `Entry.2.Attribute.1.Name` that make a tree.
//!
//! Start at [`Node::parse`]. Depth, number and size are bounded.

use std::collections::BTreeMap;

use crate::error::{AwsError, Kind};

/// Parts of one name.
const DEPTH_MAX: usize = 10;
/// Parameters of one request.
const PARAMETERS_MAX: usize = 10_000;

/// A parameter, and those whose names go on from its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) value: Option<String>,
    pub(crate) children: BTreeMap<String, Node>,
}

impl Node {
    /// Reads all parameters of a request; a name said twice keeps its last value.
    pub(crate) fn parse(&mut self, encoded: &[u8]) -> Result<(), AwsError> {
        let malformed = |text: &str| AwsError::new(Kind::MalformedInput, text);
        for (n, (name, value)) in form_urlencoded::parse(encoded).enumerate() {
            if n >= PARAMETERS_MAX {
                return Err(malformed("The request has too many parameters."));
            }
            if name.split('.').count() > DEPTH_MAX {
                return Err(malformed("A parameter's name has too many parts."));
            }
            let node = name
                .split('.')
                .fold(&mut *self, |node, part| node.children.entry(part.to_owned()).or_default());
            node.value = Some(value.into_owned());
        }
        Ok(())
    }

    pub(crate) fn child(&self, name: &str) -> Option<&Node> {
        self.children.get(name)
    }

    /// The members of a list by their numbers. An SDK may write `Name.1` or `Name.member.1`.
    pub(crate) fn list(&self, name: &str) -> Vec<&Node> {
        let Some(node) = self.child(name) else { return Vec::new() };
        let node = node.child("member").unwrap_or(node);
        let mut all: Vec<(u32, &Node)> =
            node.children.iter().filter_map(|(n, child)| Some((n.parse().ok()?, child))).collect();
        all.sort_unstable_by_key(|c| c.0);
        all.into_iter().map(|c| c.1).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Node {
        let mut node = Node::default();
        node.parse(text.as_bytes()).unwrap();
        node
    }

    #[test]
    fn members_of_a_list_come_by_their_numbers() {
        let node = parsed("A.10=j&A.2=b&A.1=a%20b&A.x=no&B.member.1=m");
        let texts: Vec<_> = node.list("A").iter().map(|n| n.value.clone().unwrap()).collect();
        assert_eq!(texts, ["a b", "b", "j"]);
        assert_eq!(node.list("B").len(), 1);
        assert!(node.list("C").is_empty());
    }

    #[test]
    fn a_name_with_many_parts_is_refused_before_it_makes_a_tree() {
        let mut node = Node::default();
        assert!(node.parse("a.".repeat(1_000).as_bytes()).is_err());
        assert!(node.parse("a=1&".repeat(10_001).as_bytes()).is_err());
    }
}
