//! How a message is written: its id, headers, key and priority beside the payload.

use async_nats::HeaderMap;
use async_nats::header::{HeaderName, HeaderValue, NATS_MESSAGE_ID};
use async_nats::jetstream::message::StreamMessage;
use bytes::Bytes;
use uuid::Uuid;

use crate::clock::UnixMs;
use crate::message::Priority;
use crate::queue::{Headers, Publication, QueueError, Stored};
use crate::subject::{Space, Subject};

/// The ordering key.
const KEY: &str = "Aof-Key";
/// The ordering key as JSON text, when a header cannot hold it as it is.
const KEY_JSON: &str = "Aof-Key-Json";
/// Present and `critical`: overtakes.
const PRIORITY: &str = "Aof-Priority";
const CRITICAL: &str = "critical";
/// Headers that NATS cannot hold as they are, as a JSON object.
const MORE: &str = "Aof-More";
/// Prefixes of headers that mean something to the server or to us, in lower case.
const RESERVED: [&str; 2] = ["nats-", "aof-"];
/// Largest payload in bytes. Source: `Publication::payload`.
const MAX_PAYLOAD_BYTES: usize = 4 << 20;
/// Longest header name or value in bytes; the same as the embedded queue takes.
const MAX_HEADER_BYTES: usize = u16::MAX as usize;
/// What a header line costs beside name and value, in bytes.
const LINE_BYTES: usize = 4;
/// Version line, end line, and room for what batches add, in bytes.
const HEAD_BYTES: usize = 256;

/// A message that is ready to be sent.
#[derive(Debug, Clone)]
pub(super) struct Outgoing {
    pub(super) subject: String,
    pub(super) id: Uuid,
    pub(super) headers: HeaderMap,
    pub(super) payload: Bytes,
    /// What the server counts against its `max_payload`, at most.
    pub(super) bytes: usize,
}

/// A message as a consumer needs it.
#[derive(Debug, Clone)]
pub(super) struct Incoming {
    pub(super) stored: Stored,
    pub(super) ordering_key: Option<String>,
    pub(super) priority: Priority,
}

/// A stored message that this program did not write, or that is damaged.
#[derive(Debug, thiserror::Error)]
#[error("message {seq} cannot be read: its {part} is not this program's")]
pub(super) struct Unreadable {
    pub(super) seq: u64,
    part: &'static str,
}

/// Writes a publication; refuses what no stream takes.
pub(super) fn encode(
    space: &Space,
    publication: Publication,
    max_bytes: usize,
) -> Result<Outgoing, QueueError> {
    let texts = publication.headers.iter().flat_map(|(name, value)| [name, value]);
    let longest = texts.map(String::len).max().unwrap_or_default();
    too_large(publication.payload.len(), MAX_PAYLOAD_BYTES)?;
    too_large(longest, MAX_HEADER_BYTES)?;
    let mut headers = HeaderMap::new();
    headers.insert(NATS_MESSAGE_ID, publication.id.to_string());
    if let Some(key) = &publication.ordering_key {
        match value(key) {
            Some(value) => headers.insert(KEY, value),
            None => headers.insert(KEY_JSON, json(key)),
        }
    }
    if publication.priority == Priority::Critical {
        headers.insert(PRIORITY, CRITICAL);
    }
    let mut more = Headers::new();
    for (name, text) in publication.headers {
        match (self::name(&name), value(&text)) {
            (Some(name), Some(value)) => headers.insert(name, value),
            _ => {
                more.insert(name, text);
            }
        }
    }
    if !more.is_empty() {
        headers.insert(MORE, json(&more));
    }
    let subject = space.subject(&publication.subject);
    let bytes = publication.payload.len() + wire_bytes(&headers);
    too_large(bytes, max_bytes)?;
    Ok(Outgoing { subject, id: publication.id, headers, payload: publication.payload, bytes })
}

fn too_large(bytes: usize, max_bytes: usize) -> Result<(), QueueError> {
    if bytes > max_bytes { Err(QueueError::TooLarge { bytes, max_bytes }) } else { Ok(()) }
}

fn wire_bytes(headers: &HeaderMap) -> usize {
    let line = |(name, values): (&HeaderName, &Vec<HeaderValue>)| {
        let name: &str = name.as_ref();
        values.iter().map(|value| name.len() + value.as_str().len() + LINE_BYTES).sum::<usize>()
    };
    HEAD_BYTES + headers.iter().map(line).sum::<usize>()
}

/// `name` as a header, unless it means something else or cannot stand in one.
fn name(name: &str) -> Option<HeaderName> {
    let lower = name.to_ascii_lowercase();
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    let free = !RESERVED.iter().any(|prefix| lower.starts_with(prefix));
    (plain && free).then(|| name.parse().ok()).flatten()
}

/// `text` as a header's value, unless it would not come back as it was: the server and its
/// clients end lines at control characters and trim spaces.
fn value(text: &str) -> Option<HeaderValue> {
    let plain = !text.is_empty() && text.trim() == text && !text.contains(char::is_control);
    (plain && !text.contains(SERVER_S)).then(|| text.parse().ok()).flatten()
}

/// What the names of the server's headers begin with. NATS 2.10 looks for a header in the
/// values of the others too, and then takes it for absent: an id would not be seen.
const SERVER_S: &str = "Nats-";
const SERVER_S_ESCAPED: &str = "\\u004eats-";

/// Text and maps of text always have a JSON form, and it holds no line ends.
fn json<T: serde::Serialize>(value: &T) -> String {
    let json = serde_json::to_string(value).unwrap_or_default();
    json.replace(SERVER_S, SERVER_S_ESCAPED)
}

