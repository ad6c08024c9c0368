//! One history: clients, faults and restarts by seed, and the checks in between.

use std::collections::{BTreeMap, HashMap};
use std::ops::AddAssign;
use std::sync::Arc;

use millstream_broker::group::{GroupOp, GroupReply};
use millstream_broker::{
    AdminError, Broker, BrokerConfig, CallError, OpenError, PartitionView, Principal, ReadError, Session,
    SessionOptions, StreamBatch,
};
use millstream_testkit::seeds::Dice;
use millstream_testkit::under::LogUnderTest;
use millstream_types::{LogId, Namespace};

use crate::book::{Id, Violation};
use crate::clients::{Clients, new_topic};
use crate::must;
use crate::queues::QueueClients;
use crate::steps::Workers;

const STEPS: u64 = 280;
/// A history that takes longer waits for an answer that never comes: brokers that are broken on purpose do that too.
const HISTORY_TIME: std::time::Duration = std::time::Duration::from_secs(60);
const SESSIONS: usize = 3;
const TOPICS: [&str; 3] = ["orders", "payments", "audit"];
/// Each has its own session: commits of one group stay in order.
const GROUPS: [&str; SESSIONS] = ["g0", "g1", "g2"];

/// What histories came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub crashes: u64,
    pub restarts: u64,
    pub acknowledged: u64,
    pub unknown: u64,
    pub duplicates: u64,
    pub transacted: u64,
    /// Entries compared after openings.
    pub checked: u64,
    /// Of queues.
    pub delivered: u64,
    pub ended: u64,
    pub buried: u64,
    /// Of workers.
    pub steps: u64,
    pub late: u64,
    /// Packs that the log wrote, where its openings ended by themselves.
    pub merges: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, o: Self) {
        self.crashes += o.crashes;
        self.restarts += o.restarts;
        self.acknowledged += o.acknowledged;
        self.unknown += o.unknown;
        self.duplicates += o.duplicates;
        self.transacted += o.transacted;
        self.checked += o.checked;
        self.delivered += o.delivered;
        self.ended += o.ended;
        self.buried += o.buried;
        self.steps += o.steps;
        self.late += o.late;
        self.merges += o.merges;
    }
}

/// Runs one seed.
pub fn run(seed: u64, machine: &dyn LogUnderTest) -> Result<Tally, Violation> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let history = async {
        let mut world = World::new(seed, machine).await?;
        for _ in 0..STEPS {
            world.step().await?;
        }
        world.stop(End::Clean).await?;
        world.start().await?;
        world.drain().await?;
        world.stop(End::Clean).await?;
        (world.tally.delivered, world.tally.ended) = (world.queues.delivered, world.queues.ended);
        world.tally.buried = world.queues.buried;
        (world.tally.steps, world.tally.late) = (world.workers.steps, world.workers.late);
        world.tally.acknowledged = world.clients.acknowledged;
        world.tally.duplicates = world.clients.duplicates;
        world.tally.unknown = world.clients.unknown;
        world.tally.transacted = world.clients.transacted;
        Ok(world.tally)
    };
    let in_time = async { tokio::time::timeout(HISTORY_TIME, history).await };
    runtime.block_on(in_time).unwrap_or_else(|_| Err("something is not answered".to_owned()))
}

#[derive(Clone, Copy, PartialEq)]
enum End {
    Clean,
    Cut,
    Kill,
}

/// What is known of a topic.
#[derive(Clone, Copy, PartialEq)]
enum Known {
    Absent,
    Present([u8; 16]),
    /// The answer was lost.
    Open,
}

struct Up {
    broker: Broker,
    sessions: Vec<Session>,
}

struct World<'a> {
    machine: &'a dyn LogUnderTest,
    dice: Dice,
    up: Option<Up>,
    clients: Clients,
    queues: QueueClients,
    workers: Workers,
    topics: BTreeMap<&'static str, Known>,
    tally: Tally,
    cluster_id: Option<String>,
    /// Something was broken on purpose since the machine last started: the broker may be lost.
    broken: bool,
}

impl<'a> World<'a> {
    async fn new(seed: u64, machine: &'a dyn LogUnderTest) -> Result<Self, Violation> {
        let mut world = Self {
            machine,
            dice: Dice::new(seed),
            up: None,
            clients: Clients::default(),
            queues: QueueClients::default(),
            workers: Workers::default(),
            topics: TOPICS.iter().map(|name| (*name, Known::Absent)).collect(),
            tally: Tally::default(),
            cluster_id: None,
            broken: false,
        };
        if world.dice.once_in(4) {
            machine.slow_syncs(std::time::Duration::from_millis(1));
        }
        world.start().await?;
        Ok(world)
    }

    fn broker(&self) -> &Broker {
        &self.up.as_ref().expect("up between restarts").broker
    }

