#![allow(clippy::pedantic, clippy::unwrap_used)]

use std::future::Future;
use std::task::{Context, Poll, Waker};

use super::*;

const MIB: usize = 1 << 20;

fn gate(publish: u64, settle: u64, full: bool) -> Gate {
    let gate = Gate::new(16 * MIB);
    gate.set_room(room(publish, settle, full));
    gate
}

fn room(publish_bytes: u64, settle_bytes: u64, full: bool) -> Room {
    Room { full, publish_bytes, settle_bytes, settle_record_bytes: 8 << 20, ..Room::ENDLESS }
}

fn poll<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Poll<T> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn near_the_end_records_go_one_by_one() {
    let gate = gate(4 << 20, u64::MAX, false);
    let first = gate.try_admit(Class::Publish, 1000).unwrap();
    assert_eq!(gate.try_admit(Class::Publish, 1000).unwrap_err(), AdmitError::Busy);
    let mut second = std::pin::pin!(gate.admit(Class::Publish, 1000));
    assert!(poll(second.as_mut()).is_pending());
    drop(first);
    assert!(matches!(poll(second.as_mut()), Poll::Ready(Ok(_))));
    assert_eq!(gate.try_admit(Class::Publish, 5 * MIB).unwrap_err(), AdmitError::DiskFull);
    assert!(gate.is_pressed() && !gate.is_full());
}

#[test]
fn who_waited_in_line_while_the_disk_filled_is_refused() {
    let gate = gate(4 << 20, u64::MAX, false);
    let first = gate.try_admit(Class::Publish, 1000).unwrap();
    let mut second = std::pin::pin!(gate.admit(Class::Publish, 1000));
    assert!(poll(second.as_mut()).is_pending());
    gate.set_room(room(0, u64::MAX, true));
    drop(first);
    assert!(matches!(poll(second.as_mut()), Poll::Ready(Err(AdmitError::DiskFull))));
    assert_eq!(gate.refused(), 1);
}

#[test]
fn who_waited_for_little_takes_all_when_the_disk_came_near_its_end() {
    let gate = gate(u64::MAX, u64::MAX, false);
    let all = gate.try_admit(Class::Publish, 16 * MIB).unwrap();
    let mut waiting = std::pin::pin!(gate.admit(Class::Publish, 1000));
    assert!(poll(waiting.as_mut()).is_pending());
    gate.set_room(room(4 << 20, u64::MAX, false));
    drop(all);
    let Poll::Ready(Ok(permit)) = poll(waiting.as_mut()) else { panic!() };
    assert_eq!(gate.try_admit(Class::Publish, 1).unwrap_err(), AdmitError::Busy);
    drop(permit);
}

#[test]
fn settling_waits_for_files_and_goes_on_when_they_come() {
    let gate = gate(0, 0, true);
    assert_eq!(gate.try_admit(Class::Settle, 100).unwrap_err(), AdmitError::Busy);
    let mut waiting = std::pin::pin!(gate.admit(Class::Reclaim, 100));
    assert!(poll(waiting.as_mut()).is_pending());
    gate.set_room(room(0, 4 << 20, true));
    assert!(matches!(poll(waiting.as_mut()), Poll::Ready(Ok(_))));
    assert_eq!(gate.refused(), 0);
}

#[test]
fn a_record_that_a_full_disk_never_has_room_for_is_refused_and_does_not_wait() {
    let gate = gate(0, 4 << 20, true);
    assert_eq!(gate.try_admit(Class::Settle, 9 * MIB).unwrap_err(), AdmitError::DiskFull);
    assert_eq!(gate.try_admit(Class::Settle, 6 * MIB).unwrap_err(), AdmitError::Busy);
    assert!(gate.try_admit(Class::Settle, MIB).is_ok());
}

#[test]
fn closing_ends_every_wait() {
    let gate = gate(0, 0, true);
    let mut waiting = std::pin::pin!(gate.admit(Class::Settle, 100));
    assert!(poll(waiting.as_mut()).is_pending());
    gate.close();
    assert!(matches!(poll(waiting.as_mut()), Poll::Ready(Err(AdmitError::Closed))));
}
