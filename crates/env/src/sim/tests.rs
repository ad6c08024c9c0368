//! Tests of the simulated machine beyond the contract.

#![allow(clippy::pedantic, clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::collections::BTreeSet;
use std::io::{ErrorKind, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::*;
use crate::{AlignedBuf, Disk, Env, File, OpenMode};

mod faults;
mod power;

fn sim() -> (Arc<SimDisk>, ()) {
    (SimDisk::new(1), ())
}

fn sim_with_small_sectors() -> (Arc<SimDisk>, ()) {
    (SimDisk::with_small_sectors(1), ())
}

crate::disk_contract!(contract, sim);
crate::disk_contract!(contract_with_small_sectors, sim_with_small_sectors);

fn write(file: &dyn File, offset: u64, bytes: &[u8]) {
    file.write_at(offset, &[IoSlice::new(bytes)]).unwrap();
}

/// A disk with a durable file `f` of those bytes, and the file.
fn with_file(seed: u64, bytes: &[u8]) -> (Arc<SimDisk>, Arc<dyn File>) {
    let disk = SimDisk::new(seed);
    let file = disk.open("f", OpenMode::CreateNew).unwrap();
    write(&*file, 0, bytes);
    file.sync_data().unwrap();
    disk.sync_dir("").unwrap();
    (disk, file)
}

/// Fills a sector-sized block.
fn block(byte: u8) -> Vec<u8> {
    vec![byte; 4096]
}

#[test]
fn the_clock_moves_only_when_told() {
    let clock = SimClock::new();
    let (wall, mono) = (crate::Clock::wall_ms(&clock), crate::Clock::mono_ns(&clock));
    clock.advance(Duration::from_millis(1500));
    assert_eq!(crate::Clock::wall_ms(&clock), wall + 1500);
    assert_eq!(crate::Clock::mono_ns(&clock), mono + 1_500_000_000);
    clock.set_wall_ms(7);
    assert_eq!(crate::Clock::wall_ms(&clock), 7);
    assert_eq!(crate::Clock::mono_ns(&clock), mono + 1_500_000_000);
}

#[test]
fn random_numbers_follow_the_seed() {
    let draw = |seed| {
        let (env, _, _) = Env::sim(seed);
        let mut odd = [0; 13];
        env.rng.fill(&mut odd);
        (odd, env.rng.next_u64())
    };
    assert_eq!(draw(5), draw(5));
    assert_ne!(draw(5), draw(6));
}

/// A workload with un-synced writes, names and faults, over several boots; gives all that can be seen.
fn history(seed: u64) -> Vec<u8> {
    let mut seen = Vec::new();
    let (_, mut disk, _) = Env::sim(seed);
    for boot in 0..20_u8 {
        disk.create_dir_all("d/e").unwrap();
        disk.inject(Fault::new(Call::Write).after(2));
        for at in 0..5_u64 {
            let path = format!("d/{boot}-{at}");
            if let Ok(file) = disk.open(&path, OpenMode::CreateNew) {
                let result = file.write_at(at * 1000, &[IoSlice::new(&[boot; 20_000])]);
                seen.push(u8::from(result.is_ok()));
                if at % 2 == 0 {
                    file.sync_data().unwrap();
                }
                write(&*file, 0, b"head");
            }
            if at == 2 {
                disk.sync_dir("d").unwrap();
                disk.sync_dir("").unwrap();
            }
            if at == 3 {
                disk.rename(&path, "d/e/moved").unwrap();
            }
        }
        disk = if boot % 3 == 0 { disk.kill() } else { disk.crash() };
        for name in disk.list("d").unwrap_or_default() {
            seen.extend_from_slice(name.as_bytes());
            seen.extend(disk.contents(&format!("d/{name}")).unwrap());
        }
    }
    seen
}

#[test]
fn the_same_seed_and_calls_give_the_same_results() {
    for seed in 0..5 {
        assert!(history(seed) == history(seed));
    }
    assert!(history(1) != history(2));
}