/// Reads what [`encode`] wrote and the server stored.
pub(super) fn decode(
    space: &Space,
    (subject, seq, published_at_ms): (&str, u64, UnixMs),
    headers: Option<&HeaderMap>,
    payload: Bytes,
) -> Result<Incoming, Unreadable> {
    let broken = |part| Unreadable { seq, part };
    let subject: Subject = space.parse(subject).ok_or(broken("subject"))?;
    let headers = headers.ok_or(broken("id"))?;
    let text = |name: &str| headers.get(name).map(HeaderValue::as_str);
    let id = headers.get(NATS_MESSAGE_ID).and_then(|id| id.as_str().parse().ok());
    let mut read: Headers = match text(MORE) {
        Some(more) => serde_json::from_str(more).map_err(|_| broken("headers"))?,
        None => Headers::new(),
    };
    for (name, values) in headers.iter() {
        let name: &str = name.as_ref();
        let Some(value) = values.last().filter(|_| self::name(name).is_some()) else { continue };
        read.insert(name.to_owned(), value.as_str().to_owned());
    }
    let ordering_key = match text(KEY_JSON) {
        Some(key) => Some(serde_json::from_str(key).map_err(|_| broken("ordering key"))?),
        None => text(KEY).map(str::to_owned),
    };
    let critical = text(PRIORITY) == Some(CRITICAL);
    Ok(Incoming {
        stored: Stored {
            seq,
            subject,
            id: id.ok_or(broken("id"))?,
            headers: read,
            payload,
            published_at_ms,
        },
        ordering_key,
        priority: if critical { Priority::Critical } else { Priority::Normal },
    })
}

/// A message that a consumer delivered.
pub(super) fn from_delivery(
    space: &Space,
    message: async_nats::jetstream::Message,
) -> Result<Incoming, Unreadable> {
    let (seq, at_ms) = match message.info() {
        Ok(info) => (info.stream_sequence, unix_ms(info.published.unix_timestamp_nanos())),
        Err(_) => return Err(Unreadable { seq: 0, part: "reply subject" }),
    };
    let message = message.message;
    decode(space, (&message.subject, seq, at_ms), message.headers.as_ref(), message.payload)
}

/// A message that was read from the stream without a consumer.
pub(super) fn from_stream(space: &Space, message: StreamMessage) -> Result<Incoming, Unreadable> {
    let at_ms = unix_ms(message.time.unix_timestamp_nanos());
    let place = (message.subject.as_str(), message.sequence, at_ms);
    decode(space, place, Some(&message.headers), message.payload)
}

/// Times before 1970 cannot be: the server stamps what it stores.
fn unix_ms(nanos: i128) -> UnixMs {
    UnixMs::try_from(nanos / 1_000_000).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::TenantId;

    fn publication(headers: Headers, key: Option<String>) -> Publication {
        let subject = Subject::event(&TenantId::default_tenant(), "run.started");
        Publication { headers, ordering_key: key, ..Publication::new(subject, Uuid::nil(), "x") }
    }

    proptest! {
        #[test]
        fn a_message_reads_back_as_it_was_written(
            headers in proptest::collection::btree_map("\\PC{0,8}|[a-z-]{1,12}", ".{0,20}", 0..5),
            key in proptest::option::of(".{0,20}"),
            critical: bool,
        ) {
            let space = Space::new("aof");
            let priority = if critical { Priority::Critical } else { Priority::Normal };
            let sent = publication(headers.clone(), key.clone()).with_priority(priority);
            let out = encode(&space, sent, usize::MAX).expect("small");
            let back = decode(&space, (&out.subject, 7, 9), Some(&out.headers), out.payload)
                .expect("our own");
            prop_assert_eq!(back.stored.headers, headers);
            prop_assert_eq!(back.ordering_key, key);
            prop_assert_eq!(back.priority == Priority::Critical, critical);
            prop_assert_eq!((back.stored.seq, back.stored.published_at_ms), (7, 9));
        }
    }

    #[test]
    fn reserved_headers_do_not_reach_the_server() {
        let headers = Headers::from([("Nats-Rollup".to_owned(), "all".to_owned())]);
        let out =
            encode(&Space::new("aof"), publication(headers, None), usize::MAX).expect("small");
        assert!(out.headers.get("Nats-Rollup").is_none());
    }

    #[test]
    fn no_value_holds_the_name_of_a_header_of_the_server() {
        let headers = Headers::from([("note".to_owned(), "Nats-Msg-Id".to_owned())]);
        let sent = publication(headers.clone(), Some("a Nats-Msg-Id".to_owned()));
        let out = encode(&Space::new("aof"), sent, usize::MAX).expect("small");
        for value in out.headers.iter().flat_map(|(_, values)| values) {
            assert!(!value.as_str().contains("Nats-"), "{value:?}");
        }
        let back =
            decode(&Space::new("aof"), (&out.subject, 1, 1), Some(&out.headers), out.payload)
                .expect("our own");
        assert_eq!(back.stored.headers, headers);
        assert_eq!(back.ordering_key.as_deref(), Some("a Nats-Msg-Id"));
    }

    #[test]
    fn what_the_server_would_not_take_is_refused_before() {
        let refused = encode(&Space::new("aof"), publication(Headers::new(), None), 10);
        assert!(matches!(refused, Err(QueueError::TooLarge { max_bytes: 10, .. })), "{refused:?}");
    }

    #[test]
    fn foreign_messages_are_told_apart() {
        let space = Space::new("aof");
        assert!(decode(&space, ("other.event.t.x", 1, 1), None, Bytes::new()).is_err());
        let tenant = crate::ids::TenantId::new("t").expect("a name");
        let ours = space.subject(&Subject::event(&tenant, "x"));
        assert!(decode(&space, (&ours, 1, 1), None, Bytes::new()).is_err(), "it has no id");
    }
}