    /// Whether nothing can be expected of the broker any more.
    fn is_lost(&self) -> bool {
        self.broker().lost().is_some() || self.machine.is_off()
    }

    /// The partitions of the topics that are there for certain.
    fn parts(&self) -> Vec<Arc<PartitionView>> {
        let catalogue = self.broker().catalogue();
        let mut parts = Vec::new();
        for known in self.topics.values() {
            if let Known::Present(uuid) = known
                && let Some(topic) = catalogue.by_uuid.get(uuid)
            {
                parts.extend(topic.partitions.iter().cloned());
            }
        }
        parts
    }

    async fn step(&mut self) -> Result<(), Violation> {
        let parts = self.parts();
        let logs: Vec<LogId> = parts.iter().map(|p| p.log).collect();
        let n = self.dice.below(SESSIONS as u64) as usize;
        let Some(up) = &self.up else { return Err("down between steps".to_owned()) };
        let session = &up.sessions[n];
        match self.dice.below(220) {
            190.. => {
                if self.machine.is_off() || up.broker.lost().is_some() {
                    return self.recover().await;
                }
                self.workers.step(&mut self.dice, &up.broker).await?;
            }
            100..190 => {
                // A machine that went answers nothing more: the clients see that when it is started again.
                if self.machine.is_off() || up.broker.lost().is_some() {
                    return self.recover().await;
                }
                self.queues.step(&mut self.dice, &up.broker).await?;
            }
            0..=29 if !logs.is_empty() => {
                self.clients.produce_singles(&mut self.dice, session, &logs).await;
            }
            30..=54 if !logs.is_empty() => {
                // A producer's batches stay in one session: that is what keeps them in order.
                self.clients.produce_batch(&mut self.dice, &up.sessions[0], &logs).await?;
            }
            55..=61 if !logs.is_empty() => {
                let part = *self.dice.of(&logs);
                self.clients.commit_offset(session, GROUPS[n], part).await;
            }
            62..=66 if !logs.is_empty() => {
                self.clients.transact(&mut self.dice, session, GROUPS[n], &logs).await;
            }
            67..=68 if !parts.is_empty() => {
                let part = Arc::clone(self.dice.of(&parts));
                let (start, end) = (part.start(), part.visible_end());
                let before = start + self.dice.below(end - start + 1);
                self.clients.trim(session, part.log, before).await;
            }
            69..=79 if !parts.is_empty() => {
                let part = Arc::clone(self.dice.of(&parts));
                self.read(&part).await?;
            }
            80..=87 => {
                let n = 1 + self.dice.below(12) as usize;
                self.clients.answers(n).await?;
            }
            88..=89 => drop(self.fetch_offsets(n).await?),
            90 => {
                let by = self.dice.below(60_000);
                self.machine.advance(std::time::Duration::from_millis(by));
            }
            91..=92 => self.delete_or_create(n).await?,
            93 => self.restart(End::Clean).await?,
            94 => self.restart(End::Cut).await?,
            95 => self.restart(End::Kill).await?,
            96..=97 => {
                self.broken = true;
                self.machine.cut_after(self.dice.below(20));
            }
            98 => {
                self.broken = true;
                self.machine.disturb(self.dice.below(1 << 32));
            }
            _ => self.create(n).await?,
        }
        self.recover().await
    }

    /// Starts again what was lost.
    async fn recover(&mut self) -> Result<(), Violation> {
        if let Some(lost) = self.up.as_ref().and_then(|up| up.broker.lost()) {
            must!(self.broken, "the broker was lost, and nothing was broken: {lost:?}");
            let how = if self.dice.once_in(2) { End::Cut } else { End::Kill };
            self.restart(how).await?;
        }
        Ok(())
    }

    /// Looks at every message that is left in a queue.
    async fn drain(&mut self) -> Result<(), Violation> {
        let up = self.up.as_ref().expect("up between restarts");
        self.queues.drain(&up.broker, || self.machine.advance(std::time::Duration::from_secs(1))).await?;
        self.workers.drain(&up.broker).await
    }

    async fn create(&mut self, n: usize) -> Result<(), Violation> {
        let absent: Vec<_> =
            self.topics.iter().filter(|(_, k)| **k == Known::Absent).map(|(n, _)| *n).collect();
        if absent.is_empty() {
            return Ok(());
        }
        let name = *self.dice.of(&absent);
        let new = new_topic(&mut self.dice, name);
        let partitions = new.partitions;
        let known = match self.up.as_ref().unwrap().sessions[n].create_topic(new).await {
            Ok(topic) => {
                must!(topic.partitions.len() as u32 == partitions.unwrap(), "another number of partitions");
                Known::Present(topic.def.uuid)
            }
            Err(AdminError::Call(CallError::FateUnknown)) => Known::Open,
            Err(AdminError::Call(CallError::Refused(_))) => Known::Absent,
            Err(e) => return Err(format!("{name} is not there and is not made: {e}")),
        };
        self.topics.insert(name, known);
        Ok(())
    }

