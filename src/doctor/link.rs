//! A connection to somebody's broker: one request at a time, every wait and every length bounded.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::env::{Duplex, Env};

const PATIENCE: Duration = Duration::from_secs(15);
const FRAME_BYTES_MAX: usize = 64 << 20;

/// A connection.
pub(super) struct Link {
    env: Env,
    stream: Box<dyn Duplex>,
    next_id: i32,
}

impl Link {
    pub(super) async fn open(env: &Env, host: &str, port: u16) -> Result<Link, String> {
        let connected = env.timeout(PATIENCE, env.net().connect(host, port)).await;
        match connected {
            None => Err(format!("{host}:{port}: does not accept within {PATIENCE:?}")),
            Some(Err(failure)) => Err(format!("{host}:{port}: {failure}")),
            Some(Ok(stream)) => Ok(Link { env: env.clone(), stream, next_id: 1 }),
        }
    }

    /// Sends a request and takes its answer.
    pub(super) async fn call<Q: Request>(&mut self, version: i16, request: &Q) -> Result<Q::Response, String> {
        let id = self.send(version, request).await?;
        self.receive::<Q>(version, id).await
    }

    /// Sends a request; gives its correlation id.
    pub(super) async fn send<Q: Request>(&mut self, version: i16, request: &Q) -> Result<i32, String> {
        let mut body = BytesMut::new();
        request.encode(&mut body, version).map_err(|e| format!("cannot be encoded: {e}"))?;
        self.send_raw(Q::KEY, version, Q::header_version(version), &body).await
    }

    /// Sends any body, in a version that need not exist.
    pub(super) async fn send_raw(
        &mut self,
        key: i16,
        version: i16,
        header_version: i16,
        body: &[u8],
    ) -> Result<i32, String> {
        let id = self.next_id;
        self.next_id += 1;
        let header = RequestHeader::default()
            .with_request_api_key(key)
            .with_request_api_version(version)
            .with_correlation_id(id)
            .with_client_id(Some(StrBytes::from_static_str("ottla-doctor")));
        let mut frame = BytesMut::new();
        header.encode(&mut frame, header_version).map_err(|e| format!("cannot be encoded: {e}"))?;
        frame.extend_from_slice(body);
        let mut bytes = (frame.len() as u32).to_be_bytes().to_vec();
        bytes.extend_from_slice(&frame);
        let written = self.env.timeout(PATIENCE, self.stream.write_all(&bytes)).await;
        written.ok_or("does not read")?.map_err(|e| e.to_string())?;
        Ok(id)
    }

    /// Takes the answer to the request `id`.
    pub(super) async fn receive<Q: Request>(&mut self, version: i16, id: i32) -> Result<Q::Response, String> {
        let mut frame = self.frame().await?;
        let header = ResponseHeader::decode(&mut frame, Q::Response::header_version(version));
        let header = header.map_err(|e| format!("the answer's header cannot be read: {e}"))?;
        if header.correlation_id != id {
            return Err(format!("answers request {} where {id} is due", header.correlation_id));
        }
        Q::Response::decode(&mut frame, version).map_err(|e| format!("the answer cannot be read: {e}"))
    }

    async fn frame(&mut self) -> Result<Bytes, String> {
        let mut size = [0; 4];
        self.fill(&mut size).await?;
        let size = u32::from_be_bytes(size) as usize;
        if size > FRAME_BYTES_MAX {
            return Err(format!("answers with {size} bytes, which is too much"));
        }
        let mut frame = BytesMut::zeroed(size);
        self.fill(&mut frame).await?;
        Ok(frame.freeze())
    }

    async fn fill(&mut self, bytes: &mut [u8]) -> Result<(), String> {
        match self.env.timeout(PATIENCE, self.stream.read_exact(bytes)).await {
            None => Err(format!("no answer within {PATIENCE:?}")),
            Some(Err(failure)) => Err(format!("closed instead of answered: {failure}")),
            Some(Ok(_)) => Ok(()),
        }
    }
}
