//! From a frame to a reply: header, row, version, guard, decode, handler, encode.
//!
//! Invariants: nothing is decoded that the guard has not walked. A refusal is logged once and closes the connection. A
//! response that its version cannot express is a bug: it is logged as an error and closes the connection too.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::ApiVersionsResponse;
use kafka_protocol::protocol::{Decodable, Encodable};

use crate::api::Reply;
use crate::api::context::{Connection, Context, Services};
use crate::api::forward::{self, Forwarded};
use crate::api::handlers::api_versions;
use crate::api::quotas::Resource;
use crate::api::table::{self, Api, Route, Scope};
use crate::api::throttling::{Spent, timed};
use crate::env::BoxFuture;
use crate::wire::header::{self, RequestHead};
use crate::wire::reply::{Body, NotEncodable, Response, ResponseTo};
use crate::wire::{PRIVATE_API, bridge, guard, schema};

/// What becomes of a request, once its ordered part is done.
pub enum Outcome {
    /// The response is there.
    Now(Response),
    /// The response comes later; `None` closes the connection instead.
    Later(BoxFuture<'static, Option<Response>>),
    /// There is no response.
    Silent,
    /// The connection is to be closed, after the responses to earlier requests.
    Close,
}

/// Handles one frame. When this returns, everything that must keep the order of the connection is done.
pub async fn dispatch(services: Arc<Services>, connection: Arc<Connection>, frame: Bytes) -> Outcome {
    let received = services.env.now();
    if connection.controller && header::api_key(&frame) == Some(PRIVATE_API) {
        return Outcome::Later(Box::pin(private(services, connection, frame)));
    }
    let admitted = match admit(&frame, connection.controller) {
        Ok(admitted) => admitted,
        Err(refusal) => {
            tracing::info!(connection = connection.id, peer = %connection.peer, "connection closed: {refusal}");
            return Outcome::Close;
        }
    };
    let request_bytes = frame.len();
    match admitted {
        Admitted::Call { api, request, body } => {
            tracing::debug!(
                connection = connection.id,
                api = api.name,
                version = request.version,
                correlation_id = request.correlation_id,
                client_id = &*request.client_id,
                bytes = body.len(),
                "request"
            );
            services.api_stats.requested(api.key);
            let spent = services.quotas.watch(Resource::Request).then(|| Spent::since(&services.env, received));
            let not_taken = Arc::default();
            let ctx = Context { services, request, connection, received, request_bytes, spent, not_taken };
            match api.route == Route::Controller && !ctx.connection.controller {
                true => decided_by_controller(ctx, api, frame, body).await,
                false => run(ctx, api, body).await,
            }
        }
        Admitted::UnknownApiVersions { correlation_id } => {
            let to = ResponseTo { api_key: table::API_VERSIONS, version: 0, correlation_id };
            encode::<ApiVersionsResponse>(to, api_versions::unknown_version()).map_or(Outcome::Close, Outcome::Now)
        }
    }
}

/// Runs the handler, on the time of whoever asks.
async fn run(ctx: Context, api: &'static Api, body: Bytes) -> Outcome {
    let spent = ctx.spent.clone();
    match (timed(spent.as_deref(), (api.run)(ctx, body)).await, spent) {
        (Outcome::Later(later), Some(spent)) => {
            Outcome::Later(Box::pin(async move { timed(Some(&spent), later).await }))
        }
        (outcome, _) => outcome,
    }
}

/// What the active controller says: here and now if that is this node.
async fn decided_by_controller(ctx: Context, api: &'static Api, frame: Bytes, body: Bytes) -> Outcome {
    if ctx.services.metadata.is_active() {
        let outcome = run(ctx.clone(), api, body.clone()).await;
        if !ctx.is_not_taken() {
            return outcome;
        }
    }
    Outcome::Later(Box::pin(forwarded(ctx, api, frame, body)))
}

/// The answer to another controller, or to a broker outside the quorum: what it says is the quorum's own business.
async fn private(services: Arc<Services>, connection: Arc<Connection>, frame: Bytes) -> Option<Response> {
    let refused = match header::parse(&frame) {
        Err(malformed) => malformed.to_string(),
        Ok((request, body)) => match services.metadata.peer_message(body).await {
            Ok(answer) => {
                let RequestHead { api_key, version, correlation_id, .. } = request;
                let to = ResponseTo { api_key, version, correlation_id };
                return Response::with_body(to, Body::from_parts(vec![answer])).ok();
            }
            Err(refused) => refused.to_string(),
        },
    };
    tracing::info!(connection = connection.id, peer = %connection.peer, "connection closed: {refused}");
    None
}

/// The answer of the controller to a request that is its to decide.
async fn forwarded(ctx: Context, api: &'static Api, frame: Bytes, body: Bytes) -> Option<Response> {
    let env = &ctx.services.env;
    loop {
        match forward::forward(&ctx, frame.clone()).await {
            Forwarded::Answered(response) => {
                ctx.services.api_stats.answered(api.key, env.now() - ctx.received);
                return Some(response);
            }
            Forwarded::NotTaken => {
                let answer = later((api.run)(ctx.clone(), body.clone()).await).await;
                if !ctx.is_not_taken() || env.now() >= forward::deadline(&ctx) {
                    return answer;
                }
                // This node was the controller when it began.
                env.sleep(forward::RETRY).await;
            }
            Forwarded::Lost => return None,
        }
    }
}

/// Starts on a request that came in an envelope: it runs as `asker`, on what `ctx` is made of. The error is a sentence
/// for the log.
pub(super) async fn dispatch_forwarded(
    ctx: &Context,
    asker: Arc<Connection>,
    frame: Bytes,
) -> Result<BoxFuture<'static, Option<Response>>, String> {
    let Admitted::Call { api, request, body } = admit(&frame, true)? else {
        return Err("ApiVersions is not forwarded".into());
    };
    if api.route == Route::Here || api.scope != Scope::Both {
        return Err(format!("{} is not forwarded", api.name));
    }
    ctx.services.api_stats.requested(api.key);
    let request_bytes = frame.len();
    let inner = Context { request, connection: asker, request_bytes, spent: None, ..ctx.clone() };
    Ok(Box::pin(later((api.run)(inner, body).await)))
}

