//! NATS with JetStream.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use rustix::process::Signal;

use crate::port::Port;
use crate::process::{Program, Server, folder};
use crate::programs;

/// The oldest release line that the product takes.
pub const NATS_FLOOR: &str = "2.10.26";
/// The first release line with atomic batches and `sync_interval: always`.
pub const NATS_2_12: &str = "2.12.8";
/// The newest at hand.
pub const NATS_NEWEST: &str = "2.15.1";

/// Stands before and after what [`Nats::set_jetstream`] replaces.
const MORE: &str = "# more";

/// How to start NATS.
#[derive(Debug, Clone)]
pub struct NatsOptions {
    /// A version that `tests/run` installs.
    pub version: String,
    /// Syncs every message to the disk before its ack (2.12 and newer).
    pub sync_always: bool,
    /// User and password that clients must give.
    pub login: Option<(String, String)>,
    /// More lines of configuration.
    pub config: String,
    /// More lines of its section `jetstream`.
    pub jetstream: String,
}

impl Default for NatsOptions {
    fn default() -> Self {
        Self {
            version: NATS_2_12.to_owned(),
            sync_always: false,
            login: None,
            config: String::new(),
            jetstream: String::new(),
        }
    }
}

/// One NATS server.
pub struct Nats {
    server: Server,
    client: Port,
    monitor: Port,
    _route: Option<Port>,
    login: Option<(String, String)>,
}

impl Nats {
    /// Starts one server and waits until JetStream takes requests.
    #[must_use]
    pub fn start(options: &NatsOptions) -> Self {
        let nats = Self::prepared(options, "");
        nats.start_again();
        nats
    }

    /// Starts `count` servers that form one cluster, and waits until JetStream has a leader.
    #[must_use]
    pub fn cluster(count: usize, options: &NatsOptions) -> Vec<Self> {
        let routes: Vec<_> = (0..count).map(|_| Port::free()).collect();
        let urls: Vec<_> = routes.iter().map(|port| format!("nats://{}", port.addr())).collect();
        let urls = urls.join(", ");
        let member = |port: Port| {
            let addr = port.addr();
            let cluster =
                format!("cluster {{ name: test, listen: \"{addr}\", routes: [{urls}] }}\n");
            Self { _route: Some(port), ..Self::prepared(options, &cluster) }
        };
        let members: Vec<_> = routes.into_iter().map(member).collect();
        members.iter().for_each(|member| member.server.spawn());
        members.iter().for_each(Self::wait_ready);
        members
    }

    fn prepared(options: &NatsOptions, cluster: &str) -> Self {
        let dir = folder("nats", None);
        let (client, monitor) = (Port::free(), Port::free());
        let mut config = format!(
            "server_name: \"n{}\"\nlisten: \"{}\"\nhttp: \"{}\"\n{cluster}{}\n",
            client.number(),
            client.addr(),
            monitor.addr(),
            options.config,
        );
        let sync = if options.sync_always { "sync_interval: always" } else { "" };
        let store = dir.join("jetstream");
        let more = format!("{sync}\n{MORE}\n{}\n{MORE}\n", options.jetstream);
        writeln!(config, "jetstream {{ store_dir: \"{}\"\n{more}}}", store.display())
            .expect("text");
        if let Some((user, password)) = &options.login {
            writeln!(config, "authorization {{ user: \"{user}\", password: \"{password}\" }}")
                .expect("text");
        }
        fs::write(dir.join("nats.conf"), config).expect("our folder");
        let program = Program {
            path: programs::nats(&options.version),
            args: vec!["--config".into(), "nats.conf".into()],
            ..Program::default()
        };
        let server = Server::new(dir, program);
        Self { server, client, monitor, _route: None, login: options.login.clone() }
    }

    /// Writes `lines` into its section `jetstream` in place of what stood there; they count
    /// from the next start.
    pub fn set_jetstream(&self, lines: &str) {
        let path = self.dir().join("nats.conf");
        let config = fs::read_to_string(&path).expect("our file");
        let (before, rest) = config.split_once(MORE).expect("our mark");
        let (_, after) = rest.split_once(MORE).expect("our mark");
        fs::write(&path, format!("{before}{MORE}\n{lines}\n{MORE}{after}")).expect("our file");
    }

    fn wait_ready(&self) {
        self.server.wait_ready(|| {
            let greets = self.client.says("", "INFO ");
            greets && self.monitor.says("GET /healthz HTTP/1.0\r\n\r\n", "HTTP/1.0 200")
        });
    }

    /// The URL for clients, with user and password when there are any.
    #[must_use]
    pub fn url(&self) -> String {
        match &self.login {
            Some((user, password)) => format!("nats://{user}:{password}@{}", self.client.addr()),
            None => format!("nats://{}", self.client.addr()),
        }
    }

    /// The URL of the monitoring endpoint.
    #[must_use]
    pub fn monitor_url(&self) -> String {
        format!("http://{}", self.monitor.addr())
    }

    /// Where clients connect.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.client.addr()
    }

    /// Starts it where it was killed or stopped, and waits until JetStream takes requests.
    pub fn start_again(&self) {
        self.server.spawn();
        self.wait_ready();
    }

    /// SIGKILL. What it stored stays.
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

    /// Ends a [`Nats::pause`].
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
