//! Making, looking at, pausing, resuming and removing bridges.
//!
//! Start at [`Session::create_bridge`].

use millstream_engine::task::{Task, TaskError, TaskState};
use thiserror::Error;

use super::def::{BridgeDef, DefError, OnPoison, OnTrimmed, Source, Start, Target};
use super::live::Blocked;
use super::queue::dead_letters;
use super::worker::{self, poison_of};
use super::{BRIDGE, counter};
use crate::error::CallError;
use crate::session::Session;
use crate::tasks::{NewTask, TaskAlter, TaskCallError, TaskQuery};

/// A bridge, as it is now.
#[derive(Clone, Debug)]
pub struct BridgeInfo {
    /// Its name.
    pub name: String,
    /// What it does; an error if a later version defined it.
    pub def: Result<BridgeDef, DefError>,
    /// Whether it is to run: somebody, or a cause that somebody must look at, has it paused.
    pub paused: bool,
    /// Why it is paused, if nobody did.
    pub note: String,
    /// Why it rests while it is to run.
    pub blocked: Option<Blocked>,
    /// When it was made, milliseconds since the epoch.
    pub created_ms: u64,
    /// When its last step was, milliseconds since the epoch; 0 = there was none.
    pub stepped_ms: u64,
    /// Messages passed on.
    pub passed: u64,
    /// Messages that the filter left behind.
    pub filtered: u64,
    /// Messages that could not be passed on and were skipped.
    pub skipped: u64,
    /// Messages that could not be passed on and went to the dead-letter topic.
    pub dead_lettered: u64,
    /// Offsets that retention took before they were read.
    pub trimmed: u64,
    /// Messages passed on in a second, lately.
    pub rate: f64,
    /// Times that it had to rest since the broker was opened.
    pub errors: u64,
    /// Offsets, or messages of the queue, that are not looked at yet.
    pub lag: u64,
    /// How far it came in each partition; empty if its source is a queue.
    pub partitions: Vec<BridgePartition>,
    /// The last messages that were not passed on, (partition, offset) each; of a queue its lanes and positions. Of partitions that are gone none.
    pub poison: Vec<(u32, u64)>,
}

/// How far a bridge came in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BridgePartition {
    /// Which.
    pub partition: u32,
    /// The offset that is next.
    pub next: u64,
    /// One past the last that can be read.
    pub end: u64,
}