async fn later(outcome: Outcome) -> Option<Response> {
    match outcome {
        Outcome::Now(response) => Some(response),
        Outcome::Later(response) => response.await,
        Outcome::Silent | Outcome::Close => None,
    }
}

/// A request that may go on.
enum Admitted {
    Call {
        api: &'static Api,
        request: RequestHead,
        body: Bytes,
    },
    /// ApiVersions in a version that we do not know. It is answered all the same, so that the client can come down to
    /// one that we know (KIP-511).
    UnknownApiVersions {
        correlation_id: i32,
    },
}

/// Reads the header, finds the row and walks the body; pure. The error is a sentence for the log.
fn admit(frame: &Bytes, controller: bool) -> Result<Admitted, String> {
    let (request, body) = header::parse(frame).map_err(|malformed| format!("request header: {malformed}"))?;
    let RequestHead { api_key, version, correlation_id, .. } = request;
    let Some(api) = table::find(api_key).filter(|api| api.scope.covers(controller)) else {
        return Err(format!("no api with key {api_key} is served here"));
    };
    if !api.versions.contains(&version) {
        if api_key == table::API_VERSIONS {
            return Ok(Admitted::UnknownApiVersions { correlation_id });
        }
        return Err(format!("{} version {version} is not supported", api.name));
    }
    let Some(shape) = schema::request(api_key, version) else {
        return Err(format!("{} version {version} has no shape", api.name));
    };
    guard::walk(shape, &body).map_err(|malformed| format!("{} version {version}: {malformed}", api.name))?;
    Ok(Admitted::Call { api, request, body })
}

/// What a handler may answer with: a message of the protocol crate, or a body it encoded itself.
pub(super) trait Answer: Send + 'static {
    fn into_response(self, to: ResponseTo) -> Result<Response, NotEncodable>;
}

impl<M: Encodable + Send + 'static> Answer for M {
    fn into_response(self, to: ResponseTo) -> Result<Response, NotEncodable> {
        Response::encode(to, &self)
    }
}

impl Answer for Body {
    fn into_response(self, to: ResponseTo) -> Result<Response, NotEncodable> {
        Response::with_body(to, self)
    }
}

/// Decodes a body that the guard has passed; `None` closes the connection.
pub(super) fn decode<Q: Decodable>(ctx: &Context, body: Bytes) -> Option<Q> {
    let (api_key, version) = (ctx.request.api_key, ctx.request.version);
    match decode_in::<Q>(api_key, version, body) {
        Ok((request, _behind)) => Some(request),
        Err(error) => {
            tracing::info!(connection = ctx.connection.id, api_key, version, "connection closed: {error}");
            None
        }
    }
}

/// Decodes a body of `version`, over the bridge where the protocol crate lacks it; and what is behind it.
pub(super) fn decode_in<Q: Decodable>(api_key: i16, version: i16, body: Bytes) -> Result<(Q, Bytes), String> {
    let mut body = bridge::request(api_key, version, body).map_err(|malformed| malformed.to_string())?;
    let request = Q::decode(&mut body, bridge::via(api_key, version)).map_err(|error| error.to_string())?;
    Ok((request, body))
}

