//! The streams: their names and settings, made by any number of nodes at once.

use std::time::Duration;

use async_nats::jetstream::context::{CreateStreamErrorKind, GetStreamErrorKind};
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use async_nats::jetstream::{self, ErrorCode};

use crate::subject::Stream;

use super::connect::{Link, OpenError};

/// How long an id is remembered. Source: the queue port.
pub(super) const DEDUPE_MS: u64 = 2 * 60 * 60 * 1_000;
/// Age at which a leader's key is free when nobody renewed it.
pub(super) const LEADER_TTL_MS: u64 = 2_000;
/// Tries to make a stream as it should be, while other nodes do the same.
const MAX_TRIES: usize = 5;
/// No limit, as the server writes it.
const NONE: i64 = -1;

/// How much the streams hold and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Caps {
    /// Bytes in one stream; then publishers are refused with `Full`. The server reserves
    /// this much of its store at once, so `None` leaves it to the server's own limit.
    pub max_stream_bytes: Option<u64>,
    /// Messages in one stream; then publishers are refused with `Full`.
    pub max_stream_messages: u64,
    /// Age after which history is deleted.
    pub max_age_ms: u64,
    /// Bytes of history from which on the oldest is deleted whatever its age.
    pub history_bytes: u64,
}

impl Default for Caps {
    fn default() -> Self {
        Self {
            max_stream_bytes: None,
            max_stream_messages: 200_000_000,
            max_age_ms: 7 * 24 * 60 * 60 * 1_000,
            history_bytes: 16 << 30,
        }
    }
}

/// What the server calls our things.
#[derive(Debug, Clone)]
pub(super) struct Names {
    streams: [String; Stream::ALL.len()],
    /// What consumers have done.
    pub(super) progress: String,
    /// The key-value bucket of the leaders.
    pub(super) leaders: String,
}

impl Names {
    /// Of the cluster `name`.
    pub(super) fn new(name: &str) -> Self {
        let upper = name.to_ascii_uppercase();
        Self {
            streams: Stream::ALL.map(|stream| format!("{upper}_{}", stream.name())),
            progress: format!("{upper}_PROGRESS"),
            leaders: format!("{name}_leaders"),
        }
    }

    /// Of one stream.
    pub(super) fn stream(&self, stream: Stream) -> &str {
        &self.streams[stream as usize]
    }
}

/// Makes what is not there, upgrades what is older, and refuses what is not ours.
pub(super) async fn ensure(link: &Link) -> Result<(), OpenError> {
    for stream in Stream::ALL {
        ensure_one(link, &message_stream(link, stream)).await?;
    }
    ensure_one(link, &progress_stream(link)).await?;
    ensure_one(link, &leaders_stream(link)).await
}

fn base(link: &Link, name: &str, subject: String) -> Config {
    Config {
        name: name.to_owned(),
        subjects: vec![subject],
        retention: RetentionPolicy::Limits,
        storage: StorageType::File,
        discard: DiscardPolicy::New,
        max_bytes: NONE,
        max_messages: NONE,
        max_messages_per_subject: NONE,
        num_replicas: link.replicas,
        allow_direct: true,
        ..Config::default()
    }
}

/// History ages out, INBOUND only once it was routed (see `retention`); what waits for
/// somebody is never thrown away, a full stream refuses instead.
fn message_stream(link: &Link, stream: Stream) -> Config {
    let max_age_ms = if stream == Stream::Events { link.caps.max_age_ms } else { 0 };
    Config {
        max_bytes: link.caps.max_stream_bytes.map_or(NONE, |bytes| bytes.cast_signed()),
        max_messages: link.caps.max_stream_messages.cast_signed(),
        max_age: Duration::from_millis(max_age_ms),
        duplicate_window: Duration::from_millis(DEDUPE_MS),
        allow_atomic_publish: link.atomic(),
        ..base(link, link.stream(stream), link.space.all(stream))
    }
}

