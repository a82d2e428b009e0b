//! Ids seen before, while segments are written, after rollbacks and crashes, to the window's end.

use super::*;

const STREAM: Stream = Stream::Tasks;

fn database() -> Connection {
    let conn = Connection::open_in_memory().expect("memory");
    conn.execute_batch(include_str!("../../../../migrations/001_initial.sql")).expect("schema");
    conn
}

fn small() -> Dedupe {
    Dedupe { min_seal_ids: Some(500), next_segment: 1, ..Dedupe::default() }
}

fn id(n: u64) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, &n.to_be_bytes())
}

/// One commit with the ids `from..to`, whose sequence numbers are the same.
fn commit(dedupe: &mut Dedupe, conn: &Connection, (from, to): (u64, u64), at_ms: UnixMs) {
    let mut ids = Vec::new();
    for n in from..to {
        assert_eq!(dedupe.get(conn, STREAM, id(n)).expect("get"), None, "{n} is new");
        dedupe.insert(STREAM, id(n), n, at_ms);
        ids.extend_from_slice(id(n).as_bytes());
    }
    if !ids.is_empty() {
        dedupe.log(conn, STREAM, (from, at_ms), &ids).expect("log");
    }
    dedupe.write(conn).expect("write");
    dedupe.ended(true);
}

fn check(dedupe: &Dedupe, conn: &Connection, upto: u64) {
    for n in 1..upto {
        assert_eq!(dedupe.get(conn, STREAM, id(n)).expect("get"), Some(n), "{n}");
        assert_eq!(dedupe.get(conn, Stream::Events, id(n)).expect("get"), None, "{n} elsewhere");
    }
}

#[test]
fn every_id_is_known_while_segments_are_written_and_after_each_crash() {
    let (conn, mut dedupe) = (database(), small());
    for round in 0..400 {
        commit(&mut dedupe, &conn, (1 + round * 10, 11 + round * 10), 1_000);
        if round % 97 == 0 {
            check(&dedupe, &conn, 11 + round * 10);
            // A crash: only what was committed is there.
            dedupe = Dedupe { min_seal_ids: Some(500), ..Dedupe::load(&conn).expect("load") };
            check(&dedupe, &conn, 11 + round * 10);
        }
    }
    assert!(!dedupe.segments.is_empty(), "nothing was sealed");
    assert!(dedupe.recent.len() < 2_000, "{} ids in memory", dedupe.recent.len());
}

#[test]
fn a_rollback_forgets_its_ids_and_its_part_of_a_segment() {
    let (conn, mut dedupe) = (database(), small());
    commit(&mut dedupe, &conn, (1, 600), 1_000);
    assert!(dedupe.sealing.is_some());
    for failing in [true, false, true, false] {
        conn.execute_batch("BEGIN").expect("begin");
        dedupe.insert(STREAM, id(700), 700, 1_000);
        dedupe.write(&conn).expect("write");
        if failing {
            conn.execute_batch("ROLLBACK").expect("rollback");
            dedupe.ended(false);
            assert_eq!(dedupe.get(&conn, STREAM, id(700)).expect("get"), None);
        } else {
            conn.execute_batch("COMMIT").expect("commit");
            dedupe.ended(true);
            dedupe.recent.remove(&(STREAM, id(700)));
        }
        check(&dedupe, &conn, 600);
    }
}

#[test]
fn segments_outside_of_the_window_are_deleted() {
    let (conn, mut dedupe) = (database(), small());
    for round in 0..200 {
        commit(&mut dedupe, &conn, (1 + round * 10, 11 + round * 10), 1_000);
    }
    assert!(!dedupe.segments.is_empty());
    assert!(!dedupe.expire(&conn, 1_000 + WINDOW_MS).expect("expire"), "still in the window");
    while dedupe.expire(&conn, 1_001 + WINDOW_MS).expect("expire") {}
    let rows: i64 = conn
        .query_row("SELECT (SELECT count(*) FROM segments)", [], |row| row.get(0))
        .expect("count");
    assert_eq!((rows, dedupe.segments.len()), (0, 0));
}
