//! One node of the product as a process that can be killed, frozen, cut off and started
//! again in its place.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::port::Port;
use crate::process::{Program, Server, folder};
use crate::wire::Wire;
use crate::{Nats, Postgres, Redis};

/// How to start a node.
#[derive(Debug, Clone, Default)]
pub struct MemberOptions {
    /// The product's binary.
    pub binary: PathBuf,
    /// Its `--role`.
    pub role: String,
    /// Its `--config`.
    pub config: PathBuf,
    /// More variables.
    pub env: Vec<(String, String)>,
}

/// The wires of one node.
pub struct Wires {
    /// To NATS.
    pub nats: Wire,
    /// To Redis.
    pub redis: Wire,
    /// To PostgreSQL.
    pub postgres: Wire,
}

impl Wires {
    /// All three.
    #[must_use]
    pub fn all(&self) -> [&Wire; 3] {
        [&self.nats, &self.redis, &self.postgres]
    }
}

/// One node.
pub struct Member {
    server: Server,
    port: Port,
    /// What it reaches its servers by.
    pub wires: Wires,
}

impl Member {
    /// Starts one on these servers. It may not be ready yet.
    #[must_use]
    pub fn start(options: &MemberOptions, servers: (&Nats, &Redis, &Postgres)) -> Self {
        let (nats, redis, postgres) = servers;
        let wires = Wires {
            nats: Wire::to(nats.addr()),
            redis: Wire::to(redis.addr()),
            postgres: Wire::to(postgres.addr()),
        };
        let port = Port::free();
        let mut env: Vec<(OsString, OsString)> = [
            ("NATS_URL", wires.nats.through(&nats.url())),
            ("REDIS_URL", wires.redis.through(&redis.url())),
            ("DATABASE_URL", wires.postgres.through(&postgres.url())),
        ]
        .map(|(name, value)| (name.into(), value.into()))
        .into();
        env.extend(options.env.iter().map(|(name, value)| (name.into(), value.into())));
        let listen = port.addr().to_string();
        let mut args: Vec<OsString> =
            ["serve", "--role", &options.role, "--listen", &listen].map(OsString::from).into();
        args.extend(["--data-dir".into(), "data".into(), "--config".into()]);
        args.push(options.config.clone().into_os_string());
        let program = Program { path: options.binary.clone(), args, env, account: None };
        let server = Server::new(folder(&options.role, None), program);
        server.spawn();
        Self { server, port, wires }
    }

    /// Where it takes requests.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    /// True while `/readyz` says so.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.port.says("GET /readyz HTTP/1.0\r\n\r\n", "HTTP/1.0 200")
    }

    /// Starts it again after it was killed or drained. It may not be ready yet.
    pub fn start_again(&self) {
        self.server.spawn();
    }

    /// SIGKILL to the node alone: what it started has to end by itself.
    pub fn kill(&self) {
        self.server.kill_alone();
    }

    /// SIGTERM; waits for its end and gives the exit code, `None` for a signal.
    pub fn drain(&self) -> Option<i32> {
        self.server.terminate(Signal::TERM)?.code()
    }

    /// Freezes it with all that it started, as a host does that is suspended.
    pub fn pause(&self) {
        self.server.signal(Signal::STOP);
    }

    /// Ends a [`Member::pause`].
    pub fn resume(&self) {
        self.server.signal(Signal::CONT);
    }

    /// The process while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.server.pid()
    }

    /// The folder that it keeps everything in.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.server.dir()
    }

    /// What it wrote, all of its starts.
    #[must_use]
    pub fn log(&self) -> String {
        self.server.log()
    }
}