fn progress_stream(link: &Link) -> Config {
    let progress = base(link, &link.names.progress, link.space.all_progress());
    // Its own appends are fenced by sequence numbers; ids only cost memory.
    Config { duplicate_window: Duration::from_millis(LEADER_TTL_MS), ..progress }
}

/// A key-value bucket, as the server's conventions have it. In a file: a single server
/// forgets streams in memory when it restarts, and then nobody could be elected.
fn leaders_stream(link: &Link) -> Config {
    let bucket = &link.names.leaders;
    Config {
        max_messages_per_subject: 1,
        max_age: Duration::from_millis(LEADER_TTL_MS),
        duplicate_window: Duration::from_millis(LEADER_TTL_MS),
        allow_rollup: true,
        deny_delete: true,
        ..base(link, &format!("KV_{bucket}"), format!("$KV.{bucket}.>"))
    }
}

/// Brings one stream to `wanted` and reads it back.
async fn ensure_one(link: &Link, wanted: &Config) -> Result<(), OpenError> {
    for _ in 0..MAX_TRIES {
        let Some(found) = find(link, &wanted.name).await? else {
            create(link, wanted).await?;
            continue;
        };
        if let Some(difference) = foreign(&found, wanted) {
            return Err(link.servers.refused(format!(
                "stream {} is there already and {difference}; it is not this program's: give \
                 the cluster another name, or remove the stream",
                wanted.name
            )));
        }
        if fits(&found, wanted) {
            return Ok(());
        }
        update(link, &merged(found, wanted)).await?;
    }
    Err(link.servers.refused(format!(
        "stream {} does not keep the settings it is given; look for another program or a node \
         with other settings that changes it",
        wanted.name
    )))
}

async fn find(link: &Link, name: &str) -> Result<Option<Config>, OpenError> {
    match link.context.get_stream(name).await {
        Ok(stream) => Ok(Some(stream.cached_info().config.clone())),
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(cause)
                if cause.error_code() == ErrorCode::STREAM_NOT_FOUND =>
            {
                Ok(None)
            }
            GetStreamErrorKind::JetStream(cause) => Err(classify(link, name, &cause)),
            _ => Err(link.servers.unreachable(error)),
        },
    }
}

async fn create(link: &Link, wanted: &Config) -> Result<(), OpenError> {
    match link.context.create_stream(wanted).await {
        Ok(_) => Ok(()),
        Err(error) => failed(link, &wanted.name, error),
    }
}

async fn update(link: &Link, wanted: &Config) -> Result<(), OpenError> {
    match link.context.update_stream(wanted).await {
        Ok(_) => Ok(()),
        Err(error) => failed(link, &wanted.name, error),
    }
}

fn failed(
    link: &Link,
    name: &str,
    error: async_nats::jetstream::context::CreateStreamError,
) -> Result<(), OpenError> {
    match error.kind() {
        // Another node was faster, or removed it just now; the next look tells.
        CreateStreamErrorKind::NotFound => Ok(()),
        CreateStreamErrorKind::JetStream(cause)
            if cause.error_code() == ErrorCode::STREAM_NAME_EXIST =>
        {
            Ok(())
        }
        CreateStreamErrorKind::JetStream(cause) => Err(classify(link, name, &cause)),
        _ => Err(link.servers.unreachable(error)),
    }
}

