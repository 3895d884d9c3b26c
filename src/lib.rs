//! Ottla: a durable, drop-in Apache Kafka broker.
//!
//! Read in this order: [`records`] (what a batch is), [`storage`] (where it goes), [`partitions`] (who may read it),
//! [`metadata`] (who decides), [`coordinator`] (groups), [`api`] (how a client asks), [`network`] (where it comes
//! from), [`server`] (how all of it is put together). Imports point downwards only; `testing::tidy` enforces it.

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

pub mod env;
pub mod error;
pub mod ids;
pub mod metrics;
pub mod sabotage;

pub mod config;
pub mod records;
pub mod wire;

pub mod storage;

pub mod peer;

pub mod metadata;

pub mod partitions;

pub mod coordinator;

pub mod api;

pub mod http;
pub mod network;

pub mod doctor;
pub mod offline;

pub mod cli;
pub mod server;

#[cfg(test)]
mod testing;
