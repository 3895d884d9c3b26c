//! What this broker answers: one row per API, one file per handler, and the path between them.
//!
//! The path of a request:
//! 1. `network::connection` has a whole frame and awaits [`dispatch::dispatch`];
//! 2. the header is read, [`table`] has the row of its key, and the row must serve its version;
//! 3. `wire::guard` walks the body along its shape, then the protocol crate decodes it (record bytes stay slices);
//! 4. the row's handler runs: whatever must happen in the order of the connection is done when it returns;
//! 5. its [`Reply`] says how the rest goes: the answer is there, or comes while requests behind it are handled;
//! 6. the response is encoded, a client above a quota is told to wait ([`throttling`]), and the connection writes
//!    responses in the order of their requests.
//!
//! Invariants: a key or version without a row, or a body that does not fit its shape, closes the connection without an
//! answer, as in Kafka. Handlers translate and never judge; they never import each other.

pub mod alterations;
pub mod config_changes;
pub mod config_views;
pub mod context;
pub mod deadlines;
pub mod dispatch;
pub mod endpoints;
pub mod features;
pub mod fetch_body;
pub mod fetch_session;
pub mod forward;
mod forwarded_alterations;
pub mod handlers;
pub mod hosting;
pub mod internal_topics;
pub mod loggers;
pub mod offset_lookups;
pub mod operations;
pub mod producer_ids;
pub mod quotas;
pub mod redirects;
mod settings_check;
pub mod stats;
pub mod table;
pub mod telemetry;
pub mod throttling;
pub mod topic_pages;
pub mod topic_views;
pub mod topics_in_creation;
pub mod translate;

use crate::env::BoxFuture;

pub use crate::wire::reply::Body;
pub use context::{Connection, Context, Parts, Services};
pub use features::{SupportedFeature, supported_features};
pub use settings_check::check_settings;
pub use table::{apis, apis_markdown};

/// What a handler returns. What must keep the order of the connection was done before it returned.
pub enum Reply<R> {
    /// The answer.
    Now(R),
    /// The answer, later: requests behind this one are handled meanwhile, but answered after it.
    Later(BoxFuture<'static, R>),
    /// No answer is expected (Produce with acks=0).
    Silent,
    /// The connection is to be closed: how an error is told to a client that expects no answer.
    Close,
}
