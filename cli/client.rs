//! Talks to a running node over HTTP: which one, with which key, and what its refusals mean.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use aof_shared::ids::TenantId;
use aof_shared::secret::Secret;
use reqwest::header::ACCEPT;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;

use crate::EXIT_NO;

/// Longest wait for a connection, in ms.
const CONNECT_MS: u64 = 5_000;
/// Longest wait for an answer that does not stream, in ms.
const ANSWER_MS: u64 = 30_000;
/// The operator key's file in the data directory.
pub const ADMIN_KEY_FILE: &str = "admin.key";
/// Where `serve` listens unless told otherwise.
pub const DEFAULT_SERVER: &str = "http://127.0.0.1:8080";
/// Where `serve` keeps its data unless told otherwise.
pub const DEFAULT_DATA_DIR: &str = ".aof";

/// Which node to talk to, and as whom.
#[derive(Debug, Clone, clap::Args)]
pub struct Connect {
    /// The node to talk to
    #[arg(long, value_name = "URL", env = "AOF_SERVER", default_value = DEFAULT_SERVER)]
    pub server: String,
    /// The account to act in [default: the key's, `default` for the operator's]
    #[arg(long, value_name = "ACCOUNT", env = "AOF_ACCOUNT")]
    pub account: Option<TenantId>,
}

/// Where a key came from, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// `AOF_API_KEY`.
    Environment,
    /// The operator key's file.
    File(PathBuf),
    /// There is none.
    Nowhere,
}

/// Why a node did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answered.
    #[error("no answer from {server}")]
    Unreachable {
        /// The node.
        server: String,
        /// The cause.
        #[source]
        source: reqwest::Error,
    },
    /// The node said no, or that it cannot.
    #[error("{problem}")]
    Problem {
        /// What it said.
        problem: Problem,
    },
    /// What answered is no AOF node, or another version of one.
    #[error("{server} answered something else than expected: {what}")]
    Garbled {
        /// The node.
        server: String,
        /// What was wrong.
        what: String,
    },
}

/// A problem document as answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// HTTP status.
    pub status: u16,
    /// The kind, in words.
    pub title: String,
    /// This occurrence.
    pub detail: String,
    /// What exactly is wrong with the request.
    pub errors: Vec<String>,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.title, self.status)?;
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        self.errors.iter().try_for_each(|error| write!(f, "\n  {error}"))
    }
}

impl Problem {
    fn read(status: StatusCode, body: &str) -> Self {
        let document: Value = serde_json::from_str(body).unwrap_or_default();
        let field = |name: &str| document[name].as_str().unwrap_or_default().to_owned();
        let errors = document["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
        let error = |e: &Value| {
            let [pointer, detail] = ["pointer", "detail"].map(|n| e[n].as_str().unwrap_or("?"));
            if pointer.trim_start_matches('?').is_empty() {
                return detail.to_owned();
            }
            format!("{pointer}: {detail}")
        };
        let detail = field("detail");
        let title = Some(field("title")).filter(|t| !t.is_empty());
        let reason = status.canonical_reason().unwrap_or("an unknown status");
        Self {
            status: status.as_u16(),
            title: title.unwrap_or_else(|| reason.to_owned()),
            errors: errors.iter().map(error).filter(|error| *error != detail).collect(),
            detail,
        }
    }
}

/// A node to talk to.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    /// Where it is, without a trailing slash.
    pub server: String,
    /// The account to act in.
    pub account: TenantId,
    key: Option<Secret>,
    /// Where the key came from.
    pub key_source: KeySource,
}

