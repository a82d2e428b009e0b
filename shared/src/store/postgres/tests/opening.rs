//! What is refused at the door, what is not there yet, and several at the door at once.

use futures_util::future::join_all;
use sqlx::{Connection, Executor};

use super::{Node, SERVER, name, open, options};
use crate::lifecycle::Lifecycle;
use crate::store::postgres::OpenError;
use aof_servers::Postgres;

async fn fails(url: &str, name: &str) -> OpenError {
    let lifecycle = Lifecycle::new();
    let error = open(&options(url, name), &lifecycle).await.err().expect("it must not open");
    lifecycle.stop();
    lifecycle.drained().await;
    error
}

/// All words that a person would see, the debug form included.
fn words(error: &OpenError) -> String {
    format!("{error} {error:?}")
}

#[tokio::test]
async fn four_nodes_migrate_at_once() {
    let options = options(&SERVER.url(), &name());
    let nodes = join_all((0..4).map(|_| Node::of(options.clone()))).await;
    let mut sql = nodes[0].sql().await;
    let found: (i64, i64) = sqlx::query_as("SELECT max(version), count(*) FROM schema_version")
        .fetch_one(&mut sql)
        .await
        .expect("a version");
    assert_eq!(found, (3, 1));
}

#[tokio::test]
async fn a_newer_schema_is_refused_with_the_way_out() {
    let node = Node::new().await;
    let mut sql = node.sql().await;
    sql.execute("UPDATE schema_version SET version = 99").await.expect("it is ours");
    let error = fails(&SERVER.url(), &node.options.name).await;
    assert!(matches!(&error, OpenError::Refused { way_out, .. } if way_out.contains("release")));
    assert!(words(&error).contains("version 99"), "{error}");
}

#[tokio::test]
async fn a_schema_of_something_else_is_refused_and_left_alone() {
    let node = Node::new().await;
    let mut sql = node.sql().await;
    let name = name();
    let foreign = format!("CREATE SCHEMA \"{name}\"; CREATE TABLE \"{name}\".books (n int)");
    sqlx::raw_sql(sqlx::AssertSqlSafe(foreign)).execute(&mut sql).await.expect("it is made");
    let error = fails(&SERVER.url(), &name).await;
    assert!(matches!(&error, OpenError::Refused { .. }), "{error}");
    assert!(words(&error).contains("something else"), "{error}");
}

#[tokio::test]
async fn what_a_person_must_mend_is_refused_and_never_shows_the_password() {
    let url = SERVER.url();
    let (user, rest) = url.split_once(':').expect("a scheme");
    let host = rest.rsplit_once('@').expect("a host").1;
    let address = host.split('/').next().expect("an address");
    let cases = [
        (format!("{user}://aof:secret-1@{host}"), name(), "check user"),
        (url.replace("/postgres", "/nowhere"), name(), "create the database"),
        (format!("{url}?sslmode=require"), name(), "check sslmode"),
        (format!("{url}?sslmode=secret-1"), name(), "parameters"),
        (format!("mysql://aof:secret-1@{address}/x"), name(), "postgres://user"),
        (format!("postgres://aof:1234/secret-1@{address}/x"), name(), "%2F"),
        (format!("postgres://aof:secret-1@{address}:port/x"), name(), "postgres://user"),
        (url.clone(), "Not A Name".to_owned(), "a-z"),
    ];
    for (url, name, way_out) in cases {
        let error = fails(&url, &name).await;
        assert!(matches!(error, OpenError::Refused { .. }), "{way_out}: {error}");
        let words = words(&error);
        assert!(words.contains(way_out), "{words}");
        for secret in ["secret-1", "aof-test", "1234"] {
            assert!(!words.contains(secret), "{words}");
        }
    }
}

#[tokio::test]
async fn a_server_that_is_away_is_told_apart_from_one_that_says_no() {
    let server = Postgres::start();
    let url = server.url();
    server.kill();
    let error = fails(&url, &name()).await;
    assert!(matches!(error, OpenError::Unreachable { .. }), "{error}");
    assert!(!words(&error).contains("aof-test"));
    server.start_again();
    server.pause();
    let error = fails(&url, &name()).await;
    server.resume();
    assert!(matches!(error, OpenError::Unreachable { .. }), "{error}");
    Node::of(options(&url, &name())).await.close().await;
}

#[tokio::test]
async fn settings_that_lose_confirmed_records_are_found() {
    let settings = ["fsync=off", "full_page_writes=off", "synchronous_commit=off"];
    let settings = settings.map(ToOwned::to_owned).to_vec();
    let server = Postgres::start_with(&aof_servers::PostgresOptions { settings });
    let lifecycle = Lifecycle::new();
    let opened = open(&options(&server.url(), &name()), &lifecycle).await;
    let (_store, findings) = opened.expect("it opens all the same");
    // Sessions turn `synchronous_commit` on themselves.
    assert_eq!(findings.len(), 2, "{findings:?}");
    assert!(findings[0].contains("`fsync` is off"), "{findings:?}");
    assert!(findings[1].contains("`full_page_writes` is off"), "{findings:?}");
    lifecycle.stop();
    lifecycle.drained().await;
}

#[tokio::test]
async fn a_user_who_may_not_create_is_told_what_to_ask_for_and_can_use_what_it_got() {
    let node = Node::new().await;
    let mut sql = node.sql().await;
    let (name, role) = (name(), name());
    let make = format!(
        "CREATE ROLE \"{role}\" LOGIN PASSWORD 'secret-1'; \
         CREATE DATABASE \"{role}\""
    );
    for statement in make.split("; ") {
        sql.execute(sqlx::AssertSqlSafe(statement.to_owned())).await.expect("a superuser may");
    }
    let url = SERVER.url().replace("aof:aof-test", &format!("{role}:secret-1"));
    let error = fails(&url, &name).await;
    assert!(words(&error).contains("AUTHORIZATION"), "{error}");
    let grant = format!("CREATE SCHEMA \"{name}\" AUTHORIZATION \"{role}\"");
    sql.execute(sqlx::AssertSqlSafe(grant)).await.expect("a superuser may");
    Node::of(options(&url, &name)).await.close().await;
    sql.close().await.expect("it closes");
}
