//! Finds manifest files below folders, and tells whether a file changed since.

use std::collections::HashSet;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::clock::UnixMs;

/// Deepest folder below a root; deeper ones are a loop or a mistake.
const MAX_DEPTH: usize = 32;

/// Most files in one configuration.
const MAX_FILES: usize = 1_000_000;

/// A file changed less than this long before it was looked at may change again within
/// the same tick of the file system's clock (at most 10 ms) without a trace.
const RACY_MS: u64 = 50;

/// A place to look in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Root {
    pub(super) path: PathBuf,
    pub(super) depth: Depth,
}

/// How far below a root to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// The files in it only.
    Flat,
    /// Its folders too.
    Recursive,
}

/// What changes when a file does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    id: (u64, u64),
    pub(super) length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            id: (metadata.dev(), metadata.ino()),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether the stamp was taken so soon after a change that it may miss another.
    pub(super) fn is_racy(&self, now_ms: UnixMs) -> bool {
        let ms = |(secs, nanos): (i64, i64)| secs.saturating_mul(1_000) + nanos / 1_000_000;
        let newest = ms(self.modified.max(self.changed));
        i64::try_from(now_ms).unwrap_or(i64::MAX) - newest < RACY_MS.cast_signed()
    }
}

/// A file that was found.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) path: Arc<Path>,
    pub(super) stamp: Stamp,
}

/// What a look at the roots showed.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Sorted by path, each file once however many roots lead to it.
    pub(super) files: Vec<Found>,
    /// What could not be looked at.
    pub(super) failed: Vec<(PathBuf, io::Error)>,
}

/// Looks at every root.
pub(super) fn scan(roots: &[Root]) -> Scan {
    let mut scan = Scan::default();
    for root in roots {
        let mut walk = Walk { scan: &mut scan, open: HashSet::new(), depth: root.depth };
        match std::fs::metadata(&root.path) {
            Ok(metadata) if metadata.is_dir() => walk.folder(&root.path, &metadata, 0),
            Ok(metadata) => walk.add(&root.path, &metadata),
            Err(error) => scan.failed.push((root.path.clone(), error)),
        }
    }
    scan.files.sort_by(|a, b| a.path.cmp(&b.path));
    let mut known = HashSet::with_capacity(scan.files.len());
    scan.files.retain(|file| known.insert(file.stamp.id));
    scan
}

struct Walk<'s> {
    scan: &'s mut Scan,
    /// Folders on the way down, so that a link upwards ends.
    open: HashSet<(u64, u64)>,
    depth: Depth,
}

impl Walk<'_> {
    fn folder(&mut self, path: &Path, metadata: &Metadata, depth: usize) {
        let id = (metadata.dev(), metadata.ino());
        if depth > MAX_DEPTH || !self.open.insert(id) {
            return;
        }
        match std::fs::read_dir(path) {
            Ok(entries) => {
                let mut names: Vec<_> = entries.flatten().map(|e| e.file_name()).collect();
                names.sort_unstable();
                names.iter().for_each(|name| self.entry(&path.join(name), depth));
            }
            Err(error) => self.scan.failed.push((path.to_owned(), error)),
        }
        self.open.remove(&id);
    }

    /// Names that start with a dot are an editor's, or Kubernetes' own (`..data`).
    fn entry(&mut self, path: &Path, depth: usize) {
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        if name.starts_with(b".") {
            return;
        }
        let is_manifest = name.ends_with(b".yaml") || name.ends_with(b".yml");
        if !is_manifest && self.depth == Depth::Flat {
            return;
        }
        match std::fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => {
                if self.depth == Depth::Recursive {
                    self.folder(path, &metadata, depth + 1);
                }
            }
            Ok(metadata) if is_manifest => self.add(path, &metadata),
            Ok(_) => {}
            // Gone between listing and looking: as if it had not been listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => self.scan.failed.push((path.to_owned(), error)),
        }
    }

    fn add(&mut self, path: &Path, metadata: &Metadata) {
        if !metadata.is_file() {
            // Opening a pipe or a device may wait for ever.
            self.scan.failed.push((path.to_owned(), io::Error::other("not a regular file")));
            return;
        }
        if self.scan.files.len() >= MAX_FILES {
            let message = format!("more than {MAX_FILES} files");
            self.scan.failed.push((path.to_owned(), io::Error::other(message)));
            return;
        }
        self.scan.files.push(Found { path: Arc::from(path), stamp: Stamp::of(metadata) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn names(root: &Path, depth: Depth) -> Vec<String> {
        let scan = scan(&[Root { path: root.to_owned(), depth }]);
        assert!(scan.failed.is_empty(), "{:?}", scan.failed);
        let relative = |f: &Found| f.path.strip_prefix(root).expect("below").display().to_string();
        scan.files.iter().map(relative).collect()
    }

    #[test]
    fn finds_manifests_in_path_order_and_nothing_else() {
        let dir = tempfile::tempdir().expect("a directory");
        for file in ["b/z.yaml", "b/a.yml", "a.yaml", "b-c/x.yaml", "notes.md", ".hidden.yaml"] {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("mkdir");
            std::fs::write(path, "").expect("write");
        }
        let all = ["a.yaml", "b/a.yml", "b/z.yaml", "b-c/x.yaml"];
        assert_eq!(names(dir.path(), Depth::Recursive), all);
        assert_eq!(names(dir.path(), Depth::Flat), ["a.yaml"]);
    }

    #[test]
    fn follows_links_but_neither_in_circles_nor_twice() {
        let dir = tempfile::tempdir().expect("a directory");
        let real = dir.path().join("..2024");
        std::fs::create_dir(&real).expect("mkdir");
        std::fs::write(real.join("a.yaml"), "").expect("write");
        symlink("..2024", dir.path().join("..data")).expect("link");
        symlink("..data/a.yaml", dir.path().join("a.yaml")).expect("link");
        symlink(".", dir.path().join("round")).expect("link");
        symlink("a.yaml", dir.path().join("b.yaml")).expect("link");
        assert_eq!(names(dir.path(), Depth::Recursive), ["a.yaml"]);
    }
}
