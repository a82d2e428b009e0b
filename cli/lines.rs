//! A streamed answer as lines, without holding more than one of them.

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;

/// The lines of a body, as they come.
pub(crate) struct Lines {
    pieces: BoxStream<'static, reqwest::Result<Bytes>>,
    rest: BytesMut,
    /// How much of `rest` has no line end in it.
    looked: usize,
}

impl Lines {
    /// The lines of `response`.
    pub(crate) fn of(response: reqwest::Response) -> Self {
        Self { pieces: response.bytes_stream().boxed(), rest: BytesMut::new(), looked: 0 }
    }

    /// The next line that is not empty, without its end; `None` at the end of the body.
    ///
    /// # Errors
    /// When the body breaks off.
    pub(crate) async fn next(&mut self) -> reqwest::Result<Option<Bytes>> {
        loop {
            if let Some(at) = self.rest[self.looked..].iter().position(|b| *b == b'\n') {
                let line = self.rest.split_to(self.looked + at + 1).freeze();
                self.looked = 0;
                let line = line.slice(..line.len() - 1);
                if line.trim_ascii().is_empty() {
                    continue;
                }
                return Ok(Some(line));
            }
            self.looked = self.rest.len();
            match self.pieces.next().await {
                Some(piece) => self.rest.extend_from_slice(&piece?),
                None => {
                    self.looked = 0;
                    let last = self.rest.split().freeze();
                    return Ok((!last.trim_ascii().is_empty()).then_some(last));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_come_whole_however_the_body_was_cut() {
        let body = "one\n\ntwo\nthree";
        for size in 1..=body.len() {
            let pieces: Vec<reqwest::Result<Bytes>> =
                body.as_bytes().chunks(size).map(|c| Ok(Bytes::copy_from_slice(c))).collect();
            let pieces = futures_util::stream::iter(pieces).boxed();
            let mut lines = Lines { pieces, rest: BytesMut::new(), looked: 0 };
            let mut read = Vec::new();
            while let Some(line) = lines.next().await.expect("nothing breaks off") {
                read.push(String::from_utf8(line.to_vec()).expect("text"));
            }
            assert_eq!(read, ["one", "two", "three"], "in pieces of {size}");
        }
    }
}
