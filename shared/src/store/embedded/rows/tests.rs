//! Rows are found by tenant and id, after pieces, restarts, and from a version without index.

use super::*;
use crate::ids::{ReplyId, RunId};
use crate::store::embedded::{outbox, runs};
use crate::store::{RunState, SendState};

const INITIAL: &str = include_str!("../../../../migrations/001_initial.sql");
const APPENDED: &str = include_str!("../../../../migrations/002_appended_records.sql");

fn tenant(name: &str) -> TenantId {
    TenantId::new(name).expect("a plain name")
}

fn database() -> Connection {
    let conn = Connection::open_in_memory().expect("memory");
    conn.execute_batch(INITIAL).expect("schema");
    conn
}

fn commit(rows: &Rows, conn: &Connection) {
    let mut hook = rows.clone();
    hook.before_commit(conn).expect("write");
    hook.ended(true);
}

#[test]
fn an_aborted_claim_is_fresh_again_and_its_number_is_nobody_elses() {
    let conn = database();
    conn.execute_batch(APPENDED).expect("schema");
    let rows = Rows::load(&conn).expect("load");
    let (t, one, two) = (tenant("a"), ReplyId(Uuid::from_u128(1)), ReplyId(Uuid::from_u128(2)));
    let begin =
        |rows: &Rows, reply| outbox::begin_send(&conn, rows, (&t, reply), 1).expect("begin");
    assert_eq!(begin(&rows, one), SendState::Fresh);
    outbox::abort_send(&conn, &rows, (&t, one)).expect("abort");
    commit(&rows, &conn);
    // Its number is given out again after a restart.
    let rows = Rows::load(&conn).expect("load");
    assert_eq!(begin(&rows, two), SendState::Fresh);
    outbox::finish_send(&conn, &rows, (&t, two), Some("ts")).expect("finish");
    assert_eq!(begin(&rows, one), SendState::Fresh);
    assert_eq!(begin(&rows, one), SendState::Unknown);
    assert_eq!(begin(&rows, two), SendState::Sent(Some("ts".to_owned())));
}

#[test]
fn a_database_without_index_is_indexed_when_it_is_opened() {
    let conn = database();
    for n in 1..=50_u128 {
        let id = Uuid::from_u128(n);
        for tenant in ["a", "b"] {
            let start = format!(
                r#"{{"run":"{id}","tenant":"{tenant}","message":"{id}","flow":"f","agent":"x","revision":"r","at_ms":{n}}}"#
            );
            conn.execute(
                "INSERT INTO runs VALUES (?, ?, ?, NULL, NULL, ?)",
                rusqlite::params![tenant, id.as_bytes().as_slice(), start, n as i64],
            )
            .expect("a row");
        }
    }
    conn.execute("INSERT INTO sends VALUES ('a', ?, 7, 1, 'ts')", [Uuid::from_u128(9).as_bytes()])
        .expect("a row");
    conn.execute_batch(APPENDED).expect("schema");
    for _ in 0..2 {
        let rows = Rows::load(&conn).expect("load");
        for (tenant, n) in [("a", 1), ("b", 50), ("a", 33)].map(|(t, n)| (tenant(t), n)) {
            let found = runs::get(&conn, &rows, &tenant, RunId(Uuid::from_u128(n))).expect("get");
            let (start, state) = found.expect("it is there");
            assert_eq!((start.tenant, start.at_ms), (tenant, n as u64));
            assert_eq!(state, RunState::Resumed { checkpoint: None });
        }
        let reply = ReplyId(Uuid::from_u128(9));
        let sent = SendState::Sent(Some("ts".to_owned()));
        let begin = |t| outbox::begin_send(&conn, &rows, (&tenant(t), reply), 1).expect("begin");
        assert_eq!(begin("a"), sent);
    }
}
