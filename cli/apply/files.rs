//! Which manifests go where. Each file is replaced whole; what did not change is not touched.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// Deepest folder that is looked into; deeper ones are a loop or a mistake.
const MAX_DEPTH: usize = 32;

/// What applying does.
#[derive(Debug)]
pub(super) struct Plan {
    from: PathBuf,
    into: PathBuf,
    /// Manifests of the new folder, relative to it.
    files: BTreeSet<PathBuf>,
    /// Manifests of the old folder alone, relative to it.
    pub(super) leftovers: Vec<PathBuf>,
}

impl Plan {
    /// Compares the manifests of two folders.
    ///
    /// # Errors
    /// When one cannot be read, or both are the same.
    pub(super) fn of(from: &Path, into: &Path) -> anyhow::Result<Self> {
        let real = |path: &Path| {
            path.canonicalize().with_context(|| format!("cannot read {}", path.display()))
        };
        let (from, into) = (real(from)?, real(into)?);
        anyhow::ensure!(
            !from.starts_with(&into) && !into.starts_with(&from),
            "the new folder and the node's must not be the same or inside each other"
        );
        let (mut files, mut there) = (BTreeSet::new(), BTreeSet::new());
        walk(&from, Path::new(""), 0, &mut files)?;
        walk(&into, Path::new(""), 0, &mut there)?;
        let leftovers = there.difference(&files).cloned().collect();
        Ok(Self { from, into, files, leftovers })
    }

    /// Writes what differs and removes the leftovers; returns how many files changed.
    ///
    /// # Errors
    /// When a file cannot be written; those before it are in place then.
    pub(super) fn carry_out(&self) -> anyhow::Result<usize> {
        let mut changed = 0;
        for file in &self.files {
            changed += usize::from(self.write(file)?);
        }
        for file in &self.leftovers {
            let path = self.into.join(file);
            std::fs::remove_file(&path)
                .with_context(|| format!("cannot remove {}", path.display()))?;
            changed += 1;
        }
        Ok(changed)
    }

    fn write(&self, file: &Path) -> anyhow::Result<bool> {
        let (source, target) = (self.from.join(file), self.into.join(file));
        let wrong = || format!("cannot write {}", target.display());
        let text = std::fs::read(&source).with_context(|| format!("{}", source.display()))?;
        if std::fs::read(&target).is_ok_and(|there| there == text) {
            return Ok(false);
        }
        let folder = target.parent().unwrap_or(&self.into);
        std::fs::create_dir_all(folder).with_context(wrong)?;
        // A name that starts with a dot is no manifest, so that nobody reads it half-written.
        let mut fresh =
            tempfile::Builder::new().prefix(".apply-").tempfile_in(folder).with_context(wrong)?;
        fresh.write_all(&text).with_context(wrong)?;
        if let Ok(metadata) = std::fs::metadata(&source) {
            fresh.as_file().set_permissions(metadata.permissions()).with_context(wrong)?;
        }
        fresh.as_file().sync_all().with_context(wrong)?;
        fresh.persist(&target).with_context(wrong)?;
        Ok(true)
    }
}

fn walk(
    root: &Path,
    below: &Path,
    depth: usize,
    found: &mut BTreeSet<PathBuf>,
) -> anyhow::Result<()> {
    let folder = root.join(below);
    anyhow::ensure!(depth <= MAX_DEPTH, "{} is too deep", folder.display());
    let entries =
        std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let path = below.join(&name);
        let text = name.to_string_lossy();
        if text.starts_with('.') {
            continue;
        }
        if entry.path().is_dir() {
            walk(root, &path, depth + 1, found)?;
        } else if text.ends_with(".yaml") || text.ends_with(".yml") {
            found.insert(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            std::fs::write(path, text).expect("written");
        }
        dir
    }

    #[test]
    fn what_differs_is_written_and_what_is_left_over_goes() {
        let new = folder(&[("a.yaml", "1"), ("flows/b.yml", "2"), ("notes.md", "no manifest")]);
        let old = folder(&[("a.yaml", "1"), ("flows/b.yml", "old"), ("flows/c.yaml", "3")]);
        let plan = Plan::of(new.path(), old.path()).expect("a plan");
        assert_eq!(plan.leftovers, [PathBuf::from("flows/c.yaml")]);
        assert_eq!(plan.carry_out().expect("written"), 2, "one edit, one removal");
        let again = Plan::of(new.path(), old.path()).expect("a plan");
        assert_eq!((again.leftovers.len(), again.carry_out().expect("written")), (0, 0));
        assert!(!old.path().join("notes.md").exists());
        let text = std::fs::read_to_string(old.path().join("flows/b.yml")).expect("there");
        assert_eq!(text, "2");
    }

    #[test]
    fn a_folder_is_not_applied_to_itself() {
        let dir = folder(&[("a.yaml", "1"), ("inner/b.yaml", "2")]);
        assert!(Plan::of(dir.path(), dir.path()).is_err());
        assert!(Plan::of(&dir.path().join("inner"), dir.path()).is_err());
    }
}
