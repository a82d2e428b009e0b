//! The adapter against the store's contract, on a real server.

mod opening;
mod outages;
mod winners;

use std::sync::{Arc, LazyLock};

use aof_servers::Postgres;
use async_trait::async_trait;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::{PostgresOptions, open};
use crate::lifecycle::Lifecycle;
use crate::queue::faults::{Dice, FaultRates};
use crate::secret::Secret;
use crate::store::Store;
use crate::store::contract::{StoreFixture, UnderFaults};

/// One for all tests; each has a schema of its own.
static SERVER: LazyLock<Postgres> = LazyLock::new(Postgres::start);

/// A cluster's name that no other test has.
fn name() -> String {
    let id = Uuid::now_v7().simple().to_string();
    format!("t-{}", &id[id.len() - 16..])
}

fn options(url: &str, name: &str) -> PostgresOptions {
    PostgresOptions { url: Secret::new(url), name: name.to_owned() }
}

/// A node: its own connections to a cluster's schema.
struct Node {
    options: PostgresOptions,
    lifecycle: Lifecycle,
    /// `None` while it is opened again.
    store: Option<Arc<dyn Store>>,
}

impl Node {
    async fn new() -> Self {
        Self::of(options(&SERVER.url(), &name())).await
    }

    async fn of(options: PostgresOptions) -> Self {
        let lifecycle = Lifecycle::new();
        let (store, findings) = open(&options, &lifecycle).await.expect("it opens");
        assert!(findings.is_empty(), "{findings:?}");
        Self { options, lifecycle, store: Some(store) }
    }

    fn store(&self) -> &Arc<dyn Store> {
        self.store.as_ref().expect("it is open")
    }

    async fn close(&mut self) {
        self.store = None;
        self.lifecycle.stop();
        self.lifecycle.drained().await;
    }

    /// A connection beside the adapter's, in the same schema.
    async fn sql(&self) -> PgConnection {
        let (connect, _) = super::open::parse(&self.options).expect("a URL");
        PgConnection::connect_with(&connect).await.expect("it connects")
    }
}

#[async_trait]
impl StoreFixture for Node {
    fn store(&self) -> Arc<dyn Store> {
        Arc::clone(Node::store(self))
    }

    async fn restart(&mut self) {
        self.close().await;
        *self = Self::of(self.options.clone()).await;
    }
}

mod contract {
    use super::Node;
    crate::store_contract!(Node::new());
}

mod contract_under_faults {
    use super::{Dice, FaultRates, Node, UnderFaults};

    async fn faulty() -> UnderFaults<Node> {
        UnderFaults::new(Node::new().await, Dice::new(1, FaultRates::default()))
    }

    crate::store_contract_under_faults!(faulty());
}
