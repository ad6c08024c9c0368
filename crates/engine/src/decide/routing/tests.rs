//! What a queue's removal does.

use millstream_types::Lsn;

use super::*;

const NS: Namespace = Namespace::DEFAULT;

fn world(exchanges: &[(&str, bool)], bindings: &[(&str, TargetKind, &str)]) -> State {
    let mut state = State::default();
    for (name, auto_delete) in exchanges {
        let row = ExchangeRow {
            kind: crate::exchange::ExchangeType::Fanout,
            durable: true,
            auto_delete: *auto_delete,
            internal: false,
            alternate: None,
            arguments: Vec::new(),
            created_ms: 1,
        };
        let effect = exchange::effect(&ExchangeKey::new(NS, name), Some(&row));
        state.effect(Lsn(1), &effect.key, &effect.bytes).unwrap();
    }
    for (source, kind, name) in bindings {
        let def = BindingDef {
            ns: NS,
            source: (*source).to_owned(),
            target: Target { kind: *kind, name: (*name).to_owned() },
            key: String::new(),
            arguments: Vec::new(),
        };
        let effect = bind::effect(&BindKey::of(&def), Some(&BindRow::of(&def)));
        state.effect(Lsn(1), &effect.key, &effect.bytes).unwrap();
    }
    state.record_end(Lsn(1));
    state
}

#[test]
fn a_queue_takes_its_bindings_with_it_and_the_exchanges_that_lived_by_them() {
    use TargetKind::{Exchange, Queue};
    let mut state = world(
        &[("plain", false), ("auto", true), ("above", true), ("other", true)],
        &[
            ("plain", Queue, "q"),
            ("auto", Queue, "q"),
            ("above", Exchange, "auto"),
            ("other", Queue, "q"),
            ("other", Queue, "stays"),
        ],
    );
    let index = Index::of(&state);
    let mut draft = Draft::new(&state, &index, 2);
    draft.target_gone(NS, &Target { kind: Queue, name: "q".to_owned() });
    let bytes = draft.bytes();
    let plan = draft.finish(bytes).unwrap();
    let ops: Vec<_> = plan.effects.iter().map(RowEffect::op).collect();
    state.record(Lsn(2), &ops);
    let left: Vec<_> = state.exchange.iter().map(|(k, _)| k.name.clone()).collect();
    assert_eq!(left, ["other", "plain"]);
    let left: Vec<_> =
        state.bind.iter().map(|(k, r)| (k.source.to_string(), r.target.name.clone())).collect();
    assert_eq!(left, [("other".to_owned(), "stays".to_owned())]);
    let mut followed = index;
    plan.steps.iter().for_each(|step| followed.changed(step));
    assert_eq!((followed.exchanges(), followed.bindings()), (2, 1));
    assert_eq!(followed.from(&ExchangeKey::new(NS, "other")), 1);
}

#[test]
fn a_plan_that_does_not_fit_its_room_says_how_much_it_needs() {
    let state = world(&[("e", false)], &[("e", TargetKind::Queue, "q")]);
    let index = Index::of(&state);
    let target = Target { kind: TargetKind::Queue, name: "q".to_owned() };
    let plan = |room| {
        let mut draft = Draft::new(&state, &index, 2);
        draft.target_gone(NS, &target);
        draft.finish(room)
    };
    let Err(RoutingError::Room { bytes }) = plan(10) else { panic!("it fitted") };
    assert!(plan(bytes).is_ok());
}

#[test]
fn a_target_has_a_limit_of_bindings() {
    let state = world(&[("e", false)], &[]);
    let index = Index::of(&state);
    let mut draft = Draft::new(&state, &index, 2);
    let bind = |n: usize| BindingDef {
        ns: NS,
        source: "e".to_owned(),
        target: Target { kind: TargetKind::Exchange, name: "amq.fanout".to_owned() },
        key: n.to_string(),
        arguments: Vec::new(),
    };
    for n in 0..TARGET_BINDINGS_MAX {
        assert_eq!(draft.bind(&bind(n)), Ok(true));
    }
    let more = draft.bind(&bind(TARGET_BINDINGS_MAX));
    assert!(matches!(more, Err(RoutingError::TooMany { max: TARGET_BINDINGS_MAX, .. })), "{more:?}");
    assert_eq!(draft.bind(&bind(0)), Ok(false));
    assert!(draft.unbind(&bind(0)));
    assert_eq!(draft.bind(&bind(TARGET_BINDINGS_MAX)), Ok(true));
}
