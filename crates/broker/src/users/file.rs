//! The file with the users: text, a line each, a checksum last. Written beside and renamed, so that there is one whole file always.
//!
//! ```text
//! millstream users 1
//! user NAME TAGS HASH
//! allow NAME VHOST CONFIGURE WRITE READ
//! sum HEX
//! ```
//! Fields are apart by one space. In a field, `%` and what is no visible ASCII stand as `%XX`; an empty one is `-`, and one that is `-`
//! `%2D`. TAGS are apart by commas. HASH is in the PHC form; `-` is the first user's. HEX is of BLAKE2b-256 over all before its line.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, IoSlice};
use std::sync::Arc;

use blake2::Digest as _;
use blake2::digest::consts::U32;
use millstream_env::{Env, OpenMode};
use millstream_log::OpenError;

use super::pattern::Pattern;
use super::{Known, PATTERN_BYTES_MAX, Rights, USERS_MAX, User};

const FILE: &str = "users";
const TEMPORARY: &str = "users.new";
const FIRST_LINE: &str = "millstream users 1";
/// Largest file, bytes.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Reads it. `None`: there is none.
pub(super) fn read(env: &Env) -> Result<Option<Known>, OpenError> {
    let io = |source| OpenError::Io { file: FILE.to_owned(), source };
    let foreign = |detail: String| OpenError::Foreign { file: FILE.to_owned(), detail };
    let file = match env.disk.open(FILE, OpenMode::Read) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(io(e)),
    };
    let len = file.len().map_err(io)?;
    if len > FILE_BYTES_MAX {
        return Err(foreign(format!("{len} bytes are too many for a file of users")));
    }
    let mut bytes = vec![0; usize::try_from(len).unwrap_or_default()];
    let read = file.read_at(0, &mut bytes).map_err(io)?;
    bytes.truncate(read);
    decode(&bytes).map(Some).map_err(foreign)
}

/// Replaces it.
///
/// # Durability
/// It survives a crash when this returns.
pub(super) fn write(env: &Env, known: &Known) -> io::Result<()> {
    match env.disk.remove(TEMPORARY) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let text = encode(known);
    let file = env.disk.open(TEMPORARY, OpenMode::CreateNew)?;
    file.write_at(0, &[IoSlice::new(text.as_bytes())])?;
    file.sync_all()?;
    env.disk.rename(TEMPORARY, FILE)?;
    env.disk.sync_dir("")
}

fn sum(text: &[u8]) -> String {
    let digest = blake2::Blake2b::<U32>::digest(text);
    digest.iter().fold(String::new(), |mut hex, b| {
        let _ = write!(hex, "{b:02x}");
        hex
    })
}

fn encode(known: &Known) -> String {
    let mut out = format!("{FIRST_LINE}\n");
    for (name, user) in known {
        let hash = user.hash.as_deref().unwrap_or_default();
        let _ = writeln!(out, "user {} {} {}", escape(name), escape(&user.tags.join(",")), escape(hash));
        for (vhost, r) in &user.rights {
            let fields = [name, vhost, r.configure.text(), r.write.text(), r.read.text()].map(escape);
            let _ = writeln!(out, "allow {}", fields.join(" "));
        }
    }
    let sum = sum(out.as_bytes());
    let _ = writeln!(out, "sum {sum}");
    out
}

