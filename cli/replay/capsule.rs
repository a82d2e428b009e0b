//! A capsule: one file with a slice of the past, all that it takes to go through it again
//! offline. JSON lines: a head, sections, and a last line with the digest of all before it.
//!
//! | line | holds |
//! |---|---|
//! | `{"capsule": 1, …}` | version, account, slice, when it was saved |
//! | `{"event": …}` | an entry of the journal; configurations first, then the slice in order |
//! | `{"message": …}` | a message as accepted |
//! | `{"approval": …}` | a held action with its digest and votes |
//! | `{"end": …}` | how many lines, and SHA-256 over them |

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;

use anyhow::Context;
use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::slice::Slice;

/// Written into every capsule; another is not understood.
const VERSION: u64 = 1;

/// Writes a capsule, line by line.
pub(super) struct Writer {
    file: std::io::BufWriter<tempfile::NamedTempFile>,
    digest: Sha256,
    lines: u64,
}

impl Writer {
    /// Starts a capsule that will be `path`; until [`Writer::finish`] nothing is there.
    ///
    /// # Errors
    /// When the folder cannot be written to.
    pub(super) fn start(path: &Path, head: &Value) -> anyhow::Result<Self> {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
        let folder = folder.unwrap_or_else(|| Path::new("."));
        let file = tempfile::NamedTempFile::new_in(folder)
            .with_context(|| format!("cannot write into {}", folder.display()))?;
        let mut writer =
            Self { file: std::io::BufWriter::new(file), digest: Sha256::new(), lines: 0 };
        writer.line(head.to_string().as_bytes())?;
        Ok(writer)
    }

    /// Adds a line of a section; `body` is JSON.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub(super) fn add(&mut self, section: &str, body: &[u8]) -> anyhow::Result<()> {
        let line = [b"{\"", section.as_bytes(), b"\":", body.trim_ascii(), b"}"].concat();
        self.line(&line)
    }

    fn line(&mut self, line: &[u8]) -> anyhow::Result<()> {
        self.digest.update(line);
        self.digest.update(b"\n");
        self.lines += 1;
        self.file.write_all(line)?;
        Ok(self.file.write_all(b"\n")?)
    }

    /// Ends it, and puts it in its place whole. Returns its digest.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub(super) fn finish(mut self, path: &Path) -> anyhow::Result<String> {
        let digest = hex::encode(std::mem::take(&mut self.digest).finalize());
        let end = json!({ "end": { "lines": self.lines, "sha256": digest } });
        writeln!(self.file, "{end}")?;
        let file = self.file.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        file.as_file().sync_all()?;
        file.persist(path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(digest)
    }
}

/// The head of a capsule.
pub(super) fn head(account: &str, slice: &Slice, saved_at: &str) -> Value {
    json!({ "capsule": VERSION, "account": account, "slice": slice, "saved_at": saved_at })
}

/// Reads a capsule's head, and checks that every line is there as it was saved.
///
/// # Errors
/// When it cannot be read, is of another version, or was cut or changed.
pub(super) fn verify(path: &Path) -> anyhow::Result<Value> {
    let mut file = open(path)?;
    let (mut digest, mut lines) = (Sha256::new(), 0_u64);
    let mut head = Value::Null;
    let mut line = Vec::new();
    loop {
        line.clear();
        let name = || path.display();
        let read = file.read_until(b'\n', &mut line).with_context(|| name().to_string())?;
        anyhow::ensure!(read > 0, "{} is cut off: save it again", name());
        if lines == 0 {
            head = serde_json::from_slice(&line).unwrap_or_default();
            let version = head["capsule"].as_u64();
            anyhow::ensure!(
                version == Some(VERSION),
                "{} is no capsule of this version: `aofctl replay --save FILE` makes one",
                name()
            );
        }
        if line.starts_with(b"{\"end\":") {
            let end: Value = serde_json::from_slice(&line).unwrap_or_default();
            let whole = end["end"]["lines"] == lines
                && end["end"]["sha256"] == hex::encode(digest.finalize());
            anyhow::ensure!(whole, "{} was changed after it was saved", name());
            return Ok(head);
        }
        digest.update(&line);
        lines += 1;
    }
}

