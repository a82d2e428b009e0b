//! Which servers are refused, which are waited for, and which are taken with a word.

use std::error::Error;
use std::net::TcpListener;

use aof_servers::{Redis, RedisOptions as Server};

use super::{open, options, shared};
use crate::limit::redis::{OpenError, RedisOptions};
use crate::secret::Secret;

const PASSWORD: &str = "s3cret-pw";

async fn error(url: &str) -> OpenError {
    let options = RedisOptions { name: "aof".to_owned(), url: Secret::new(url) };
    let Err(error) = open(options).await else { panic!("{url} opens") };
    let mut text = format!("{error} {error:?}");
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    assert!(!text.contains(PASSWORD) && !text.contains("wr0ng"), "a password in {text}");
    error
}

async fn refusal(url: &str) -> String {
    let error = error(url).await;
    assert!(matches!(error, OpenError::Refused { .. }), "{error}");
    error.to_string()
}

#[tokio::test]
async fn a_login_that_is_missing_or_wrong_is_refused() {
    let password = Some(PASSWORD.to_owned());
    let redis = Redis::start_with(&Server { password, ..Server::default() });
    open(options(&redis)).await.expect("the right password opens");
    let address = redis.url().replace(&format!("redis://:{PASSWORD}@"), "");
    let says = refusal(&format!("redis://{address}")).await;
    assert!(says.contains(&address) && says.contains("asks for a password"), "{says}");
    for wrong in ["redis://:wr0ng@", "redis://nobody:wr0ng@"] {
        let says = refusal(&format!("{wrong}{address}")).await;
        assert!(says.contains("refuses the login"), "{says}");
    }
}

#[tokio::test]
async fn a_user_who_may_not_write_is_refused() {
    let password = format!(">{PASSWORD}");
    let args = ["--user", "reader", "on", &password, "~*", "+info", "+client", "+select"];
    let args = args.map(str::to_owned);
    let redis = Redis::start_with(&Server { args: args.to_vec(), ..Server::default() });
    let url = redis.url().replace("redis://", &format!("redis://reader:{PASSWORD}@"));
    let says = refusal(&url).await;
    assert!(says.contains("forbids what limits need"), "{says}");
}

#[tokio::test]
async fn an_address_that_is_none_is_refused() {
    for url in ["nats://127.0.0.1:6379", "127.0.0.1", &format!("redis://:{PASSWORD}@:x/")] {
        let says = refusal(url).await;
        assert!(says.contains("write redis://"), "{says}");
    }
}

#[tokio::test]
async fn a_server_that_is_away_or_silent_may_be_there_later() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let silent = listener.local_addr().expect("bound");
    let away = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.local_addr().expect("bound")
    };
    for address in [silent, away] {
        let error = error(&format!("redis://:{PASSWORD}@{address}")).await;
        assert!(matches!(error, OpenError::Unreachable { .. }), "{error}");
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_forgets_is_taken_with_a_finding_for_each_reason() {
    let args = ["--maxmemory-policy", "allkeys-lru"].map(str::to_owned).to_vec();
    let forgets = Redis::start_with(&Server { durable: false, args, ..Server::default() });
    let findings = open(options(&forgets)).await.expect("it opens").findings;
    assert_eq!(findings.len(), 2, "{findings:?}");
    let findings = open(options(shared())).await.expect("it opens").findings;
    assert!(findings.is_empty(), "{findings:?}");
}
