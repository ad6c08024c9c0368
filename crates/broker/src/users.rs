//! Users: who may log in, and what each may do. Kept in a file of the data directory, replaced whole at each change.
//!
//! Start at [`Users`]. Passwords are kept as argon2id hashes. Hashing takes tens of milliseconds and 19 MiB, so it is done on blocking
//! threads, two at a time; a password that was right is known by a keyed digest from then on, until the user changes.

mod file;
mod pattern;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use blake2::digest::Mac as _;
use blake2::digest::consts::U32;
use millstream_env::Env;
use millstream_log::OpenError;
use millstream_types::Namespace;
use thiserror::Error;
use tokio::sync::Semaphore;

use crate::auth::{Action, Authorizer, Decision, Principal, Resource};
use pattern::Pattern;

/// Users of one broker.
pub const USERS_MAX: usize = 10_000;
/// Bytes of a user's name.
pub const USER_NAME_BYTES_MAX: usize = 255;
/// Bytes of a password.
pub const PASSWORD_BYTES_MAX: usize = 4_096;
/// Tags of one user, and bytes of one.
const TAGS_MAX: usize = 16;
const TAG_BYTES_MAX: usize = 64;
/// Bytes of a pattern.
pub const PATTERN_BYTES_MAX: usize = 1_024;
/// Passwords hashed at a time.
const HASHES_AT_ONCE: usize = 2;

/// The virtual host that there is.
const VHOST: &str = "/";
/// The user that there is before anybody makes or removes one, and its password.
const GUEST: &str = "guest";
/// The tag whose bearers may publish in others' names.
const IMPERSONATOR: &str = "impersonator";
/// What the default exchange is called where permissions are looked at.
const DEFAULT_EXCHANGE: &str = "amq.default";

/// What a user may do in a virtual host: patterns (regular expressions, found anywhere in a name; empty = nothing) for what it may make and
/// remove, publish to, and consume from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    /// Make, remove, alter.
    pub configure: String,
    /// Publish to; bind to an exchange.
    pub write: String,
    /// Consume from, purge; bind from an exchange.
    pub read: String,
}

impl Permissions {
    /// Everything.
    #[must_use]
    pub fn all() -> Self {
        let all = || ".*".to_owned();
        Self { configure: all(), write: all(), read: all() }
    }
}

/// A user, as listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserInfo {
    /// Name.
    pub name: String,
    /// Tags.
    pub tags: Vec<String>,
    /// By virtual host.
    pub permissions: BTreeMap<String, Permissions>,
}