fn decode(bytes: &[u8]) -> Result<Known, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "no text".to_owned())?;
    let at = text.rfind("sum ").ok_or("no checksum: it was cut short, or is no file of users")?;
    let (body, last) = text.split_at(at);
    if last.strip_prefix("sum ").map(str::trim_end) != Some(sum(body.as_bytes()).as_str()) {
        return Err("the checksum is another: it was damaged, or edited by hand".to_owned());
    }
    let mut lines = body.lines();
    if lines.next() != Some(FIRST_LINE) {
        return Err("its version is another".to_owned());
    }
    let mut known: BTreeMap<String, User> = BTreeMap::new();
    for line in lines {
        let wrong = || format!("not a line of it: {line:?}");
        let fields: Vec<String> = line.split(' ').map(unescape).collect::<Option<_>>().ok_or_else(wrong)?;
        match fields.as_slice() {
            [what, name, tags, hash] if what == "user" => {
                let tags = tags.split(',').filter(|t| !t.is_empty()).map(str::to_owned).collect();
                let hash = (!hash.is_empty()).then(|| hash.clone());
                known.insert(name.clone(), User { tags, hash, rights: BTreeMap::new() });
            }
            [what, name, vhost, patterns @ ..] if what == "allow" => {
                let [configure, write, read] = patterns else { return Err(wrong()) };
                if patterns.iter().any(|p| p.len() > PATTERN_BYTES_MAX) {
                    return Err(wrong());
                }
                let user = known.get_mut(name).ok_or_else(wrong)?;
                let known = |p: &String| Pattern::known(p.clone());
                let rights = Rights { configure: known(configure), write: known(write), read: known(read) };
                user.rights.insert(vhost.clone(), rights);
            }
            _ => return Err(wrong()),
        }
        if known.len() > USERS_MAX {
            return Err(format!("more than {USERS_MAX} users"));
        }
    }
    Ok(known.into_iter().map(|(name, user)| (name, Arc::new(user))).collect())
}

fn escape(field: &str) -> String {
    match field {
        "" => return "-".to_owned(),
        "-" => return "%2D".to_owned(),
        _ => {}
    }
    let mut out = String::with_capacity(field.len());
    for b in field.bytes() {
        if b.is_ascii_graphic() && b != b'%' {
            out.push(char::from(b));
        } else {
            let _ = write!(out, "%{b:02X}");
        }
    }
    out
}

fn unescape(field: &str) -> Option<String> {
    if field == "-" {
        return Some(String::new());
    }
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((b, after)) = rest.split_first() {
        if *b == b'%' {
            let (hex, after) = after.split_at_checked(2)?;
            out.push(u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()?);
            rest = after;
        } else {
            out.push(*b);
            rest = after;
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users() -> Known {
        let rights = Rights {
            configure: Pattern::known(String::new()),
            write: Pattern::known("^a b%$".to_owned()),
            read: Pattern::known("-".to_owned()),
        };
        let rights = BTreeMap::from([("/".to_owned(), rights)]);
        let tags = vec!["administrator".to_owned(), "x".to_owned()];
        let user =
            User { tags, hash: Some("$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA".to_owned()), rights };
        let mut known = super::super::first();
        known.insert("j\u{fc}rgen o'neil".to_owned(), Arc::new(user));
        known
    }

    /// The golden file: a later version must read what this one wrote.
    const WRITTEN: &str = "millstream users 1\n\
        user guest administrator -\n\
        allow guest / .* .* .*\n\
        user j%C3%BCrgen%20o'neil administrator,x $argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA\n\
        allow j%C3%BCrgen%20o'neil / - ^a%20b%25$ %2D\n";

    #[test]
    fn the_first_version_is_written_and_read_byte_for_byte() {
        let whole = format!("{WRITTEN}sum {}\n", sum(WRITTEN.as_bytes()));
        assert_eq!(encode(&users()), whole);
        assert_eq!(decode(whole.as_bytes()), Ok(users()));
    }

    #[test]
    fn a_file_that_is_cut_or_damaged_is_refused() {
        let whole = encode(&users()).into_bytes();
        for cut in 0..whole.len() - 1 {
            assert!(decode(&whole[..cut]).is_err(), "cut at {cut}");
        }
        for at in 0..whole.len() - 1 {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            assert!(decode(&damaged).is_err(), "damaged at {at}");
        }
        let newer = WRITTEN.replace("users 1", "users 2");
        let newer = format!("{newer}sum {}\n", sum(newer.as_bytes()));
        assert!(decode(newer.as_bytes()).unwrap_err().contains("version"));
    }
}
