//! Where a replay stands: one file each, replaced whole, so that a crash loses at most what
//! was sent since; and sending that again is a duplicate, which runs nothing.

use std::path::PathBuf;

use anyhow::Context;
use aof_shared::ids::TenantId;
use serde::{Deserialize, Serialize};

use crate::events::state_dir;
use crate::replay::Past;

/// How a replay stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    /// Messages come in again, or its terminal was killed.
    Running,
    /// It stopped and can go on.
    Paused,
    /// Everything came in again.
    Done,
    /// It was given up.
    Cancelled,
}

/// A replay that lets messages come in again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) name: String,
    pub(crate) server: String,
    pub(crate) account: TenantId,
    pub(crate) slice: Past,
    /// Times as fast as it was; missing for as fast as it goes.
    pub(crate) speed: Option<f64>,
    pub(crate) status: Status,
    /// Messages of the slice.
    pub(crate) total: u64,
    /// Messages that were gone through, in order.
    pub(crate) done: u64,
    /// Of these, those that could not come again: no longer kept, or replayed themselves.
    pub(crate) skipped: u64,
    /// Of these, those that had come again before.
    pub(crate) duplicates: u64,
    /// The place in the journal of the last one.
    pub(crate) after_seq: u64,
}

impl Job {
    /// The replay of this name.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn read(name: &str) -> anyhow::Result<Self> {
        let path = path(name)?;
        let text = std::fs::read_to_string(&path).with_context(|| {
            format!("there is no replay `{name}`; `aofctl replays list` names them")
        })?;
        serde_json::from_str(&text).with_context(|| format!("{} is no replay", path.display()))
    }

    /// Every replay, by name.
    ///
    /// # Errors
    /// When the state directory cannot be read.
    pub(crate) fn all() -> anyhow::Result<Vec<Self>> {
        let dir = dir()?;
        let entries = match std::fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).with_context(|| dir.display().to_string()),
        };
        let texts = entries
            .flatten()
            .filter(|entry| entry.path().extension().is_some_and(|e| e == "json"))
            .filter_map(|entry| std::fs::read_to_string(entry.path()).ok());
        let mut all: Vec<Self> =
            texts.filter_map(|text| serde_json::from_str(&text).ok()).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// Keeps where it stands.
    ///
    /// # Errors
    /// When the state directory cannot be written to.
    pub(crate) fn write(&self) -> anyhow::Result<()> {
        let path = path(&self.name)?;
        std::fs::create_dir_all(dir()?)?;
        let next = path.with_extension("next");
        std::fs::write(&next, serde_json::to_vec_pretty(self)?)
            .and_then(|()| std::fs::rename(&next, &path))
            .with_context(|| format!("cannot keep the replay in {}", path.display()))
    }

    /// Asks whoever runs it to stop.
    ///
    /// # Errors
    /// When the state directory cannot be written to.
    pub(crate) fn ask(&self, status: Status) -> anyhow::Result<()> {
        let asked = serde_json::to_string(&status)?;
        std::fs::write(path(&self.name)?.with_extension("asked"), asked)?;
        if self.status != Status::Running {
            // Nobody runs it: it is so at once.
            let mut job = self.clone();
            job.status = if self.status == Status::Done { Status::Done } else { status };
            job.forget_asked()?;
            return job.write();
        }
        Ok(())
    }

    /// What it was asked to become.
    pub(crate) fn asked(&self) -> Option<Status> {
        let path = path(&self.name).ok()?.with_extension("asked");
        serde_json::from_str(&std::fs::read_to_string(path).ok()?).ok()
    }

    /// What was asked is so, or no longer meant.
    ///
    /// # Errors
    /// When the state directory cannot be written to.
    pub(crate) fn forget_asked(&self) -> anyhow::Result<()> {
        match std::fs::remove_file(path(&self.name)?.with_extension("asked")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}

fn dir() -> anyhow::Result<PathBuf> {
    Ok(state_dir()?.join("replays"))
}

fn path(name: &str) -> anyhow::Result<PathBuf> {
    Ok(dir()?.join(format!("{name}.json")))
}