impl Client {
    /// Finds the key: `AOF_API_KEY`, else the operator key's file in `AOF_DATA_DIR` or
    /// `./.aof`; and the account, if none is named: the key's.
    ///
    /// # Errors
    /// When the key file is there but cannot be read, `AOF_API_KEY` is empty, or TLS cannot
    /// be set up.
    pub async fn new(connect: &Connect) -> anyhow::Result<Self> {
        let (key, key_source) = find_key(std::env::var("AOF_API_KEY").ok(), &data_dir())?;
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_millis(CONNECT_MS))
            .user_agent(concat!("aofctl/", env!("CARGO_PKG_VERSION")))
            .build()?;
        let server = connect.server.trim_end_matches('/').to_owned();
        let server = if server.contains("://") { server } else { format!("http://{server}") };
        anyhow::ensure!(
            server.starts_with("http://") || server.starts_with("https://"),
            "`{server}` is no node's address: it starts with http:// or https://"
        );
        let account = connect.account.clone().unwrap_or_default();
        let mut client = Self { http, server, account, key, key_source };
        if connect.account.is_none() && client.key_source == KeySource::Environment {
            client.account = client.own_account().await;
        }
        Ok(client)
    }

    /// The account that the key is bound to. When the node does not say, the command itself
    /// meets what is wrong and tells of it.
    async fn own_account(&self) -> TenantId {
        let who = self.json(self.request(Method::GET, "/whoami")).await.unwrap_or_default();
        who["tenant"].as_str().and_then(|name| name.parse().ok()).unwrap_or_default()
    }

    /// The options that lead another `aofctl` to the same account of the same node; empty,
    /// or with a space in front.
    #[must_use]
    pub fn options(&self) -> String {
        let mut options = String::new();
        if self.account != TenantId::default() {
            options.push_str(&format!(" --account {}", self.account));
        }
        if self.server != DEFAULT_SERVER && std::env::var_os("AOF_SERVER").is_none() {
            options.push_str(&format!(" --server {}", self.server));
        }
        options
    }

    /// The same node and key, in another account.
    #[must_use]
    pub fn in_account(&self, account: TenantId) -> Self {
        Self { account, ..self.clone() }
    }

    /// A request below `/accounts/<account>`.
    pub fn of_account(&self, method: Method, path: &str) -> RequestBuilder {
        self.request(method, &format!("/accounts/{}{path}", self.account))
    }

    /// A request with the key, if there is one.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.server));
        match &self.key {
            Some(key) => request.bearer_auth(key.expose()),
            None => request,
        }
    }

    /// Sends a request; problems become errors.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let response = request.send().await.map_err(|source| self.unreachable(source))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.text().await.map_err(|source| self.unreachable(source))?;
        Err(ClientError::Problem { problem: Problem::read(status, &body) })
    }

    /// Sends a request and reads the JSON answer.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn json(&self, request: RequestBuilder) -> Result<Value, ClientError> {
        let request = request
            .timeout(Duration::from_millis(ANSWER_MS))
            .header(ACCEPT, "application/json, application/problem+json");
        let response = self.send(request).await?;
        let body = response.text().await.map_err(|source| self.unreachable(source))?;
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&body).map_err(|error| self.garbled(error.to_string()))
    }

    /// `GET` below the account, as JSON.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn get(&self, path: &str) -> Result<Value, ClientError> {
        self.json(self.of_account(Method::GET, path)).await
    }

    /// `POST` below the account, as JSON.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, ClientError> {
        self.json(self.of_account(Method::POST, path).json(body)).await
    }

    /// The answer was cut off or never came.
    #[must_use]
    pub fn unreachable(&self, source: reqwest::Error) -> ClientError {
        ClientError::Unreachable { server: self.server.clone(), source: source.without_url() }
    }

    /// The answer is not what it should be.
    #[must_use]
    pub fn garbled(&self, what: impl Into<String>) -> ClientError {
        ClientError::Garbled { server: self.server.clone(), what: what.into() }
    }
}

/// The data directory that a node on this machine would use.
#[must_use]
pub fn data_dir() -> PathBuf {
    std::env::var_os("AOF_DATA_DIR").map_or_else(|| DEFAULT_DATA_DIR.into(), PathBuf::from)
}

fn find_key(
    from_env: Option<String>,
    data_dir: &Path,
) -> anyhow::Result<(Option<Secret>, KeySource)> {
    if let Some(key) = from_env {
        // Meant as somebody's key: falling back to the operator's would act as someone else.
        anyhow::ensure!(
            !key.trim().is_empty(),
            "AOF_API_KEY is set but empty: put a key in it, or unset it"
        );
        return Ok((Some(Secret::new(key.trim())), KeySource::Environment));
    }
    let path = data_dir.join(ADMIN_KEY_FILE);
    match std::fs::read_to_string(&path) {
        Ok(key) => Ok((Some(Secret::new(key.trim())), KeySource::File(path))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Ok((None, KeySource::Nowhere))
        }
        Err(error) => Err(anyhow::anyhow!("cannot read the key in {}: {error}", path.display())),
    }
}