/// What passes by itself is *unreachable*; what somebody must change is *refused*.
fn classify(link: &Link, name: &str, cause: &jetstream::Error) -> OpenError {
    let way_out = match cause.error_code() {
        ErrorCode::STREAM_SUBJECT_OVERLAP => {
            "another stream takes the same subjects: give the cluster another name, or remove \
             that stream"
        }
        ErrorCode::STORAGE_RESOURCES_EXCEEDED
        | ErrorCode::MEMORY_RESOURCES_EXCEEDED
        | ErrorCode::ACCOUNT_RESOURCES_EXCEEDED
        | ErrorCode::INSUFFICIENT_RESOURCES => "give JetStream more room (`max_file_store`)",
        ErrorCode::STREAM_REPLICAS_NOT_SUPPORTED => {
            "a single server keeps one copy: set `replicas: 1` or run a NATS cluster"
        }
        ErrorCode::JETSTREAM_NOT_ENABLED | ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT => {
            "turn JetStream on for this server and account"
        }
        _ => return link.servers.unreachable(format!("stream {name}: {cause}")),
    };
    link.servers.refused(format!("stream {name}: {cause}; {way_out}"))
}

/// What a stream of that name has that we never make; `None`: it is ours.
fn foreign(found: &Config, wanted: &Config) -> Option<String> {
    let differs = [
        (found.subjects != wanted.subjects, format!("takes {}", found.subjects.join(", "))),
        (found.retention != wanted.retention, format!("retains by {:?}", found.retention)),
        (found.storage != wanted.storage, format!("keeps its data in {:?}", found.storage)),
        (found.mirror.is_some() || found.sources.is_some(), "copies another stream".to_owned()),
        (found.subject_transform.is_some(), "renames its subjects".to_owned()),
        (found.republish.is_some(), "republishes what it takes".to_owned()),
        (found.no_ack, "confirms nothing".to_owned()),
        (found.sealed, "is sealed".to_owned()),
    ];
    differs.into_iter().find_map(|(differs, what)| differs.then_some(what))
}

/// What we may change, from `wanted`; what is not ours to know (placement, metadata of the
/// server), as found.
fn merged(found: Config, wanted: &Config) -> Config {
    Config {
        discard: wanted.discard,
        max_bytes: wanted.max_bytes,
        max_messages: wanted.max_messages,
        max_messages_per_subject: wanted.max_messages_per_subject,
        max_age: wanted.max_age,
        duplicate_window: wanted.duplicate_window,
        num_replicas: wanted.num_replicas,
        allow_direct: wanted.allow_direct,
        allow_rollup: wanted.allow_rollup,
        deny_delete: wanted.deny_delete,
        // Once on, the server does not turn it off; nor is it needed.
        allow_atomic_publish: found.allow_atomic_publish || wanted.allow_atomic_publish,
        ..found
    }
}

fn fits(found: &Config, wanted: &Config) -> bool {
    *found == merged(found.clone(), wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subject::Space;

    fn config() -> Config {
        Config {
            subjects: vec![Space::new("aof").all(Stream::Tasks)],
            max_bytes: NONE,
            ..Config::default()
        }
    }

    #[test]
    fn what_the_server_adds_is_left_alone() {
        let mut found = config();
        found.metadata.insert("_nats.level".to_owned(), "2".to_owned());
        found.max_consumers = -1;
        assert!(fits(&found, &config()));
        found.max_bytes = 1;
        assert!(!fits(&found, &config()));
        assert_eq!(merged(found, &config()).metadata.len(), 1);
    }

    #[test]
    fn a_stream_that_we_would_never_make_is_foreign() {
        assert_eq!(foreign(&config(), &config()), None);
        let broken: [fn(&mut Config); 4] = [
            |found| found.subjects = vec![">".to_owned()],
            |found| found.retention = RetentionPolicy::WorkQueue,
            |found| found.storage = StorageType::Memory,
            |found| found.no_ack = true,
        ];
        for change in broken {
            let mut found = config();
            change(&mut found);
            assert!(foreign(&found, &config()).is_some(), "{found:?}");
        }
    }

    #[test]
    fn names_carry_the_cluster() {
        let names = Names::new("a-1");
        assert_eq!(names.stream(Stream::Tasks), "A-1_TASKS");
        assert_eq!((names.progress, names.leaders), ("A-1_PROGRESS".into(), "a-1_leaders".into()));
    }
}
