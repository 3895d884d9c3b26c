//! The operators' port: `/metrics` for Prometheus, `/health/live`, `/health/ready`. Plain HTTP/1.1, read-only.
//!
//! Invariants: nothing here changes state; a scrape walks what it reports once and holds no lock while it renders.

mod collect;
mod shortcomings;

use std::convert::Infallible;
use std::sync::Arc;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::sync::Semaphore;

pub use collect::{Collector, broker_state};

use crate::env::{Env, Listener};

/// Connections served at a time; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 32;

/// Serves `collector`'s view on `listener`, for ever.
pub async fn serve(env: Env, listener: Box<dyn Listener>, collector: Arc<Collector>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(failure) => {
                tracing::warn!(%failure, "metrics listener cannot accept");
                env.sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        let collector = collector.clone();
        env.spawn(async move {
            let service = service_fn(move |request| {
                let collector = collector.clone();
                async move { Ok::<_, Infallible>(answer(&request, &collector).await) }
            });
            let served = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            if let Err(failure) = served.await {
                tracing::debug!(%failure, "metrics connection ended");
            }
            drop(place);
        });
    }
}

async fn answer(request: &Request<Incoming>, collector: &Collector) -> Response<Full<Bytes>> {
    if request.method() != Method::GET {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET is served here\n".into());
    }
    match request.uri().path() {
        "/metrics" => text(StatusCode::OK, collector.render().await),
        "/health/live" => text(StatusCode::OK, "live\n".into()),
        "/health/ready" => match collector.not_ready() {
            None => {
                let (disks, cluster) = (collector.limits_of_disks(), collector.limits_of_cluster());
                text(StatusCode::OK, format!("ready\n{disks}{cluster}"))
            }
            Some(reason) => text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")),
        },
        _ => text(StatusCode::NOT_FOUND, "try /metrics, /health/live or /health/ready\n".into()),
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let kind = header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
