//! The scripts, and how one is run: by its digest, sent whole only to a server that lacks it.

use redis::{Cmd, ErrorKind, RedisResult, Script as Digested, ServerErrorKind, Value};

use super::link::Link;

/// One script.
pub(super) struct Script {
    source: &'static str,
    digest: String,
}

impl Script {
    fn new(source: &'static str) -> Self {
        Self { source, digest: Digested::new(source).get_hash().to_owned() }
    }

    /// Begins a call over so many keys; the keys follow, then the arguments.
    pub(super) fn over(&self, keys: usize) -> Cmd {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&self.digest).arg(keys);
        command
    }

    /// Runs a `call` of this script.
    pub(super) async fn run(&self, link: &Link, call: &Cmd) -> RedisResult<Value> {
        let answer = link.call(call).await;
        let lacks_it = ErrorKind::Server(ServerErrorKind::NoScript);
        if !answer.as_ref().is_err_and(|error| error.kind() == lacks_it) {
            return answer;
        }
        self.load(link).await?;
        link.call(call).await
    }

    /// Gives the script to the server, which forgets it when it restarts.
    pub(super) async fn load(&self, link: &Link) -> RedisResult<()> {
        link.call(redis::cmd("SCRIPT").arg("LOAD").arg(self.source)).await?;
        Ok(())
    }
}

macro_rules! script {
    ($file:literal) => {
        Script::new(concat!(include_str!("prelude.lua"), include_str!($file)))
    };
}

/// All of them.
pub(super) struct Scripts {
    pub(super) admit: Script,
    pub(super) renew: Script,
    pub(super) release: Script,
    pub(super) charge: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            admit: script!("admit.lua"),
            renew: script!("renew.lua"),
            release: script!("release.lua"),
            charge: script!("charge.lua"),
        }
    }

    /// Gives all of them to the server.
    pub(super) async fn load(&self, link: &Link) -> RedisResult<()> {
        for script in [&self.admit, &self.renew, &self.release, &self.charge] {
            script.load(link).await?;
        }
        Ok(())
    }
}