    async fn delete_or_create(&mut self, n: usize) -> Result<(), Violation> {
        let name = *self.dice.of(&TOPICS);
        let Known::Present(uuid) = self.topics[name] else { return self.create(n).await };
        let known = match self.up.as_ref().unwrap().sessions[n].delete_topic(uuid).await {
            Ok(()) => Known::Absent,
            Err(AdminError::Call(CallError::FateUnknown)) => Known::Open,
            Err(AdminError::Call(CallError::Refused(_))) => Known::Present(uuid),
            Err(e) => return Err(format!("{name} is there and is not deleted: {e}")),
        };
        self.topics.insert(name, known);
        Ok(())
    }

    /// Reads somewhere, as a consumer does.
    async fn read(&mut self, part: &Arc<PartitionView>) -> Result<(), Violation> {
        let (start, end) = (part.start(), part.visible_end());
        let from = start + self.dice.below(end - start + 1);
        let bytes = self.dice.below(3_000) as usize;
        if let Some(batch) = self.fetch(part, from, bytes).await? {
            must!(!batch.entries.is_empty() || from >= end, "nothing at {from} in {start}..{end}");
            self.clients.parts.entry(part.log).or_default().read(from, &batch.entries, batch.next)?;
        }
        self.clients.parts.entry(part.log).or_default().ends(start, end)
    }

    /// `None`: it was trimmed meanwhile, or the broker is lost.
    async fn fetch(
        &self,
        part: &Arc<PartitionView>,
        from: u64,
        bytes: usize,
    ) -> Result<Option<StreamBatch>, Violation> {
        match self.broker().streams().fetch(part, from, bytes).await {
            Ok(batch) => Ok(Some(batch)),
            Err(_) if self.is_lost() => Ok(None),
            Err(ReadError::Trimmed { start }) => {
                let most = self.clients.parts.get(&part.log).map_or(0, |p| p.trimmed.1);
                must!(
                    start > from && start <= most,
                    "trimmed to {start}, asked for was {most}, read from {from}"
                );
                Ok(None)
            }
            Err(e) => Err(format!("a read of {:?} from {from}: {e}", part.log)),
        }
    }

    async fn fetch_offsets(&mut self, n: usize) -> Result<HashMap<LogId, u64>, Violation> {
        let parts: Vec<LogId> = self.parts().iter().map(|p| p.log).collect();
        let op =
            GroupOp::FetchOffsets { ns: Namespace::DEFAULT, group: GROUPS[n].to_owned(), parts: Some(parts) };
        let mut found = HashMap::new();
        match self.up.as_ref().unwrap().sessions[n].group(op).await {
            Ok(GroupReply::Offsets(offsets)) => {
                for (part, committed) in offsets {
                    let known = self.clients.offsets.entry((GROUPS[n].to_owned(), part)).or_default();
                    if let Some(c) = &committed {
                        must!(
                            c.metadata == format!("m{}", c.offset),
                            "offset {} with {:?}",
                            c.offset,
                            c.metadata
                        );
                    }
                    let offset = committed.map_or(0, |c| c.offset);
                    known.seen(offset).map_err(|v| format!("group {} at {part:?}: {v}", GROUPS[n]))?;
                    found.insert(part, offset);
                }
            }
            Ok(other) => return Err(format!("an answer of another kind: {other:?}")),
            Err(_) => {}
        }
        Ok(found)
    }

    async fn restart(&mut self, how: End) -> Result<(), Violation> {
        if how == End::Clean && self.dice.once_in(2) {
            self.check().await.map_err(|v| format!("while it serves: {v}"))?;
        }
        self.stop(how).await?;
        self.start().await
    }

    async fn stop(&mut self, how: End) -> Result<(), Violation> {
        let before = self.clients.unknown;
        let sound = how == End::Clean && !self.is_lost();
        match how {
            End::Clean => {}
            End::Cut => drop(self.machine.crash()),
            End::Kill => drop(self.machine.kill() || self.machine.crash()),
        }
        let up = self.up.take().expect("up between restarts");
        self.tally.merges += up.broker.log_stats().merges();
        up.broker.close();
        self.clients.answers(usize::MAX).await?;
        self.queues.broker_went(&up.broker).await?;
        self.workers.broker_went();
        let lost = up.broker.lost().is_some() || self.machine.is_off();
        must!(!sound || lost || self.clients.unknown == before, "a clean stop left operations unanswered");
        self.clients.broker_went();
        if how == End::Clean {
            self.tally.restarts += 1;
        } else {
            self.tally.crashes += 1;
            self.broken = false;
        }
        Ok(())
    }