/// Why a call about a bridge was refused; nothing was changed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BridgeError {
    /// It is there.
    #[error("there is a bridge of this name")]
    Exists,
    /// There is none.
    #[error("there is no bridge {0:?}")]
    NotFound(String),
    /// Its source or target is not there.
    #[error("there is no {kind} {name:?}")]
    Absent {
        /// Topic, queue, or exchange.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// What it is told to do cannot be done.
    #[error(transparent)]
    Def(#[from] DefError),
    /// The task was refused.
    #[error(transparent)]
    Task(#[from] TaskCallError),
}

impl From<CallError> for BridgeError {
    fn from(e: CallError) -> Self {
        Self::Task(e.into())
    }
}

/// What changes when a bridge is resumed.
#[derive(Clone, Debug, Default)]
pub struct BridgeAlter {
    /// What becomes of messages that cannot be passed on, from now on.
    pub on_poison: Option<OnPoison>,
    /// What happens when retention was faster, from now on.
    pub on_trimmed: Option<OnTrimmed>,
}

impl Session {
    /// Makes a bridge, and starts it.
    ///
    /// # Durability
    /// What is answered with success survives a crash.
    ///
    /// # Errors
    /// `Exists`; `Absent`, unless `may_be_absent`: then it begins when they are there; see [`BridgeError`].
    pub async fn create_bridge(
        &self,
        name: &str,
        def: &BridgeDef,
        may_be_absent: bool,
    ) -> Result<BridgeInfo, BridgeError> {
        if !may_be_absent {
            self.all_there(def)?;
        }
        let broker = self.broker().clone();
        let _one = broker.bridges_live().changing.lock().await;
        let new = NewTask {
            kind: BRIDGE,
            name: name.to_owned(),
            definition: def.encode(),
            cursors: self.beginning(def),
            state: TaskState::Running,
        };
        let task = self.create_task(new).await.map_err(|e| match e {
            TaskCallError::Task(TaskError::Exists { .. }) => BridgeError::Exists,
            other => other.into(),
        })?;
        worker::start(&broker, task.clone());
        Ok(self.info(&task))
    }

    /// Where a bridge begins in the partitions there are.
    fn beginning(&self, def: &BridgeDef) -> Vec<(u64, u64)> {
        let Source::Topic { name, from } = &def.source else { return Vec::new() };
        let catalogue = self.broker().catalogue();
        let topic = catalogue.by_name.get(&(self.namespace(), name.clone()));
        let parts = topic.map(|t| t.partitions.as_slice()).unwrap_or_default();
        let at = |p: &millstream_engine::partition::PartitionView| match from {
            Start::Earliest => p.start(),
            Start::Latest => p.visible_end(),
        };
        parts.iter().map(|p| (p.log.0, at(p))).collect()
    }

    fn all_there(&self, def: &BridgeDef) -> Result<(), BridgeError> {
        let (broker, ns) = (self.broker(), self.namespace());
        let catalogue = broker.catalogue();
        let absent = |kind, name: &String| Err(BridgeError::Absent { kind, name: name.clone() });
        let topic = |name: &String| catalogue.by_name.contains_key(&(ns, name.clone()));
        let queue = |name: &String| broker.directory().by_name(ns, name).is_some();
        match &def.source {
            Source::Topic { name, .. } if !topic(name) => return absent("topic", name),
            Source::Queue(name) | Source::DeadLettersOf(name) if !queue(name) => {
                return absent("queue", name);
            }
            _ => {}
        }
        match &def.target {
            Target::Queue(name) if !queue(name) => return absent("queue", name),
            Target::Exchange(name) if broker.routes().exchange(ns, name).is_none() => {
                return absent("exchange", name);
            }
            Target::Topic(name) if !topic(name) => return absent("topic", name),
            _ => {}
        }
        match &def.on_poison {
            OnPoison::DeadLetterTopic(name) if !topic(name) => absent("topic", name),
            _ => Ok(()),
        }
    }

    /// The bridges of the session's namespace, in the order in which they were made.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn bridges(&self) -> Result<Vec<BridgeInfo>, CallError> {
        let which = TaskQuery { ns: Some(self.namespace()), kind: Some(BRIDGE), name: None };
        let tasks = self.tasks(&which).await?;
        let mut all = Vec::with_capacity(tasks.len());
        for task in &tasks {
            all.push(self.whole_info(task).await?);
        }
        Ok(all)
    }

    /// A bridge.
    ///
    /// # Errors
    /// `NotFound`; see [`BridgeError`].
    pub async fn bridge(&self, name: &str) -> Result<BridgeInfo, BridgeError> {
        Ok(self.whole_info(&self.bridge_task(name).await?).await?)
    }

    /// With what is ready in the queue that it takes from.
    async fn whole_info(&self, task: &Task) -> Result<BridgeInfo, CallError> {
        let mut info = self.info(task);
        let broker = self.broker();
        let queue = |name: &str| broker.directory().by_name(self.namespace(), name);
        let queue = match info.def.as_ref().map(|d| &d.source) {
            Ok(Source::Queue(name)) => queue(name),
            Ok(Source::DeadLettersOf(name)) => queue(name).and_then(|q| dead_letters(broker, &q).ok()),
            _ => None,
        };
        if let Some(queue) = queue
            && let Some(stats) = self.queue_stats(queue.id, false).await?
        {
            info.lag = stats.ready.n;
        }
        Ok(info)
    }

    async fn bridge_task(&self, name: &str) -> Result<Task, BridgeError> {
        let which = TaskQuery { ns: Some(self.namespace()), kind: Some(BRIDGE), name: Some(name.to_owned()) };
        self.tasks(&which).await?.into_iter().next().ok_or_else(|| BridgeError::NotFound(name.to_owned()))
    }

    /// Has a bridge rest. A step that is on its way counts or does not; none begins after the answer.
    ///
    /// # Durability
    /// As [`Session::create_bridge`].
    ///
    /// # Errors
    /// `NotFound`; see [`BridgeError`].
    pub async fn pause_bridge(&self, name: &str) -> Result<BridgeInfo, BridgeError> {
        self.alter_bridge(name, |task| {
            let state = Some((TaskState::Paused, String::new()));
            let running = task.row.state == TaskState::Running;
            Ok(running.then(|| TaskAlter { state, ..TaskAlter::default() }))
        })
        .await
    }

    /// Has a paused bridge go on where it is. One that runs gets what is altered.
    ///
    /// # Durability
    /// As [`Session::create_bridge`].
    ///
    /// # Errors
    /// `NotFound`; `Def` if a later version defined it; see [`BridgeError`].
    pub async fn resume_bridge(&self, name: &str, alter: &BridgeAlter) -> Result<BridgeInfo, BridgeError> {
        self.alter_bridge(name, |task| {
            let mut def = BridgeDef::decode(&task.row.definition)?;
            if let Some(on_poison) = &alter.on_poison {
                def.on_poison = on_poison.clone();
            }
            if let Some(on_trimmed) = alter.on_trimmed {
                def.on_trimmed = on_trimmed;
            }
            let state = Some((TaskState::Running, String::new()));
            Ok(Some(TaskAlter { definition: Some(def.encode()), state, cursors: None }))
        })
        .await
    }

    /// Gives a bridge another definition; it goes on where it is, unless its source is another one.
    ///
    /// # Durability
    /// As [`Session::create_bridge`].
    ///
    /// # Errors
    /// `NotFound`; see [`BridgeError`].
    pub async fn redefine_bridge(&self, name: &str, def: &BridgeDef) -> Result<BridgeInfo, BridgeError> {
        self.alter_bridge(name, |task| {
            let same = |a: &BridgeDef| match (&a.source, &def.source) {
                (Source::Topic { name: a, .. }, Source::Topic { name: b, .. }) => a == b,
                (a, b) => a == b,
            };
            let source_stays = BridgeDef::decode(&task.row.definition).is_ok_and(|a| same(&a));
            let cursors = if source_stays { None } else { Some(self.beginning(def)) };
            Ok(Some(TaskAlter { definition: Some(def.encode()), state: None, cursors }))
        })
        .await
    }

    /// Changes a bridge's task, and starts its worker anew. `None`: nothing is to be changed.
    async fn alter_bridge(
        &self,
        name: &str,
        change: impl Fn(&Task) -> Result<Option<TaskAlter>, DefError>,
    ) -> Result<BridgeInfo, BridgeError> {
        let broker = self.broker().clone();
        let _one = broker.bridges_live().changing.lock().await;
        loop {
            let task = self.bridge_task(name).await?;
            let Some(alter) = change(&task)? else { return Ok(self.info(&task)) };
            match self.alter_task(&task, alter).await {
                Ok(task) => {
                    broker.bridges_live().stop(task.id);
                    if task.row.state == TaskState::Running {
                        worker::start(&broker, task.clone());
                    }
                    return Ok(self.info(&task));
                }
                // It paused by itself meanwhile: look again.
                Err(TaskCallError::Task(TaskError::Version { .. })) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Removes a bridge. What it passed on stays.
    ///
    /// # Durability
    /// As [`Session::create_bridge`].
    ///
    /// # Errors
    /// `NotFound`; see [`BridgeError`].
    pub async fn delete_bridge(&self, name: &str) -> Result<(), BridgeError> {
        let broker = self.broker().clone();
        let _one = broker.bridges_live().changing.lock().await;
        let task = self.bridge_task(name).await?;
        self.delete_task(task.id).await?;
        broker.bridges_live().forget(task.id);
        Ok(())
    }

    fn info(&self, task: &Task) -> BridgeInfo {
        let (broker, row) = (self.broker(), &task.row);
        let (errors, blocked, rate) = broker.bridges_live().status(task.id).get(broker.now_ms());
        let def = BridgeDef::decode(&row.definition);
        let count = |which: usize| row.counters.get(which).copied().unwrap_or(0);
        let paused = row.state != TaskState::Running;
        let mut info = BridgeInfo {
            name: row.name.clone(),
            paused,
            note: row.note.clone(),
            blocked: blocked.filter(|_| !paused),
            created_ms: row.created_ms,
            stepped_ms: row.stepped_ms,
            passed: count(counter::PASSED),
            filtered: count(counter::FILTERED),
            skipped: count(counter::SKIPPED),
            dead_lettered: count(counter::DEAD_LETTERED),
            trimmed: count(counter::TRIMMED),
            rate,
            errors,
            lag: 0,
            partitions: Vec::new(),
            poison: Vec::new(),
            def,
        };
        let Ok(def) = &info.def else { return info };
        let ns = self.namespace();
        let poison = poison_of(row);
        match &def.source {
            Source::Topic { name, .. } => {
                let catalogue = broker.catalogue();
                let Some(topic) = catalogue.by_name.get(&(ns, name.clone())) else { return info };
                for (partition, p) in (0..).zip(&topic.partitions) {
                    let next = row.cursors.get(&p.log.0).copied().unwrap_or_else(|| p.start());
                    let part = BridgePartition { partition, next, end: p.visible_end() };
                    info.lag += part.end.saturating_sub(next);
                    info.partitions.push(part);
                    info.poison.extend(
                        poison.iter().filter(|(log, _)| *log == p.log.0).map(|(_, at)| (partition, *at)),
                    );
                }
            }
            Source::Queue(_) | Source::DeadLettersOf(_) => {
                info.poison = poison.into_iter().map(|(_, at)| (0, at)).collect();
            }
        }
        info.poison.sort_unstable();
        info
    }
}
