//! The router: consumes INBOUND, scores flows, emits TASKS. Never does I/O but the queue.
