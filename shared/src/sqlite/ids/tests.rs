//! Ids known before, while segments are written, after rollbacks and crashes, until they expire.

use super::*;

/// One space, and another.
const SPACE: u8 = 1;
const OTHER: u8 = 4;
const SQL: Sql = sql!("seen", "segments", "segment_ids");

fn database() -> Connection {
    let conn = Connection::open_in_memory().expect("memory");
    conn.execute_batch(include_str!("../../../migrations/001_initial.sql")).expect("schema");
    conn
}

fn small(conn: &Connection) -> Ids {
    Ids::load(conn, &SQL, 500).expect("load")
}

fn id(n: u64) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, &n.to_be_bytes())
}

/// One commit with the ids `from..to`, whose sequence numbers are the same.
fn commit(ids: &mut Ids, conn: &Connection, (from, to): (u64, u64), at_ms: UnixMs) {
    let mut added = Vec::new();
    for n in from..to {
        assert_eq!(ids.get(conn, (SPACE, id(n))).expect("get"), None, "{n} is new");
        ids.insert((SPACE, id(n)), n, at_ms);
        added.extend_from_slice(id(n).as_bytes());
    }
    if !added.is_empty() {
        ids.log(conn, SPACE, (from, at_ms), &added).expect("log");
    }
    ids.write(conn).expect("write");
    ids.ended(true);
}

fn check(ids: &Ids, conn: &Connection, upto: u64) {
    for n in 1..upto {
        assert_eq!(ids.get(conn, (SPACE, id(n))).expect("get"), Some(n), "{n}");
        assert_eq!(ids.get(conn, (OTHER, id(n))).expect("get"), None, "{n} elsewhere");
    }
}

#[test]
fn every_id_is_known_while_segments_are_written_and_after_each_crash() {
    let conn = database();
    let mut ids = small(&conn);
    for round in 0..400 {
        commit(&mut ids, &conn, (1 + round * 10, 11 + round * 10), 1_000);
        if round % 97 == 0 {
            check(&ids, &conn, 11 + round * 10);
            // A crash: only what was committed is there.
            ids = small(&conn);
            check(&ids, &conn, 11 + round * 10);
        }
    }
    assert!(!ids.segments.is_empty(), "nothing was sealed");
    assert!(ids.recent.len() < 2_000, "{} ids in memory", ids.recent.len());
}

#[test]
fn a_rollback_forgets_its_ids_and_its_part_of_a_segment() {
    let conn = database();
    let mut ids = small(&conn);
    commit(&mut ids, &conn, (1, 600), 1_000);
    assert!(ids.sealing.is_some());
    for failing in [true, false, true, false] {
        conn.execute_batch("BEGIN").expect("begin");
        ids.insert((SPACE, id(700)), 700, 1_000);
        ids.write(&conn).expect("write");
        if failing {
            conn.execute_batch("ROLLBACK").expect("rollback");
            ids.ended(false);
            assert_eq!(ids.get(&conn, (SPACE, id(700))).expect("get"), None);
        } else {
            conn.execute_batch("COMMIT").expect("commit");
            ids.ended(true);
            ids.recent.remove(&(SPACE, id(700)));
        }
        check(&ids, &conn, 600);
    }
}

#[test]
fn segments_that_are_too_old_are_deleted() {
    let conn = database();
    let mut ids = small(&conn);
    for round in 0..200 {
        commit(&mut ids, &conn, (1 + round * 10, 11 + round * 10), 1_000);
    }
    assert!(!ids.segments.is_empty());
    assert!(!ids.expire(&conn, 1_000).expect("expire"), "still wanted");
    while ids.expire(&conn, 1_001).expect("expire") {}
    let rows: i64 = conn
        .query_row("SELECT (SELECT count(*) FROM segments)", [], |row| row.get(0))
        .expect("count");
    assert_eq!((rows, ids.segments.len()), (0, 0));
}
