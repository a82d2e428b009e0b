//! A keep-alive HTTP/1.1 connection that costs the load generator as little as possible.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One connection; one request at a time.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).await.expect("the node listens");
        stream.set_nodelay(true).expect("a socket option");
        Self { stream, buffer: Vec::with_capacity(4096) }
    }

    /// Sends a whole request and returns the status of the answer, whose body is read and dropped.
    pub(crate) async fn send(&mut self, request: &[u8]) -> u16 {
        self.stream.write_all(request).await.expect("the connection stays open");
        self.buffer.clear();
        loop {
            let read = self.stream.read_buf(&mut self.buffer).await.expect("an answer");
            assert!(read > 0, "the node closed the connection");
            if head(&self.buffer).is_some_and(|(end, length)| self.buffer.len() >= end + length) {
                break;
            }
        }
        let line = self.buffer.get(9..12).and_then(|code| std::str::from_utf8(code).ok());
        line.and_then(|code| code.parse().ok()).expect("a status")
    }
}

/// Length of a message's head, and of the body that it announces, once the head is whole.
pub(crate) fn head(message: &[u8]) -> Option<(usize, usize)> {
    const NAME: &[u8] = b"\r\ncontent-length:";
    let end = find(message, b"\r\n\r\n")? + 4;
    // hyper writes names in lower case.
    let length = find(&message[..end], NAME).map_or(0, |at| {
        let digits = message[at + NAME.len()..end].trim_ascii_start();
        let digits = digits.iter().take_while(|byte| byte.is_ascii_digit());
        digits.fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'))
    });
    Some((end, length))
}

/// Where `needle` begins.
pub(crate) fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
