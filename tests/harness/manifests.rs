//! Folders of manifests.

use std::net::SocketAddr;

/// A folder of manifests that a node serves.
pub struct Manifests {
    pub dir: tempfile::TempDir,
}

impl Manifests {
    pub fn new(daemon_spec: &str) -> Self {
        let dir = tempfile::tempdir().expect("a scratch folder");
        for part in ["flows", "agents"] {
            std::fs::create_dir(dir.path().join(part)).expect("a folder");
        }
        let manifests = Self { dir };
        manifests.write("daemon.yaml", &format!(
            "apiVersion: aof.dev/v1\nkind: DaemonConfig\nmetadata: {{name: test}}\nspec:\n  agents: {{directory: ./agents}}\n  flows: {{directory: ./flows}}\n{daemon_spec}"
        ));
        manifests
    }

    /// Writes by rename, as editors do.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.dir.path().join(name);
        let fresh = path.with_extension("fresh");
        std::fs::write(&fresh, text).expect("a writable folder");
        std::fs::rename(&fresh, &path).expect("a writable folder");
    }

    pub fn agent(&self, name: &str, spec: &str) {
        self.write(
            &format!("agents/{name}.yaml"),
            &format!(
                "apiVersion: aof.dev/v1\nkind: Agent\nmetadata: {{name: {name}}}\nspec:\n{spec}"
            ),
        );
    }

    pub fn flow(&self, name: &str, spec: &str) {
        self.write(
            &format!("flows/{name}.yaml"),
            &format!(
                "apiVersion: aof.dev/v1\nkind: AgentFlow\nmetadata: {{name: {name}}}\nspec:\n{spec}"
            ),
        );
    }
}

/// The trigger lines of a Slack flow whose API is at `api`.
pub fn slack_trigger(api: SocketAddr, token: &str, secret: &str, more: &str) -> String {
    format!(
        "  trigger:\n    type: Slack\n    config:\n      events: [app_mention, message]\n      bot_token: {token}\n      signing_secret: {secret}\n      api_base_url: http://{api}/api\n{more}"
    )
}
