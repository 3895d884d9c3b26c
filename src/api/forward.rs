//! Requests that the controller decides, on their way from the broker that was asked: in an Envelope (KIP-590).
//!
//! The envelope carries the request as it came, header and all, with the principal and the address of whoever asked;
//! the active controller runs the same handler and its answer goes back as it is. A broker whose node is the active
//! controller runs the handler itself.
//!
//! Invariants: a request is sent again only if the controller says that it is not the one, or has not seen it; a
//! request whose fate is unknown is answered as timed out by whoever asked, never repeated. A controller that is none
//! any more when it would act says so in the envelope, as in Kafka (`RequestChannel.buildResponseSend`). Without a
//! controller in time the handler runs here and answers `NOT_CONTROLLER`, in the words of its API.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{EnvelopeRequest, EnvelopeResponse};
use kafka_protocol::protocol::Request;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::api::context::{Connection, Context};
use crate::env::Env;
use crate::error::{ApiError, ErrorCode};
use crate::peer::{self, Address, Peer, PeerFailed};
use crate::wire::header::{self, RequestHead};
use crate::wire::primitives::{Cursor, put_string_length, put_unsigned_varint};
use crate::wire::reply::{Response, ResponseTo};

/// How long a request waits for a controller that takes it, and how long for its answer (`request.timeout.ms`).
const PATIENCE: Duration = Duration::from_secs(30);

/// Pause before another attempt.
pub const RETRY: Duration = Duration::from_millis(50);

/// The version of a principal's bytes (`DefaultPrincipalData`).
const PRINCIPAL_VERSION: i16 = 0;

/// The connection to the active controller, for requests that are forwarded.
#[derive(Default)]
pub struct Forwarding {
    peer: Mutex<Option<Peer>>,
}

impl Forwarding {
    fn peer(&self, env: &Env, address: Address) -> Peer {
        let mut held = self.peer.lock();
        match &*held {
            Some(peer) if *peer.address() == address => peer.clone(),
            _ => held.insert(Peer::new(env, address, "ottla-forwarding")).clone(),
        }
    }
}

/// What became of a request that the controller shall decide.
pub enum Forwarded {
    /// The controller's answer.
    Answered(Response),
    /// Nobody took it: it is to be handled here, which refuses it unless this node has become the controller.
    NotTaken,
    /// The controller may have acted, but there is no answer: the connection closes, as when a broker goes away.
    Lost,
}

/// When the search for a controller that takes a request ends.
pub fn deadline(ctx: &Context) -> Instant {
    ctx.received + PATIENCE
}

/// Has the active controller decide the request whose frame is `frame`, if it takes it before its [`deadline`].
pub async fn forward(ctx: &Context, frame: Bytes) -> Forwarded {
    let (services, deadline) = (&ctx.services, deadline(ctx));
    let request = EnvelopeRequest::default()
        .with_request_data(frame)
        .with_request_principal(Some(principal(&ctx.connection.user)))
        .with_client_host_address(host_address(ctx.connection.peer.ip()));
    loop {
        let left = deadline.saturating_duration_since(services.env.now());
        if left.is_zero() || services.metadata.is_active() {
            return Forwarded::NotTaken;
        }
        if let Some((node, address)) = services.metadata.active_controller() {
            let peer = services.forwarding.peer(&services.env, address);
            match peer.call(0, &request, left).await {
                Ok(answer) => match opened(ctx, answer) {
                    Opened::Answer(response) => return Forwarded::Answered(response),
                    Opened::NotController => {}
                    Opened::Refused(code) => {
                        tracing::warn!(%node, code, "the controller refuses a forwarded request");
                        return Forwarded::Lost;
                    }
                },
                Err(PeerFailed::NotSent(why)) => tracing::debug!(%node, why, "cannot forward a request yet"),
                Err(PeerFailed::Unanswered(why)) => {
                    tracing::warn!(%node, why, "the fate of a forwarded request is unknown");
                    return Forwarded::Lost;
                }
            }
        }
        services.env.sleep(RETRY).await;
    }
}

/// Has the active controller decide `request`, which is a part of what `ctx` asks. `None`: nobody took it, so it is to
/// be decided here, as with [`Forwarded::NotTaken`]. `RequestTimedOut`: the controller may have acted on it.
pub async fn decide<Q: Request>(ctx: &Context, version: i16, request: &Q) -> Result<Option<Q::Response>, ApiError> {
    let failed = |why: String| ApiError::new(ErrorCode::UnknownServerError, why);
    let head = RequestHead { api_key: Q::KEY, version, ..ctx.request.clone() };
    let mut frame = BytesMut::new();
    header::put_request(&mut frame, &head);
    frame.extend_from_slice(&peer::encode(version, request).map_err(failed)?);
    let part = Context { request: head, ..ctx.clone() };
    match forward(&part, frame.freeze()).await {
        Forwarded::Answered(response) => {
            let answer = response.without_size();
            let parsed = header::parse_response(&answer, Q::KEY, version);
            let (_, body) = parsed.map_err(|malformed| failed(malformed.to_string()))?;
            peer::decode::<Q>(version, body).map(Some).map_err(failed)
        }
        Forwarded::NotTaken => Ok(None),
        Forwarded::Lost => Err(ErrorCode::RequestTimedOut.into()),
    }
}