fn open(path: &Path) -> anyhow::Result<BufReader<File>> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(BufReader::new(file))
}

/// The lines of one section, in order.
pub(crate) struct Section {
    file: BufReader<File>,
    start: Vec<u8>,
    /// Types of events; empty for all.
    kinds: Vec<String>,
}

/// What chooses an event.
#[derive(serde::Deserialize)]
struct Typed<'l> {
    #[serde(rename = "type", borrow)]
    kind: std::borrow::Cow<'l, str>,
}

impl Section {
    /// Opens `section` of the capsule at `path`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn open(path: &Path, section: &str, kinds: &[&str]) -> anyhow::Result<Self> {
        let kinds = kinds.iter().map(|kind| (*kind).to_owned()).collect();
        Ok(Self { file: open(path)?, start: format!("{{\"{section}\":").into_bytes(), kinds })
    }

    /// The next line's body; `None` at the end.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<Bytes>> {
        loop {
            let mut line = Vec::new();
            if self.file.read_until(b'\n', &mut line)? == 0 {
                return Ok(None);
            }
            let Some(body) = line.strip_prefix(&self.start[..]) else { continue };
            let body = body.trim_ascii().strip_suffix(b"}").unwrap_or(body);
            if !self.kinds.is_empty() {
                let typed: Typed<'_> = serde_json::from_slice(body)?;
                if !self.kinds.iter().any(|kind| *kind == typed.kind) {
                    continue;
                }
            }
            return Ok(Some(Bytes::copy_from_slice(body)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved(dir: &Path) -> std::path::PathBuf {
        let path = dir.join("incident.capsule");
        let head = head("org-a", &Slice::default(), "2026-01-01T00:00:00.000Z");
        let mut writer = Writer::start(&path, &head).expect("a writable folder");
        writer.add("event", br#"{"type":"run.step","n":1}"#).expect("written");
        writer.add("message", br#"{"seq":1}"#).expect("written");
        writer.add("event", br#"{"type":"run.failed","n":2}"#).expect("written");
        assert!(!path.exists(), "nothing is there before it is whole");
        writer.finish(&path).expect("written");
        path
    }

    fn all(path: &Path, section: &str, kinds: &[&str]) -> Vec<String> {
        let mut section = Section::open(path, section, kinds).expect("readable");
        let mut read = Vec::new();
        while let Some(line) = section.next().expect("readable") {
            read.push(String::from_utf8(line.to_vec()).expect("text"));
        }
        read
    }

    #[test]
    fn what_was_saved_is_read_back_by_section_and_type() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = saved(dir.path());
        assert_eq!(verify(&path).expect("whole")["account"], "org-a");
        assert_eq!(all(&path, "event", &[]).len(), 2);
        assert_eq!(all(&path, "event", &["run.failed"]), [r#"{"type":"run.failed","n":2}"#]);
        assert_eq!(all(&path, "message", &[]), [r#"{"seq":1}"#]);
    }

    #[test]
    fn a_capsule_that_was_cut_or_changed_is_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = saved(dir.path());
        let whole = std::fs::read_to_string(&path).expect("text");
        let check = |text: String, expected: &str| {
            std::fs::write(&path, text).expect("written");
            let error = verify(&path).expect_err("refused").to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(whole.replace("\"n\":1", "\"n\":7"), "was changed");
        let cut: String = whole.lines().take(2).map(|l| format!("{l}\n")).collect();
        check(cut, "cut off");
        check("{}\n".to_owned(), "no capsule");
        check(whole.replace("\"capsule\":1", "\"capsule\":9"), "no capsule");
    }
}
