//! HAProxy with the configuration of a deployment, in front of gateways of this machine.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use crate::port::Port;
use crate::process::{Program, Server, folder};
use crate::programs;

/// Asks a gateway whether it is ready.
const READY: &str = "GET /readyz HTTP/1.1\r\nHost: balancer\r\nConnection: close\r\n\r\n";

/// One HAProxy.
pub struct Haproxy {
    server: Server,
    front: Port,
}

impl Haproxy {
    /// Starts it with `config`, whose ports, resolver and gateways are replaced by ones of
    /// this machine, and waits until it takes connections.
    ///
    /// # Panics
    /// When `config` no longer has what is replaced.
    #[must_use]
    pub fn start(config: &Path, gateways: &[SocketAddr]) -> Self {
        let (front, operations) = (Port::free(), Port::free());
        let mut text = fs::read_to_string(config).expect("a configuration");
        let servers =
            gateways.iter().enumerate().map(|(n, addr)| format!("server g{n} {addr}\n    "));
        let here = [
            ("bind *:8080", format!("bind {}", front.addr())),
            ("bind *:8404", format!("bind {}", operations.addr())),
            ("maxconn 20000", "maxconn 1000".to_owned()),
            (" resolvers docker init-addr none", String::new()),
            ("server-template gateway 10 gateway:8080", servers.collect()),
        ];
        for (there, here) in here {
            assert!(text.contains(there), "{} no longer says `{there}`", config.display());
            text = text.replace(there, &here);
        }
        let sections: Vec<&str> =
            text.split("\n\n").filter(|section| !section.starts_with("resolvers")).collect();
        let dir = folder("haproxy", None);
        fs::write(dir.join("haproxy.cfg"), sections.join("\n\n") + "\n").expect("our folder");
        let args = vec!["-f".into(), "haproxy.cfg".into(), "-db".into()];
        let program = Program { path: programs::haproxy(), args, ..Program::default() };
        let haproxy = Self { server: Server::new(dir, program), front };
        haproxy.server.spawn();
        haproxy
            .server
            .wait_ready(|| haproxy.front.says("GET /metrics HTTP/1.0\r\n\r\n", "HTTP/1."));
        haproxy
    }

    /// Where it takes requests for the gateways.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.front.addr())
    }

    /// True while a gateway behind it is ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.front.says(READY, "HTTP/1.1 200")
    }

    /// What it wrote into its log.
    #[must_use]
    pub fn log(&self) -> String {
        self.server.log()
    }
}