/// Turns a handler's reply into an outcome: encodes the answer, now or when it comes.
pub(super) fn finish<A: Answer>(ctx: &Context, reply: Reply<A>) -> Outcome {
    match reply {
        Reply::Now(answer) => respond(ctx, answer).map_or(Outcome::Close, Outcome::Now),
        Reply::Later(answer) => {
            let ctx = ctx.clone();
            Outcome::Later(Box::pin(async move { respond(&ctx, answer.await) }))
        }
        Reply::Silent => Outcome::Silent,
        Reply::Close => Outcome::Close,
    }
}

fn respond(ctx: &Context, answer: impl Answer) -> Option<Response> {
    let RequestHead { api_key, version, correlation_id, .. } = ctx.request;
    let to = ResponseTo { api_key, version, correlation_id };
    let mut response = encode(to, answer)?;
    let wait_ms = ctx.throttle_request();
    if wait_ms > 0 {
        response.raise_throttle_time(to, wait_ms);
    }
    let taken = ctx.services.env.now() - ctx.received;
    ctx.services.api_stats.answered(api_key, taken);
    let (connection, bytes) = (ctx.connection.id, response.len());
    tracing::debug!(connection, api_key, correlation_id, ?taken, bytes, "response");
    Some(response)
}

fn encode<A: Answer>(to: ResponseTo, answer: A) -> Option<Response> {
    match answer.into_response(to) {
        Ok(response) => Some(response),
        Err(NotEncodable(reason)) => {
            let ResponseTo { api_key, version, .. } = to;
            tracing::error!(api_key, version, "connection closed: response not encodable: {reason}");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::wire::generate::Generator;

    fn frame(api_key: i16, version: i16, body: &[u8]) -> Bytes {
        let mut frame = BytesMut::new();
        let head = RequestHead { api_key, version, correlation_id: 1, client_id: Arc::from("test") };
        header::put_request(&mut frame, &head);
        frame.extend_from_slice(body);
        frame.freeze()
    }

    fn refusal(frame: Bytes) -> String {
        admit(&frame, false).err().unwrap_or_default()
    }

    #[test]
    fn every_version_of_every_row_is_admitted_and_its_neighbours_are_not() {
        for api in table::APIS {
            for version in api.versions.clone() {
                let body = Generator::new(3).body(schema::request(api.key, version).unwrap());
                let admitted = admit(&frame(api.key, version, &body), !api.scope.covers(false));
                assert!(matches!(admitted, Ok(Admitted::Call { .. })), "{} v{version}", api.name);
            }
            for version in [api.versions.start() - 1, api.versions.end() + 1, i16::MIN, i16::MAX] {
                let admitted = admit(&frame(api.key, version, &[]), !api.scope.covers(false));
                if api.key == table::API_VERSIONS {
                    assert!(matches!(admitted, Ok(Admitted::UnknownApiVersions { correlation_id: 1 })));
                } else {
                    assert!(admitted.is_err_and(|refusal| refusal.ends_with("is not supported")));
                }
            }
        }
    }

    #[test]
    fn refusals_name_the_reason() {
        assert!(refusal(frame(4, 0, &[])).contains("no api with key 4"));
        assert!(refusal(frame(-1, 0, &[])).contains("no api with key -1"));
        assert!(refusal(frame(3, 0, &[0x7f, 0xff, 0xff, 0xff])).contains("Metadata version 0: array longer"));
        assert!(refusal(Bytes::from_static(&[0, 3])).contains("request header"));
        assert!(refusal(Bytes::new()).contains("request header"));
    }

    #[test]
    fn noise_never_panics() {
        let mut generator = Generator::new(11);
        for _ in 0..20_000 {
            let mut noise = generator.noise(60);
            if let Some(key) = noise.first_chunk_mut::<2>() {
                // Past the key, or nothing but the first check would be tried.
                let api = &table::APIS[usize::from(key[0]) % table::APIS.len()];
                *key = api.key.to_be_bytes();
            }
            let _ = admit(&Bytes::from(noise), false);
        }
    }

    #[test]
    fn the_answer_to_an_unknown_version_is_readable_by_the_oldest_client() {
        let to = ResponseTo { api_key: table::API_VERSIONS, version: 0, correlation_id: 9 };
        let response = encode(to, api_versions::unknown_version()).unwrap();
        let mut outgoing = crate::wire::reply::Outgoing::default();
        outgoing.push(response);
        let bytes = bytes::Buf::copy_to_bytes(&mut outgoing, 20);
        // Size, correlation id, error 35, one key: ApiVersions from 0 to 4.
        assert_eq!(&bytes[..], &[0, 0, 0, 16, 0, 0, 0, 9, 0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 4][..]);
    }
}