enum Opened {
    Answer(Response),
    NotController,
    Refused(i16),
}

fn opened(ctx: &Context, answer: EnvelopeResponse) -> Opened {
    match (answer.error_code, answer.response_data) {
        (0, Some(data)) => {
            let (api_key, version, correlation_id) =
                (ctx.request.api_key, ctx.request.version, ctx.request.correlation_id);
            let response = Response::forwarded(data);
            let wait_ms = response.throttle_time(ResponseTo { api_key, version, correlation_id });
            if wait_ms > 0 {
                let wait = Duration::from_millis(u64::try_from(wait_ms).unwrap_or(0));
                ctx.connection.mute.until(ctx.services.env.now() + wait);
            }
            Opened::Answer(response)
        }
        (code, _) if code == ErrorCode::NotController.code() => Opened::NotController,
        (code, _) => Opened::Refused(code),
    }
}

/// Who asked, as a controller takes it out of an envelope; `None` if the bytes are not a principal.
pub fn asker(id: u64, through: &Connection, request: &EnvelopeRequest) -> Option<Arc<Connection>> {
    let user = match &request.request_principal {
        None => None,
        Some(bytes) => Some(parse_principal(bytes)?),
    };
    let address = match request.client_host_address.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(&request.client_host_address[..]).ok()?),
        16 => IpAddr::from(<[u8; 16]>::try_from(&request.client_host_address[..]).ok()?),
        _ => return None,
    };
    let peer = SocketAddr::new(address, through.peer.port());
    let mut connection = Connection::new(id, Arc::clone(&through.listener), true, peer);
    connection.forwarded = true;
    if let Some(user) = user {
        connection.user = user.into();
    }
    Some(Arc::new(connection))
}

/// The bytes of a principal: `DefaultKafkaPrincipalBuilder`'s.
fn principal(user: &str) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(PRINCIPAL_VERSION);
    for part in ["User", user] {
        put_string_length(&mut out, true, Some(part.len()));
        out.extend_from_slice(part.as_bytes());
    }
    out.put_u8(0);
    put_unsigned_varint(&mut out, 0);
    out.freeze()
}

fn parse_principal(bytes: &[u8]) -> Option<String> {
    let mut cursor = Cursor::new(bytes);
    if cursor.i16().ok()? != PRINCIPAL_VERSION {
        return None;
    }
    let mut string = || {
        let length = cursor.string_length(true).ok()??;
        std::str::from_utf8(cursor.take(length).ok()?).ok().map(str::to_owned)
    };
    let (_, name) = (string()?, string()?);
    Some(name)
}

fn host_address(address: IpAddr) -> Bytes {
    match address.to_canonical() {
        IpAddr::V4(address) => Bytes::copy_from_slice(&address.octets()),
        IpAddr::V6(address) => Bytes::copy_from_slice(&address.octets()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through() -> Connection {
        Connection::new(1, "CONTROLLER".into(), true, "10.0.0.9:1000".parse().unwrap())
    }

    fn envelope(user: &str, address: &[u8]) -> EnvelopeRequest {
        EnvelopeRequest::default()
            .with_request_principal(Some(principal(user)))
            .with_client_host_address(Bytes::copy_from_slice(address))
    }

    #[test]
    fn the_controller_sees_who_asked() {
        let asker = asker(7, &through(), &envelope("żółw", &[127, 0, 0, 1])).unwrap();
        assert_eq!((&*asker.user, asker.peer.ip().to_string()), ("żółw", "127.0.0.1".to_owned()));
        assert!(asker.controller && asker.forwarded && !through().forwarded);
    }

    #[test]
    fn malformed_askers_are_nobody() {
        assert!(asker(7, &through(), &envelope("a", &[127, 0, 0])).is_none());
        for cut in 0..principal("ottla").len() - 2 {
            let cut = principal("ottla").slice(..cut);
            assert_eq!(parse_principal(&cut), None, "{cut:?}");
        }
        let mut newer = principal("a").to_vec();
        newer[1] = 9;
        assert_eq!(parse_principal(&newer), None);
    }
}