/// Turns a command's result into its exit code: what the node refuses is an answer, so it
/// is printed with the next step and is 1; that nobody answered is an error, and 3.
///
/// # Errors
/// Everything that is no refusal.
pub fn answer(result: anyhow::Result<ExitCode>) -> anyhow::Result<ExitCode> {
    let error = match result {
        Ok(code) => return Ok(code),
        Err(error) => error,
    };
    let Some(cause) = error.downcast_ref::<ClientError>() else { return Err(error) };
    let next = next_step(cause);
    match cause {
        ClientError::Problem { problem } if problem.status < 500 => {
            anstream::eprintln!("error: {problem}");
            if let Some(next) = next {
                anstream::eprintln!("next:  {next}");
            }
            Ok(ExitCode::from(EXIT_NO))
        }
        _ => Err(match next {
            Some(next) => anyhow::anyhow!("{error:#}\nnext:  {next}"),
            None => error,
        }),
    }
}

/// What the person can do about it.
fn next_step(error: &ClientError) -> Option<&'static str> {
    let status = match error {
        ClientError::Unreachable { .. } => {
            return Some(
                "start a node with `aofctl serve`, or name one with --server or AOF_SERVER",
            );
        }
        ClientError::Garbled { .. } => return Some("see that --server names an aofctl node"),
        ClientError::Problem { problem } => problem.status,
    };
    match status {
        401 => Some(
            "set AOF_API_KEY, or run where the node's data directory is (AOF_DATA_DIR), \
             so that its admin.key is found",
        ),
        403 => Some("use a key of that account with the scope named, see `aofctl keys list`"),
        404 => Some("see the listing for what there is, and --account for whose"),
        429 | 503 => Some("try again in a few seconds; `aofctl status` says what is wrong"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environments_key_goes_before_the_operators_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let check = |env: Option<&str>, expected: Option<&str>, source| {
            let (key, found) =
                find_key(env.map(str::to_owned), dir.path()).expect("a readable key");
            assert_eq!(key.as_ref().map(Secret::expose), expected);
            assert_eq!(found, source);
        };
        check(None, None, KeySource::Nowhere);
        let path = dir.path().join(ADMIN_KEY_FILE);
        std::fs::write(&path, "operator\n").expect("a written key");
        check(None, Some("operator"), KeySource::File(path.clone()));
        check(Some("mine\n"), Some("mine"), KeySource::Environment);
        for empty in ["", " "] {
            let error = find_key(Some(empty.to_owned()), dir.path()).expect_err("no key");
            assert!(error.to_string().contains("AOF_API_KEY is set but empty"), "{error}");
        }
    }

    #[test]
    fn problem_documents_are_told_in_full() {
        let body = r#"{"type":"urn:x","title":"Invalid request","status":400,"detail":"/text: is empty",
            "errors":[{"pointer":"/text","detail":"is empty"},{"pointer":"","detail":"is odd"}]}"#;
        let problem = Problem::read(StatusCode::BAD_REQUEST, body);
        assert_eq!(
            problem.to_string(),
            "Invalid request (400): /text: is empty\n  is odd",
            "each once"
        );
        let bare = Problem::read(StatusCode::BAD_GATEWAY, "<html>");
        assert_eq!(bare.to_string(), "Bad Gateway (502)");
    }

    #[test]
    fn refusals_are_an_answer_and_silence_is_an_error() {
        let refused = |status| {
            let problem = Problem { status, title: "t".into(), detail: "".into(), errors: vec![] };
            answer(Err(ClientError::Problem { problem }.into()))
        };
        assert_eq!(format!("{:?}", refused(403).ok()), format!("{:?}", Some(ExitCode::from(1))));
        assert!(refused(503).is_err());
    }
}