    async fn start(&mut self) -> Result<(), Violation> {
        let mut cuts = if self.dice.once_in(4) { 2 } else { 0 };
        let broker = loop {
            if cuts > 0 {
                self.machine.cut_after(self.dice.below(30));
            }
            let cfg = BrokerConfig { log: self.machine.config(), ..BrokerConfig::default() };
            match Broker::open(cfg, self.machine.env(), &*self.machine.store()) {
                Ok(broker) => {
                    self.machine.cut_after(u64::MAX);
                    if !self.machine.is_off() {
                        break broker;
                    }
                    broker.close();
                }
                Err(OpenError::Io { .. } | OpenError::Store(_)) => cuts -= 1,
                Err(e) => return Err(format!("does not open: {e}")),
            }
            must!(self.machine.crash(), "an opening failed without a cut");
            self.tally.crashes += 1;
        };
        let id = broker.cluster_id().to_owned();
        let before = self.cluster_id.get_or_insert_with(|| id.clone());
        must!(*before == id, "the cluster's id was {before}, now it is {id}");
        let session =
            |_| broker.session(Principal::anonymous(), Namespace::DEFAULT, SessionOptions::default());
        let sessions = (0..SESSIONS).map(session).collect();
        self.queues.broker_came(&broker);
        self.workers.broker_came(&broker);
        self.up = Some(Up { broker, sessions });
        let found = self.broker().open_report().clone();
        self.check().await.map_err(|v| format!("after opening ({found:?}): {v}"))
    }

    /// Compares everything that can be read with everything that is known.
    async fn check(&mut self) -> Result<(), Violation> {
        self.clients.answers(usize::MAX).await?;
        let catalogue = self.broker().catalogue();
        for (name, known) in &mut self.topics {
            let found = catalogue.by_name.get(&(Namespace::DEFAULT, (*name).to_owned())).map(|t| t.def.uuid);
            match (*known, found) {
                (Known::Absent, Some(_)) => {
                    return Err(format!("topic {name} was deleted or never made, and is there"));
                }
                (Known::Present(uuid), _) => {
                    must!(found == Some(uuid), "topic {name} is gone or another one")
                }
                (Known::Absent, None) => {}
                (Known::Open, _) => *known = found.map_or(Known::Absent, Known::Present),
            }
        }
        let mut places: HashMap<Id, u64> = HashMap::new();
        let mut whole = HashMap::new();
        for part in self.parts() {
            let Some((start, there)) = self.check_part(&part).await? else { return Ok(()) };
            whole.insert(part.log, start == 0);
            places.extend(there);
        }
        let up = self.up.as_ref().expect("up between restarts");
        self.workers.check(&up.broker).await?;
        let mut offsets = Vec::new();
        for n in 0..GROUPS.len() {
            offsets.push(self.fetch_offsets(n).await?);
        }
        if self.is_lost() {
            return Ok(());
        }
        for tx in &self.clients.transactions {
            let (group, part, offset) = &tx.offset;
            let group = GROUPS.iter().position(|g| g == group).unwrap();
            // Where something was trimmed or deleted nobody can tell.
            if !tx.appends.iter().all(|(part, _)| whole.get(part) == Some(&true)) {
                continue;
            }
            let there = tx.appends.iter().filter(|(_, id)| places.contains_key(id)).count();
            must!(there == 0 || there == 2, "half of a transaction is there: {:?}", tx.appends);
            if let Some(committed) = offsets[group].get(part) {
                if there == 2 {
                    must!(committed >= offset, "a transaction is there without its offset {offset}");
                } else {
                    must!(committed != offset, "the offset {offset} of a transaction is there without it");
                }
            }
            must!(tx.fate.is_none_or(|done| done == (there == 2)), "a transaction's answer was wrong");
        }
        Ok(())
    }

    async fn check_part(
        &mut self,
        part: &Arc<PartitionView>,
    ) -> Result<Option<(u64, HashMap<Id, u64>)>, Violation> {
        let (start, end) = (part.start(), part.visible_end());
        let known = self.clients.parts.entry(part.log).or_default();
        let in_log = |v| format!("partition {:?}: {v}", part.log);
        known.ends(start, end).map_err(in_log)?;
        let (mut all, mut from) = (Vec::new(), start);
        while from < end {
            let Some(batch) = self.fetch(part, from, 20_000).await? else { return Ok(None) };
            must!(!batch.entries.is_empty(), "{:?}: nothing at {from} in {start}..{end}", part.log);
            let known = self.clients.parts.entry(part.log).or_default();
            known.read(from, &batch.entries, batch.next).map_err(in_log)?;
            from = batch.next;
            all.extend(batch.entries);
        }
        self.tally.checked += all.len() as u64;
        let known = &self.clients.parts[&part.log];
        let places = known.check_all(start, end, &all).map_err(in_log)?;
        Ok(Some((start, places)))
    }
}
