//! In one commit and in two: the same outcome, run end by run end.

use std::sync::Arc;

use uuid::Uuid;

use super::*;
use crate::backend::open_with;
use crate::clock::SystemClock;
use crate::ids::FlowName;
use crate::lifecycle::Lifecycle;
use crate::message::RunStatus;
use crate::queue::embedded::Caps;
use crate::queue::{Consumer, ConsumerSpec, ReadRange};
use crate::store::{RunStart, RunState, SendState};
use crate::subject::{Stream, Subject};

/// How the ports record: in one commit, or one after the other.
const BOTH: [bool; 2] = [true, false];

struct Bench {
    _dir: tempfile::TempDir,
    lifecycle: Lifecycle,
    ports: Ports,
    tenant: TenantId,
    run: RunId,
}

impl Bench {
    /// Ports on which a run has begun.
    async fn new(together: bool, caps: Caps) -> Self {
        let (dir, lifecycle) = (tempfile::tempdir().expect("a folder"), Lifecycle::new());
        let clock = Arc::new(SystemClock);
        let mut ports = open_with(dir.path(), clock, &lifecycle, caps).expect("it opens");
        if !together {
            ports.together = None;
        }
        let (tenant, run) = (TenantId::default_tenant(), RunId(Uuid::now_v7()));
        let start = RunStart {
            run,
            tenant: tenant.clone(),
            message: crate::ids::MessageId(Uuid::now_v7()),
            flow: FlowName::default_route(),
            agent: "echo".parse().expect("a name"),
            revision: crate::ids::Revision::of(b"x"),
            at_ms: 1,
        };
        assert_eq!(ports.store.begin_run(&start, run.0).await.expect("begun"), RunState::Begun);
        Self { _dir: dir, lifecycle, ports, tenant, run }
    }

    fn ends(&self, answer: &str) -> Record {
        let (status, answer) = (RunStatus::Success, answer.to_owned());
        Record::RunEnd {
            tenant: self.tenant.clone(),
            run: self.run,
            end: RunEnd { status, answer, tokens: 0, elapsed_ms: 1, at_ms: 2 },
            memory: None,
        }
    }

    /// How the run ended, as the store has it.
    async fn answer(&self) -> Option<String> {
        match self.ports.store.run(&self.tenant, self.run).await.expect("it reads") {
            Some((_, RunState::Finished(end))) => Some(end.answer),
            _ => None,
        }
    }

    fn reply(&self, bytes: usize) -> Publication {
        let subject = Subject::action(&self.tenant);
        Publication::new(subject, Uuid::now_v7(), vec![b'x'; bytes])
    }

    async fn replies(&self) -> usize {
        let read = self.ports.queue.read(Stream::Actions, ReadRange::default(), 10, 0);
        read.await.expect("it reads").len()
    }

    /// A task to conclude, and its consumer.
    async fn task(&self) -> (Arc<dyn Consumer>, Delivery) {
        let subject = Subject::task(&self.tenant, &FlowName::default_route());
        let task = Publication::new(subject, Uuid::now_v7(), "a task".to_owned());
        self.ports.queue.publish(vec![task]).await.expect("published");
        let spec = ConsumerSpec {
            stream: Stream::Tasks,
            name: "worker".to_owned(),
            rest: None,
            ack_wait_ms: 60_000,
            max_ack_pending: 8,
        };
        let consumer = self.ports.queue.consumer(spec).await.expect("it opens");
        let taken = consumer.pull(None, 1, 5_000).await.expect("it pulls").pop();
        (consumer, taken.expect("the task"))
    }

    async fn end(self) {
        self.lifecycle.stop();
        drop(self.ports);
        self.lifecycle.drained().await;
    }
}

/// Does what is left after `recorded`.
async fn conclude(ports: &Ports, recorded: Recorded) {
    match recorded {
        Recorded::Concluded => {}
        Recorded::Written(batch, deliveries) => {
            ports.queue.conclude(batch, deliveries).await.expect("concluded");
        }
        Recorded::EndedBefore(_) => panic!("it had not ended before"),
    }
}

#[tokio::test]
async fn a_run_ends_is_told_and_acked() {
    for together in BOTH {
        let bench = Bench::new(together, Caps::default()).await;
        let (consumer, task) = bench.task().await;
        let batch = vec![bench.reply(1)];
        let recorded = bench.ports.record(&bench.ends("done"), batch, vec![task]).await;
        let recorded = recorded.expect("recorded");
        assert_eq!(matches!(recorded, Recorded::Concluded), together);
        conclude(&bench.ports, recorded).await;
        assert_eq!(bench.answer().await.as_deref(), Some("done"));
        assert_eq!(bench.replies().await, 1);
        assert!(bench.ports.queue.backlog(Stream::Tasks).await.expect("it reads").is_empty());
        drop(consumer);
        bench.end().await;
    }
}

#[tokio::test]
async fn a_run_that_ended_before_tells_nothing_and_keeps_its_delivery() {
    for together in BOTH {
        let bench = Bench::new(together, Caps::default()).await;
        assert!(bench.ports.write(&bench.ends("first")).await.expect("written"));
        let (consumer, task) = bench.task().await;
        let batch = vec![bench.reply(1)];
        let recorded = bench.ports.record(&bench.ends("second"), batch, vec![task]).await;
        let Ok(Recorded::EndedBefore(mut deliveries)) = recorded else {
            panic!("it ended twice: {recorded:?}")
        };
        assert_eq!(bench.answer().await.as_deref(), Some("first"));
        assert_eq!(bench.replies().await, 0);
        deliveries.pop().expect("still held").ack().await.expect("acked");
        drop(consumer);
        bench.end().await;
    }
}

#[tokio::test]
async fn what_has_no_room_is_recorded_and_its_delivery_stays() {
    for together in BOTH {
        let caps = Caps { max_stream_bytes: 100, ..Caps::default() };
        let bench = Bench::new(together, caps).await;
        let (consumer, task) = bench.task().await;
        let batch = vec![bench.reply(200)];
        let recorded = bench.ports.record(&bench.ends("done"), batch, vec![task]).await;
        // The record needs no room in a stream: the work is not to be done again.
        let Ok(Recorded::Written(batch, deliveries)) = recorded else {
            panic!("not written: {recorded:?}")
        };
        assert_eq!(bench.answer().await.as_deref(), Some("done"));
        assert_eq!((batch.len(), bench.replies().await), (1, 0));
        deliveries.into_iter().next().expect("still held").ack().await.expect("acked");
        drop(consumer);
        bench.end().await;
    }
}

#[tokio::test]
async fn a_claim_is_marked_sent() {
    for together in BOTH {
        let bench = Bench::new(together, Caps::default()).await;
        let (store, reply) = (&bench.ports.store, ReplyId(Uuid::now_v7()));
        let begun = store.begin_send(&bench.tenant, reply, 1).await.expect("claimed");
        assert_eq!(begun, SendState::Fresh);
        let (consumer, task) = bench.task().await;
        let platform_id = Some("1700000000.1".to_owned());
        let sent =
            Record::Sent { tenant: bench.tenant.clone(), reply, platform_id: platform_id.clone() };
        let recorded = bench.ports.record(&sent, vec![bench.reply(1)], vec![task]).await;
        conclude(&bench.ports, recorded.expect("recorded")).await;
        let state = store.begin_send(&bench.tenant, reply, 2).await.expect("asked");
        assert_eq!(state, SendState::Sent(platform_id));
        drop(consumer);
        bench.end().await;
    }
}
