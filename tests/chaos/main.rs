//! Faults under load, and what must hold all the same: docs/ARCHITECTURE.md, *Promises*.

mod cluster;
mod draws;
mod node;
