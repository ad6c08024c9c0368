//! The store's secret: 32 random bytes in the data directory, made once. Keys for what clients may see, and must not be able to make,
//! are derived from it, so that they are the same after a restart.
//!
//! File `secret`: `magic 8 bytes · secret 32 bytes`. Start at [`Secret::open`].

use std::hash::Hasher;

use aes::Aes128;
use aes::cipher::{BlockEncrypt, KeyInit};
use millstream_env::{Env, OpenMode};
use millstream_log::OpenError;
use millstream_types::LogId;
use siphasher::sip::SipHasher13;
use siphasher::sip128::{Hasher128, SipHasher24};

const FILE: &str = "secret";
const TEMPORARY: &str = "secret.new";
/// The name of the form, and its version.
const MAGIC: &[u8; 8] = b"MSSECR\x00\x01";
const BYTES: usize = MAGIC.len() + 32;

/// The secret, and what is derived from it for hot paths.
pub(crate) struct Secret {
    bytes: [u8; 32],
    ids: Aes128,
    keys: SipHasher13,
    known: SipHasher24,
}

impl Secret {
    /// Reads the secret, or makes one.
    ///
    /// # Durability
    /// What is returned is on the disk.
    pub(crate) fn open(env: &Env) -> Result<Self, OpenError> {
        let io = |source| OpenError::Io { file: FILE.to_owned(), source };
        match env.disk.open(FILE, OpenMode::Read) {
            Ok(file) => {
                let mut found = [0; BYTES];
                let read = file.read_at(0, &mut found).map_err(io)?;
                let secret = found.strip_prefix(MAGIC).and_then(|s| s.try_into().ok());
                secret.filter(|_| read == BYTES).map(Self::of).ok_or_else(|| OpenError::Foreign {
                    file: FILE.to_owned(),
                    detail: format!("not a secret of {BYTES} bytes of this version"),
                })
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let mut bytes = [0; 32];
                env.rng.fill(&mut bytes);
                write_once(env, FILE, TEMPORARY, &[&MAGIC[..], &bytes].concat())?;
                Ok(Self::of(bytes))
            }
            Err(e) => Err(io(e)),
        }
    }

    fn of(bytes: [u8; 32]) -> Self {
        let key = derive(&bytes, "message id");
        let keys = SipHasher13::new_with_key(&derive(&bytes, "message key"));
        let known = SipHasher24::new_with_key(&derive(&bytes, "message ids"));
        Self { bytes, ids: Aes128::new(&key.into()), keys, known }
    }

    /// A key for one purpose.
    pub(crate) fn key(&self, purpose: &str) -> [u8; 16] {
        derive(&self.bytes, purpose)
    }

    /// The hash of a message's key, by which queues order. Who does not know the secret cannot make two keys that have the same.
    pub(crate) fn key_hash(&self, key: &[u8]) -> u64 {
        self.keys.hash(key)
    }

    /// The hash of a message's id.
    pub(crate) fn id_hash(&self, id: &[u8]) -> u128 {
        self.known.hash(id).as_u128()
    }

    /// The public id of the message whose first home this is. One block of AES: no two messages have the same, and none tells of
    /// another.
    pub(crate) fn message_id(&self, home: (LogId, u64)) -> [u8; 16] {
        let mut block = (u128::from(home.0.0) << 64 | u128::from(home.1)).to_be_bytes().into();
        self.ids.encrypt_block(&mut block);
        block.into()
    }
}

fn derive(secret: &[u8; 32], purpose: &str) -> [u8; 16] {
    let (key, rest) = secret.split_first_chunk::<16>().map_or(([0; 16], &secret[..]), |(k, r)| (*k, r));
    let mut hasher = SipHasher24::new_with_key(&key);
    hasher.write(rest);
    hasher.write(purpose.as_bytes());
    hasher.finish128().as_bytes()
}

/// Makes a small file whole, or not at all. `temporary` is a name that only this file's making uses.
pub(crate) fn write_once(env: &Env, name: &str, temporary: &str, bytes: &[u8]) -> Result<(), OpenError> {
    let io = |source| OpenError::Io { file: name.to_owned(), source };
    match env.disk.remove(temporary) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(io(e)),
        _ => {}
    }
    let file = env.disk.open(temporary, OpenMode::CreateNew).map_err(io)?;
    file.write_at(0, &[std::io::IoSlice::new(bytes)]).map_err(io)?;
    file.sync_all().map_err(io)?;
    env.disk.rename(temporary, name).map_err(io)?;
    env.disk.sync_dir("").map_err(io)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_by_log_and_position_and_are_the_same_for_the_same_secret() {
        let (a, b) = (Secret::of([7; 32]), Secret::of([7; 32]));
        let ids = [(1, 0), (1, 1), (2, 0)].map(|(log, pos)| a.message_id((LogId(log), pos)));
        assert!(ids[0] != ids[1] && ids[0] != ids[2] && ids[1] != ids[2]);
        assert_eq!(ids[1], b.message_id((LogId(1), 1)));
        assert_ne!(ids[1], Secret::of([8; 32]).message_id((LogId(1), 1)));
    }

    #[test]
    fn keys_of_messages_have_the_same_hash_under_the_same_secret_only() {
        let (a, b) = (Secret::of([7; 32]), Secret::of([8; 32]));
        assert_eq!(a.key_hash(b"k"), Secret::of([7; 32]).key_hash(b"k"));
        assert_ne!(a.key_hash(b"k"), a.key_hash(b"l"));
        assert_ne!(a.key_hash(b"k"), b.key_hash(b"k"));
    }

    #[test]
    fn keys_differ_by_purpose() {
        let s = Secret::of([1; 32]);
        assert_ne!(s.key("a"), s.key("b"));
        assert_eq!(s.key("a"), Secret::of([1; 32]).key("a"));
    }
}
