//! Checks and takes apart the paths that [`Disk`](crate::Disk) takes. It never touches a disk.

use std::io;

/// A path as it is stored: relative, parts joined by one `/`, the root as `""`.
///
/// # Errors
/// `InvalidInput` when the path is absolute or has a `..`, as it would leave the root.
pub(crate) fn clean(path: &str) -> io::Result<String> {
    if path.starts_with('/') || path.contains('\0') || path.split('/').any(|part| part == "..") {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("path leaves the root: {path:?}")));
    }
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    Ok(parts.join("/"))
}

/// The directory a (clean) path is in; the root is `""`.
pub(crate) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

/// The last part of a (clean) path.
pub(crate) fn name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_out_of_the_root_are_refused() {
        for bad in ["/etc", "..", "a/../../b", "a\0"] {
            assert_eq!(clean(bad).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn spellings_of_one_path_are_equal() {
        assert_eq!(clean("./a//b/").unwrap(), "a/b");
        assert_eq!(clean(".").unwrap(), "");
        assert_eq!((parent("a/b/c"), name("a/b/c")), ("a/b", "c"));
        assert_eq!((parent("a"), name("a")), ("", "a"));
    }
}
