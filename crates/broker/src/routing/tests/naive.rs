//! Routing as a scan of lists.

use super::*;

/// All exchanges and bindings.
#[derive(Clone, Debug, Default)]
pub(super) struct World {
    exchanges: Vec<ExchangeDef>,
    bindings: Vec<(BindingDef, Vec<Header>)>,
}

impl World {
    fn kind(&self, name: &str) -> Option<ExchangeType> {
        let known = self.exchanges.iter().find(|e| e.name == name).map(|e| e.kind);
        known.or_else(|| millstream_engine::exchange::predeclared(name))
    }

    /// Does it, if the engine would; gives the events it would tell.
    pub(super) fn change(&mut self, change: &Change) -> Vec<RouteEvent> {
        match change {
            Change::Made(def) if self.kind(&def.name).is_none() => {
                self.exchanges.push(def.clone());
                vec![RouteEvent::Made(Arc::new(def.clone()))]
            }
            Change::Gone(n) => {
                let name = format!("e{n}");
                if self.kind(&name).is_none() {
                    return Vec::new();
                }
                self.exchanges.retain(|e| e.name != name);
                self.bindings.retain(|b| b.0.source != name);
                let mut events = vec![RouteEvent::Gone { ns: NS, name: name.clone() }];
                let leads = |b: &BindingDef| b.target.kind == TargetKind::Exchange && b.target.name == name;
                let gone = self.bindings.extract_if(.., |b| leads(&b.0));
                events.extend(gone.map(|b| RouteEvent::Unbound(Arc::new(b.0))));
                events
            }
            Change::Bound(def) => {
                let target = &def.target;
                let found = target.kind == TargetKind::Queue || self.kind(&target.name).is_some();
                let new = !self.bindings.iter().any(|b| b.0 == *def);
                if self.kind(&def.source).is_none() || !found || !new {
                    return Vec::new();
                }
                self.bindings.push((def.clone(), crate::exchanges::arguments_of(&def.arguments).unwrap()));
                vec![RouteEvent::Bound(Arc::new(def.clone()))]
            }
            Change::Unbound(n) if !self.bindings.is_empty() => {
                let gone = self.bindings.remove(n % self.bindings.len());
                vec![RouteEvent::Unbound(Arc::new(gone.0))]
            }
            _ => Vec::new(),
        }
    }

    /// `None`: there is no such exchange.
    pub(super) fn route(&self, from: &str, keys: &[&str], headers: &[Header]) -> Option<BTreeSet<String>> {
        let mut found = BTreeSet::new();
        let (mut way, mut at) = (vec![from.to_owned()], 0);
        while let Some(here) = way.get(at).cloned() {
            at += 1;
            if here.is_empty() {
                let known = |k: &&&str| ["q0", "q1", "q2", "q3"].contains(*k);
                found.extend(keys.iter().filter(known).map(|k| (*k).to_owned()));
                continue;
            }
            let Some(kind) = self.kind(&here) else {
                if at == 1 {
                    return None;
                }
                continue;
            };
            let mut routed = false;
            for (def, arguments) in self.bindings.iter().filter(|b| b.0.source == here) {
                let met = match kind {
                    ExchangeType::Direct => keys.contains(&&*def.key),
                    ExchangeType::Fanout => true,
                    ExchangeType::Topic => keys.iter().any(|k| matches(&words(&def.key), &words(k))),
                    ExchangeType::Headers => headers_match(arguments, headers),
                };
                if met {
                    routed = true;
                    match def.target.kind {
                        TargetKind::Exchange if way.contains(&def.target.name) => {}
                        TargetKind::Exchange => way.push(def.target.name.clone()),
                        _ => drop(found.insert(def.target.name.clone())),
                    }
                }
            }
            let alternate = self.exchanges.iter().find(|e| e.name == here).and_then(|e| e.alternate.clone());
            way.extend(alternate.filter(|a| !routed && !way.contains(a)));
        }
        Some(found)
    }
}

fn words(key: &str) -> Vec<&str> {
    if key.is_empty() { Vec::new() } else { key.split('.').collect() }
}

fn matches(pattern: &[&str], words: &[&str]) -> bool {
    match (pattern, words) {
        ([], []) => true,
        (["#", rest @ ..], _) => (0..=words.len()).any(|n| matches(rest, &words[n..])),
        (["*", rest @ ..], [_, words @ ..]) => matches(rest, words),
        ([a, rest @ ..], [b, words @ ..]) => a == b && matches(rest, words),
        _ => false,
    }
}

fn headers_match(arguments: &[Header], headers: &[Header]) -> bool {
    let kind = arguments.iter().find(|a| a.name == "x-match").map(|a| &a.value);
    let kind = match kind {
        Some(HeaderValue::Str(s)) => s.as_str(),
        _ => "all",
    };
    let asked = |a: &&Header| a.name != "x-match" && (kind.ends_with("-with-x") || !a.name.starts_with("x-"));
    let has = |a: &Header| {
        headers.iter().any(|h| h.name == a.name && (a.value == HeaderValue::Null || same(&a.value, &h.value)))
    };
    let mut asked = arguments.iter().filter(asked);
    if kind.starts_with("any") { asked.any(has) } else { asked.all(has) }
}

/// Values as text, by the kind of thing they are.
fn same(a: &HeaderValue, b: &HeaderValue) -> bool {
    let plain = |v: &HeaderValue| match v {
        HeaderValue::I8(v) => format!("number {v}"),
        HeaderValue::U64(v) => format!("number {v}"),
        HeaderValue::F32(v) => format!("number {}", v + 0.0),
        HeaderValue::F64(v) => format!("number {}", v + 0.0),
        HeaderValue::Str(v) => format!("text {v}"),
        HeaderValue::Bytes(v) => format!("text {}", String::from_utf8_lossy(v)),
        other => format!("{other:?}"),
    };
    plain(a) == plain(b)
}
