//! Redis, as durable as it gets unless told otherwise.

use std::ffi::OsString;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

use rustix::process::Signal;

use crate::port::Port;
use crate::process::{Program, Server, folder};
use crate::programs;

/// How to start Redis.
#[derive(Debug, Clone)]
pub struct RedisOptions {
    /// `appendonly yes` with `appendfsync always`; without it nothing is written to the disk.
    pub durable: bool,
    /// What clients must give.
    pub password: Option<String>,
    /// Files of a certificate and its key: it then talks TLS, and asks clients for none.
    pub tls: Option<(String, String)>,
    /// More arguments, for example `["--maxmemory-policy", "allkeys-lru"]`.
    pub args: Vec<String>,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self { durable: true, password: None, tls: None, args: Vec::new() }
    }
}

/// One Redis server.
pub struct Redis {
    server: Server,
    port: Port,
    password: Option<String>,
    tls: bool,
}

impl Redis {
    /// Starts one that syncs every write and asks for no password.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(&RedisOptions::default())
    }

    /// Starts one, and waits until it takes requests.
    #[must_use]
    pub fn start_with(options: &RedisOptions) -> Self {
        let port = Port::free();
        let number = port.number().to_string();
        let listen = if options.tls.is_some() { "--tls-port" } else { "--port" };
        let mut args: Vec<OsString> =
            [listen, &number, "--bind", "127.0.0.1", "--dir", ".", "--save", ""]
                .map(OsString::from)
                .to_vec();
        let durable = ["--appendonly", "yes", "--appendfsync", "always"];
        args.extend(durable.iter().filter(|_| options.durable).map(OsString::from));
        if let Some(password) = &options.password {
            args.extend(["--requirepass".into(), password.into()]);
        }
        if let Some((certificate, key)) = &options.tls {
            let more = ["--port", "0", "--tls-auth-clients", "no", "--tls-cert-file", certificate];
            args.extend(more.into_iter().chain(["--tls-key-file", key]).map(OsString::from));
        }
        args.extend(options.args.iter().map(OsString::from));
        let program = Program { path: programs::redis(), args, ..Program::default() };
        let server = Server::new(folder("redis", None), program);
        let (password, tls) = (options.password.clone(), options.tls.is_some());
        let redis = Self { server, port, password, tls };
        redis.start_again();
        redis
    }

    /// The URL for clients, with the password when there is one.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.tls { "rediss" } else { "redis" };
        match &self.password {
            Some(password) => format!("{scheme}://:{password}@{}", self.port.addr()),
            None => format!("{scheme}://{}", self.port.addr()),
        }
    }

    /// Where clients connect.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    /// True if the server, asked `command`, begins its answer with `answer`. For one that asks
    /// for no password.
    #[must_use]
    pub fn answers(&self, command: &str, answer: &str) -> bool {
        self.port.says(&format!("{command}\r\n"), answer)
    }

    /// Starts it where it was killed or stopped, and waits until it takes requests.
    pub fn start_again(&self) {
        self.server.spawn();
        if self.tls {
            // Whether it takes connections is all that can be told without a handshake.
            return self.server.wait_ready(|| TcpStream::connect(self.port.addr()).is_ok());
        }
        let answer = if self.password.is_some() { "-NOAUTH" } else { "+PONG" };
        self.server.wait_ready(|| self.port.says("PING\r\n", answer));
    }

    /// SIGKILL. What it synced stays.
    pub fn kill(&self) {
        self.server.kill();
    }

    /// Ends it in order. What it stored stays.
    pub fn stop(&self) {
        let _ = self.server.terminate(Signal::TERM);
    }

    /// Freezes it: connections stay, nothing answers.
    pub fn pause(&self) {
        self.server.signal(Signal::STOP);
    }

    /// Ends a [`Redis::pause`].
    pub fn resume(&self) {
        self.server.signal(Signal::CONT);
    }

    /// The folder that it keeps everything in.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.server.dir()
    }

    /// The process while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.server.pid()
    }

    /// What it wrote into its log.
    #[must_use]
    pub fn log(&self) -> String {
        self.server.log()
    }
}
