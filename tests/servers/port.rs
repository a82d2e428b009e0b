//! A port that stays a server's own while it is down.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use tokio::net::TcpSocket;

/// Longest wait for an answer to one look at a server.
const ANSWER: Duration = Duration::from_secs(1);

/// Holds a free port of 127.0.0.1: bound and never listened on, so that nobody is given it,
/// yet a server (they all set `SO_REUSEADDR`) can listen on it.
pub(crate) struct Port {
    number: u16,
    _held: TcpSocket,
}

impl Port {
    pub(crate) fn free() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("the option is known");
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        let number = socket.local_addr().expect("a bound socket").port();
        Self { number, _held: socket }
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.number))
    }

    /// True if the server there, asked `question`, begins its answer with `answer`.
    pub(crate) fn says(&self, question: &str, answer: &str) -> bool {
        let ask = || {
            let mut stream = TcpStream::connect(self.addr())?;
            stream.set_read_timeout(Some(ANSWER))?;
            stream.write_all(question.as_bytes())?;
            let mut read = vec![0; answer.len()];
            stream.read_exact(&mut read)?;
            Ok::<_, io::Error>(read == answer.as_bytes())
        };
        ask().unwrap_or(false)
    }
}
