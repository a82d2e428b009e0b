//! A stand-in for Slack's API that costs the machine next to nothing, so that what is
//! measured is the node: it reads a request's path, length and text, and no more.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::client::{find, head};

/// Sees the text of each `chat.postMessage`.
type Observer = dyn Fn(&str) + Send + Sync;

/// Listens until the benchmark's runtime ends.
pub(crate) async fn listen(observer: impl Fn(&str) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("an address");
    let (observer, posted): (Arc<Observer>, _) = (Arc::new(observer), Arc::default());
    #[expect(clippy::disallowed_methods, reason = "ends with the benchmark's runtime")]
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).expect("a socket option");
            tokio::spawn(serve(stream, Arc::clone(&observer), Arc::clone(&posted)));
        }
    });
    addr
}

/// Answers one connection's requests until it closes.
async fn serve(mut stream: TcpStream, observer: Arc<Observer>, posted: Arc<AtomicU64>) {
    let mut buffer = Vec::with_capacity(4096);
    loop {
        let Some((end, length)) = head(&buffer) else {
            match stream.read_buf(&mut buffer).await {
                Ok(read) if read > 0 => continue,
                _ => return,
            }
        };
        while buffer.len() < end + length {
            match stream.read_buf(&mut buffer).await {
                Ok(read) if read > 0 => {}
                _ => return,
            }
        }
        let body = answer(&buffer[..end + length], end, observer.as_ref(), &posted);
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
        buffer.drain(..end + length);
    }
}

fn answer(request: &[u8], end: usize, observer: &Observer, posted: &AtomicU64) -> String {
    if !request.starts_with(b"POST /api/chat.postMessage ") {
        return r#"{"ok":true,"user_id":"U0BOT","bot_id":"B0BOT","team_id":"T1"}"#.to_owned();
    }
    observer(text(&request[end..]));
    let n = posted.fetch_add(1, Ordering::Relaxed);
    format!(r#"{{"ok":true,"channel":"C1","ts":"1800000000.{n:06}"}}"#)
}

/// The text of a message; the load's own texts have nothing that JSON escapes.
fn text(body: &[u8]) -> &str {
    const NAME: &[u8] = b"\"text\":\"";
    let start = find(body, NAME).expect("a message has a text") + NAME.len();
    let length = find(&body[start..], b"\"").expect("it ends");
    std::str::from_utf8(&body[start..start + length]).expect("UTF-8")
}
