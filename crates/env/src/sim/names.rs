//! [`Names`]: the simulated directory tree, as programs see it and as a power cut may leave it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::rng::SplitMix;
use crate::path::parent;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Dir,
    File(u64),
}

/// A change of names that a sync of its directory makes durable.
#[derive(Clone, Debug)]
enum Change {
    Create { path: String, node: Node },
    Remove { path: String, file: u64 },
    Rename { from: String, to: String, file: u64 },
}

impl Change {
    fn touches(&self, dir: &str) -> bool {
        match self {
            Self::Create { path, .. } | Self::Remove { path, .. } => parent(path) == dir,
            Self::Rename { from, to, .. } => parent(from) == dir || parent(to) == dir,
        }
    }

    fn file(&self) -> Option<u64> {
        match self {
            Self::Create { node: Node::File(file), .. }
            | Self::Remove { file, .. }
            | Self::Rename { file, .. } => Some(*file),
            Self::Create { node: Node::Dir, .. } => None,
        }
    }

    /// Applies to a tree in which earlier changes may be missing.
    fn apply(&self, tree: &mut BTreeMap<String, Node>) {
        match self {
            Self::Create { path, node } => {
                tree.insert(path.clone(), *node);
            }
            Self::Remove { path, file } => {
                if tree.get(path) == Some(&Node::File(*file)) {
                    tree.remove(path);
                }
            }
            Self::Rename { to, file, .. } => {
                tree.retain(|_, node| *node != Node::File(*file));
                tree.insert(to.clone(), Node::File(*file));
            }
        }
    }
}

/// The tree of names. The root is the path `""` and always exists.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    now: BTreeMap<String, Node>,
    durable: BTreeMap<String, Node>,
    pending: Vec<Change>,
}

impl Names {
    pub(super) fn get(&self, path: &str) -> Option<Node> {
        if path.is_empty() { Some(Node::Dir) } else { self.now.get(path).copied() }
    }

    /// The file of that name.
    pub(super) fn file(&self, path: &str) -> io::Result<u64> {
        match self.get(path) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Dir) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Fails when the path is not a directory.
    pub(super) fn expect_dir(&self, path: &str) -> io::Result<()> {
        match self.get(path) {
            Some(Node::Dir) => Ok(()),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Fails when a new name could not be made: no directory for it, or taken.
    pub(super) fn expect_free(&self, path: &str) -> io::Result<()> {
        self.expect_dir(parent(path))?;
        if self.get(path).is_some() { Err(io::ErrorKind::AlreadyExists.into()) } else { Ok(()) }
    }

    /// Names of the files in a directory, sorted.
    pub(super) fn list(&self, dir: &str) -> Vec<String> {
        let files =
            self.now.iter().filter(|(path, node)| matches!(node, Node::File(_)) && parent(path) == dir);
        files.map(|(path, _)| crate::path::name(path).to_owned()).collect()
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.now);
        self.pending.push(change);
    }

    /// Makes a directory and its parents; gives whether any was new.
    pub(super) fn create_dirs(&mut self, dir: &str) -> io::Result<()> {
        let ends = dir.match_indices('/').map(|(at, _)| at).chain([dir.len()]);
        for path in ends.filter_map(|end| dir.get(..end)) {
            match self.get(path) {
                None => self.change(Change::Create { path: path.to_owned(), node: Node::Dir }),
                Some(Node::Dir) => {}
                Some(Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
            }
        }
        Ok(())
    }

    pub(super) fn create_file(&mut self, path: &str, file: u64) {
        self.change(Change::Create { path: path.to_owned(), node: Node::File(file) });
    }

    pub(super) fn remove(&mut self, path: &str, file: u64) {
        self.change(Change::Remove { path: path.to_owned(), file });
    }

    pub(super) fn rename(&mut self, from: &str, to: &str, file: u64) {
        if from != to {
            self.change(Change::Rename { from: from.to_owned(), to: to.to_owned(), file });
        }
    }

    /// Makes the changes in a directory durable, with what those files went through in other directories.
    pub(super) fn sync(&mut self, dir: &str) {
        let files: BTreeSet<u64> =
            self.pending.iter().filter(|c| c.touches(dir)).filter_map(Change::file).collect();
        for change in std::mem::take(&mut self.pending) {
            if change.touches(dir) || change.file().is_some_and(|file| files.contains(&file)) {
                change.apply(&mut self.durable);
            } else {
                self.pending.push(change);
            }
        }
    }

    /// Files that a program sees by name.
    pub(super) fn files(&self) -> impl Iterator<Item = (&str, u64)> {
        self.now.iter().filter_map(|(path, node)| match node {
            Node::File(file) => Some((path.as_str(), *file)),
            Node::Dir => None,
        })
    }

    /// Files that have a name now or may have one after a power cut.
    pub(super) fn reachable(&self) -> BTreeSet<u64> {
        let named = self.now.values().chain(self.durable.values()).filter_map(|node| match node {
            Node::File(file) => Some(*file),
            Node::Dir => None,
        });
        named.chain(self.pending.iter().filter_map(Change::file)).collect()
    }

    /// Keeps of the changes that are not durable what `keep` says, and drops what lost its directory.
    fn settle(&mut self, mut keep: impl FnMut(usize) -> bool) {
        let mut tree = std::mem::take(&mut self.durable);
        for (at, change) in std::mem::take(&mut self.pending).into_iter().enumerate() {
            if keep(at) {
                change.apply(&mut tree);
            }
        }
        // Parents sort before what is in them.
        for (path, node) in tree {
            let dir = parent(&path);
            if dir.is_empty() || self.durable.get(dir) == Some(&Node::Dir) {
                self.durable.insert(path, node);
            }
        }
        self.now = self.durable.clone();
    }

    /// What a power cut leaves, at random.
    pub(super) fn crash(&mut self, rng: &mut SplitMix) {
        let count = super::pages::wide(self.pending.len());
        match rng.below(4) {
            0 => self.settle(|_| false),
            1 => self.settle(|_| true),
            2 => {
                let kept = super::pages::narrow(rng.below(count + 1));
                self.settle(|at| at < kept);
            }
            _ => self.settle(|_| rng.coin()),
        }
    }

    /// What a power cut leaves when all changes were lucky.
    pub(super) fn crash_keeping_all(&mut self) {
        self.settle(|_| true);
    }
}
