//! Room for records: what is admitted when.

use bytes::Bytes;
use millstream_log::{AdmitError, Class};
use millstream_types::Lsn;
use millstream_types::limits::{OP_BYTES_MAX, RECORD_BYTES_MAX};

use super::kit::{A, body, one, open};
use crate::block_on::{block_on, ready, until};
use crate::under::LogUnderTest;

const QUARTER: usize = 2 << 20;

/// See the name.
pub fn room_is_given_back_when_the_record_is_durable(under: &dyn LogUnderTest) {
    let mut log = open(under);
    let Some(hold) = under.hold() else { return };
    let gate = log.opened.gate.clone();
    let mut last = Lsn(0);
    for pos in 0..4 {
        let permit = gate.try_admit(Class::Publish, QUARTER).unwrap();
        last = log.opened.sequencer.sequence(permit, &[one(A, pos, &body(A, pos))], None);
    }
    log.opened.sequencer.end_turn();
    assert_eq!(gate.try_admit(Class::Publish, 1_000).unwrap_err(), AdmitError::Busy);
    let waiting = gate.admit(Class::Publish, QUARTER);
    drop(hold);
    log.durable(last);
    let permit = block_on(waiting).unwrap();
    drop(permit);
    // A permit that is dropped unused gives its room back too.
    until("all room is back", || gate.try_admit(Class::Publish, 4 * QUARTER).is_ok());
}

/// See the name.
pub fn settling_goes_on_while_publishers_wait(under: &dyn LogUnderTest) {
    let mut log = open(under);
    let gate = log.opened.gate.clone();
    let taken: Vec<_> = (0..4).map(|_| gate.try_admit(Class::Publish, QUARTER).unwrap()).collect();
    assert!(ready(gate.admit(Class::Publish, 1)).is_none());
    for class in [Class::Settle, Class::Reclaim] {
        let permit = gate.try_admit(class, 10_000).unwrap();
        assert_eq!((permit.class, permit.bytes), (class, 10_000));
        let effect = millstream_log::Op::Effect { object: b"o", bytes: b"e" };
        let lsn = log.opened.sequencer.sequence(permit, &[effect], None);
        log.opened.sequencer.end_turn();
        log.durable(lsn);
    }
    drop(taken);
    assert!(gate.try_admit(Class::Publish, 1).is_ok());
}

/// See the name.
pub fn a_full_disk_stops_only_publishing(under: &dyn LogUnderTest) {
    let log = open(under);
    let gate = log.opened.gate.clone();
    gate.set_full(true);
    assert!(gate.is_full());
    assert!(matches!(ready(gate.admit(Class::Publish, 1)), Some(Err(AdmitError::DiskFull))));
    assert!(gate.try_admit(Class::Settle, 1).is_ok() && gate.try_admit(Class::Reclaim, 1).is_ok());
    gate.set_full(false);
    assert!(gate.try_admit(Class::Publish, 1).is_ok());
}

/// See the name.
pub fn a_record_larger_than_all_room_is_admitted_alone(under: &dyn LogUnderTest) {
    let mut log = open(under);
    let gate = log.opened.gate.clone();
    let small = gate.try_admit(Class::Publish, 1).unwrap();
    assert_eq!(gate.try_admit(Class::Publish, 12 << 20).unwrap_err(), AdmitError::Busy);
    drop(small);
    let large = gate.try_admit(Class::Publish, 12 << 20).unwrap();
    assert_eq!(gate.try_admit(Class::Publish, 1).unwrap_err(), AdmitError::Busy);
    let pieces: Vec<[Bytes; 1]> = (0..20u8).map(|i| [Bytes::from(vec![i; 450_000])]).collect();
    let record: Vec<_> = pieces.iter().zip(0..).map(|(p, pos)| one(A, pos, p)).collect();
    let lsn = log.opened.sequencer.sequence(large, &record, None);
    log.opened.sequencer.end_turn();
    log.durable(lsn);
    assert_eq!(log.positions(A).len(), 20);
    until("the room is back", || gate.try_admit(Class::Publish, 1).is_ok());
}

/// See the name.
pub fn a_record_over_the_limit_is_refused(under: &dyn LogUnderTest) {
    let log = open(under);
    let refused = log.opened.gate.try_admit(Class::Publish, RECORD_BYTES_MAX + 1).unwrap_err();
    assert_eq!(refused, AdmitError::TooLarge { bytes: RECORD_BYTES_MAX + 1, max: RECORD_BYTES_MAX });
}

/// See the name.
pub fn the_largest_operation_that_the_log_names_is_taken(under: &dyn LogUnderTest) {
    let mut log = open(under);
    let max = log.opened.gate.op_bytes_max();
    assert!((256 << 10..=OP_BYTES_MAX).contains(&max), "{max}");
    // Its header, two bytes of attributes, and what rounds it up.
    let body = [Bytes::from(vec![7; max - 48])];
    for pos in 0..4 {
        let lsn = log.turn(&[one(A, pos, &body)]);
        log.durable(lsn);
    }
    assert!(log.all(A, 0).unwrap().iter().all(|e| e.body == body[0]));
}

/// See the name.
pub fn a_stopped_log_admits_nothing(under: &dyn LogUnderTest) {
    let log = open(under);
    let gate = log.opened.gate.clone();
    let taken = gate.try_admit(Class::Publish, 4 * QUARTER).unwrap();
    let waiting = gate.admit(Class::Publish, 1);
    drop(log);
    assert_eq!(block_on(waiting).unwrap_err(), AdmitError::Closed);
    assert_eq!(gate.try_admit(Class::Reclaim, 1).unwrap_err(), AdmitError::Closed);
    drop(taken);
}