/// Why a call about users was refused; nothing was changed.
#[derive(Debug, Error)]
pub enum UserError {
    /// No such user.
    #[error("there is no user {0:?}")]
    NotFound(String),
    /// The name is taken.
    #[error("the user {0:?} exists")]
    Exists(String),
    /// A name, password, tag or pattern that cannot be.
    #[error("{what}: {why}")]
    Invalid {
        /// Which.
        what: &'static str,
        /// Why not.
        why: String,
    },
    /// A limit was reached.
    #[error("more than {USERS_MAX} users")]
    TooMany,
    /// It could not be kept.
    #[error("the users cannot be written: {0}")]
    Write(#[from] std::io::Error),
    /// A thread for it ended before its time.
    #[error("the broker is stopping")]
    Stopping,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rights {
    configure: Pattern,
    write: Pattern,
    read: Pattern,
}

impl Rights {
    fn of(p: &Permissions) -> Result<Self, UserError> {
        let pattern = |what, text: &str| Pattern::new(text).map_err(|why| UserError::Invalid { what, why });
        Ok(Self {
            configure: pattern("the pattern of configure", &p.configure)?,
            write: pattern("the pattern of write", &p.write)?,
            read: pattern("the pattern of read", &p.read)?,
        })
    }
    fn told(&self) -> Permissions {
        let text = |p: &Pattern| p.text().to_owned();
        Permissions { configure: text(&self.configure), write: text(&self.write), read: text(&self.read) }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct User {
    tags: Vec<String>,
    /// In the PHC form. `None`: the first user, with the password that everybody knows.
    hash: Option<String>,
    rights: BTreeMap<String, Rights>,
}

/// All users, as one version.
type Known = BTreeMap<String, Arc<User>>;

fn first() -> Known {
    let everything = Rights {
        configure: Pattern::everything(),
        write: Pattern::everything(),
        read: Pattern::everything(),
    };
    let rights = BTreeMap::from([(VHOST.to_owned(), everything)]);
    let guest = User { tags: vec!["administrator".to_owned()], hash: None, rights };
    BTreeMap::from([(GUEST.to_owned(), Arc::new(guest))])
}

/// The users of a broker. Before there is a file, there is `guest` with the password `guest`, who may do everything.
pub struct Users {
    env: Env,
    known: RwLock<Arc<Known>>,
    /// One change at a time.
    changing: tokio::sync::Mutex<()>,
    hashing: Arc<Semaphore>,
    /// Passwords that were right: the hash that they were held against, and their digest.
    right: Mutex<HashMap<String, (String, [u8; 32])>>,
    /// Of this process alone.
    digest_key: [u8; 32],
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Users").finish_non_exhaustive()
    }
}

impl Users {
    /// Reads them.
    pub(crate) fn open(env: &Env) -> Result<Self, OpenError> {
        let known = file::read(env)?.unwrap_or_else(first);
        let mut digest_key = [0; 32];
        env.rng.fill(&mut digest_key);
        Ok(Self {
            env: env.clone(),
            known: RwLock::new(Arc::new(known)),
            changing: tokio::sync::Mutex::new(()),
            hashing: Arc::new(Semaphore::new(HASHES_AT_ONCE)),
            right: Mutex::default(),
            digest_key,
        })
    }

    fn known(&self) -> Arc<Known> {
        Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether this is the user's password. May take long: others may be asked for before.
    pub async fn log_in(&self, name: &str, password: &str) -> bool {
        let Some(user) = self.known().get(name).cloned() else { return false };
        if password.len() > PASSWORD_BYTES_MAX {
            return false;
        }
        let Some(hash) = &user.hash else { return name == GUEST && password == GUEST };
        let digest = self.digest(password);
        let seen = self.right.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        if let Some((_, known)) = seen.filter(|s| s.0 == *hash) {
            return blake2::digest::CtOutput::<blake2::Blake2sMac256>::new(known.into())
                == blake2::digest::CtOutput::new(digest.into());
        }
        let (told, hashed) = (password.to_owned(), hash.clone());
        let right = self.hashing(move || {
            PasswordHash::new(&hashed)
                .is_ok_and(|h| Argon2::default().verify_password(told.as_bytes(), &h).is_ok())
        });
        let right = right.await.unwrap_or(false);
        if right {
            let mut all = self.right.lock().unwrap_or_else(PoisonError::into_inner);
            all.insert(name.to_owned(), (hash.clone(), digest));
        }
        right
    }

    fn digest(&self, password: &str) -> [u8; 32] {
        // The key has a legal length.
        let Ok(mut mac) =
            <blake2::Blake2sMac<U32> as blake2::digest::KeyInit>::new_from_slice(&self.digest_key)
        else {
            return [0; 32];
        };
        mac.update(password.as_bytes());
        mac.finalize().into_bytes().into()
    }

    /// Does slow work on a blocking thread, when it is its turn.
    async fn hashing<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let turn = Arc::clone(&self.hashing).acquire_owned().await.ok()?;
        let work = move || {
            let done = work();
            drop(turn);
            done
        };
        tokio::task::spawn_blocking(work).await.ok()
    }

    async fn hash(&self, password: &str) -> Result<String, UserError> {
        let invalid = |why: String| UserError::Invalid { what: "the password", why };
        if password.is_empty() || password.len() > PASSWORD_BYTES_MAX {
            return Err(invalid(format!("it has 1 to {PASSWORD_BYTES_MAX} bytes")));
        }
        let mut salt = [0; 16];
        self.env.rng.fill(&mut salt);
        let password = password.to_owned();
        let hashed = self.hashing(move || {
            let salt = SaltString::encode_b64(&salt)?;
            Ok(Argon2::default().hash_password(password.as_bytes(), &salt)?.to_string())
        });
        let hashed: Result<String, argon2::password_hash::Error> = hashed.await.ok_or(UserError::Stopping)?;
        hashed.map_err(|e| invalid(e.to_string()))
    }

    /// All users, by name.
    #[must_use]
    pub fn list(&self) -> Vec<UserInfo> {
        let told = |(name, user): (&String, &Arc<User>)| UserInfo {
            name: name.clone(),
            tags: user.tags.clone(),
            permissions: user.rights.iter().map(|(vhost, r)| (vhost.clone(), r.told())).collect(),
        };
        self.known().iter().map(told).collect()
    }

    /// Makes a user, who may do nothing yet.
    ///
    /// # Durability
    /// As all changes here: it survives a crash when this returns.
    ///
    /// # Errors
    /// `Exists`, `Invalid`, `TooMany`; see [`UserError`].
    pub async fn add(&self, name: &str, password: &str, tags: Vec<String>) -> Result<(), UserError> {
        let invalid = |what, why: String| Err(UserError::Invalid { what, why });
        if name.is_empty() || name.len() > USER_NAME_BYTES_MAX {
            return invalid("the name", format!("it has 1 to {USER_NAME_BYTES_MAX} bytes"));
        }
        let bad = |t: &String| t.is_empty() || t.len() > TAG_BYTES_MAX || t.contains(',');
        if tags.len() > TAGS_MAX || tags.iter().any(bad) {
            let why = format!("at most {TAGS_MAX} of 1 to {TAG_BYTES_MAX} bytes, without commas");
            return invalid("the tags", why);
        }
        if self.known().contains_key(name) {
            return Err(UserError::Exists(name.to_owned()));
        }
        let hash = Some(self.hash(password).await?);
        let user = Arc::new(User { tags, hash, rights: BTreeMap::new() });
        self.change(|all| {
            if all.contains_key(name) {
                return Err(UserError::Exists(name.to_owned()));
            }
            if all.len() >= USERS_MAX {
                return Err(UserError::TooMany);
            }
            all.insert(name.to_owned(), user);
            Ok(())
        })
        .await
    }

    /// Removes a user. Its connections stay, and may do nothing more.
    ///
    /// # Errors
    /// `NotFound`; see [`UserError`].
    pub async fn delete(&self, name: &str) -> Result<(), UserError> {
        self.change(|all| match all.remove(name) {
            Some(_) => Ok(()),
            None => Err(UserError::NotFound(name.to_owned())),
        })
        .await
    }

    /// Gives a user another password.
    ///
    /// # Errors
    /// `NotFound`, `Invalid`; see [`UserError`].
    pub async fn set_password(&self, name: &str, password: &str) -> Result<(), UserError> {
        let hash = self.hash(password).await?;
        self.alter(name, |user| user.hash = Some(hash)).await
    }

    /// Says what a user may do in a virtual host; `None`: nothing, not even enter it.
    ///
    /// # Errors
    /// `NotFound`, `Invalid`; see [`UserError`].
    pub async fn permit(
        &self,
        name: &str,
        vhost: &str,
        permissions: Option<Permissions>,
    ) -> Result<(), UserError> {
        if vhost != VHOST {
            let why = format!("there is {VHOST:?} only, not {vhost:?}");
            return Err(UserError::Invalid { what: "the virtual host", why });
        }
        let rights = permissions.as_ref().map(Rights::of).transpose()?;
        self.alter(name, |user| {
            match rights {
                Some(rights) => user.rights.insert(vhost.to_owned(), rights),
                None => user.rights.remove(vhost),
            };
        })
        .await
    }

    async fn alter(&self, name: &str, alter: impl FnOnce(&mut User)) -> Result<(), UserError> {
        self.change(|all| {
            let user = all.get_mut(name).ok_or_else(|| UserError::NotFound(name.to_owned()))?;
            alter(Arc::make_mut(user));
            Ok(())
        })
        .await
    }

    /// Makes a change, on the disk and then for everybody.
    async fn change(
        &self,
        change: impl FnOnce(&mut Known) -> Result<(), UserError>,
    ) -> Result<(), UserError> {
        let _one = self.changing.lock().await;
        let mut after = Known::clone(&self.known());
        change(&mut after)?;
        let after = Arc::new(after);
        let (env, writes) = (self.env.clone(), Arc::clone(&after));
        let written = tokio::task::spawn_blocking(move || file::write(&env, &writes));
        written.await.map_err(|_| UserError::Stopping)??;
        // What was known of a user's password is known by the hash that it went with: another hash, another password.
        let mut right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        right.retain(|name, _| after.contains_key(name));
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = after;
        Ok(())
    }

    /// Whether somebody may be in a namespace at all.
    #[must_use]
    pub fn may_enter(&self, who: &Principal, ns: Namespace) -> bool {
        !who.is_user || self.rights_in(&who.name, ns, |_| true)
    }

    /// Whether somebody may publish messages that say another user published them.
    #[must_use]
    pub fn may_impersonate(&self, who: &Principal) -> bool {
        !who.is_user || self.known().get(&who.name).is_some_and(|u| u.tags.iter().any(|t| t == IMPERSONATOR))
    }

    fn rights_in(&self, name: &str, ns: Namespace, ask: impl FnOnce(&Rights) -> bool) -> bool {
        let known = self.known();
        let rights = known.get(name).filter(|_| ns == Namespace::DEFAULT).and_then(|u| u.rights.get(VHOST));
        rights.is_some_and(ask)
    }
}

impl Authorizer for Users {
    fn check(&self, who: &Principal, action: Action, what: &Resource) -> Decision {
        if !who.is_user {
            return Decision::Allow;
        }
        let (ns, name) = match what {
            Resource::Exchange(ns, name) if name.is_empty() => (*ns, DEFAULT_EXCHANGE),
            Resource::Topic(ns, name)
            | Resource::Queue(ns, name)
            | Resource::Exchange(ns, name)
            | Resource::Group(ns, name) => (*ns, name.as_str()),
            Resource::Broker => (Namespace::DEFAULT, ""),
        };
        let allowed = self.rights_in(&who.name, ns, |rights| match action {
            Action::Read => rights.read.matches(name),
            Action::Write => rights.write.matches(name),
            Action::Configure => rights.configure.matches(name),
            Action::Describe => true,
        });
        if allowed { Decision::Allow } else { Decision::Deny }
    }
}

#[cfg(test)]
mod tests;
