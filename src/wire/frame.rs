//! Frames: four bytes of size, big endian, then that many bytes.
//!
//! A [`FrameBuffer`] turns arriving bytes into frames without touching a socket: the caller asks how much room to make,
//! reads into [`FrameBuffer::room`], and takes frames out.
//!
//! How much is read at once adapts to what comes: a window that is filled grows, so that a busy producer's requests
//! arrive several at a time and are not moved; one that stays nearly empty shrinks.
//!
//! Invariants: memory grows with the bytes that arrived, never with the size that was announced; a frame above
//! `WINDOW_BYTES_MAX` leaves with an allocation of its own, one of at most `COPIED_FRAME_BYTES` with none of the
//! window's; a connection that has become quiet holds at most a small window.

use bytes::buf::Limit;
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Bytes of the size in front of a frame.
pub const SIZE_BYTES: usize = 4;
/// The smallest window; frames up to this size never wait for the budget.
pub const SMALL_FRAME_BYTES: usize = 16 * 1024;
/// The largest window, which frames share.
const WINDOW_BYTES_MAX: usize = 256 * 1024;
/// Frames up to this size are copied out, so that what a handler keeps of them keeps no window alive.
const COPIED_FRAME_BYTES: usize = 2 * 1024;
/// Most bytes by which the buffer grows at once, so that a peer has to send before it gets.
const GROWTH_BYTES_MAX: usize = 1024 * 1024;

/// The announced size is negative or above the limit (`socket.request.max.bytes`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameRefused {
    pub size: i32,
}

impl std::fmt::Display for FrameRefused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "frame of {} bytes refused", self.size)
    }
}

/// Bytes that arrived and are not yet taken as frames.
pub struct FrameBuffer {
    bytes: BytesMut,
    window: usize,
}

impl Default for FrameBuffer {
    fn default() -> FrameBuffer {
        FrameBuffer { bytes: BytesMut::new(), window: SMALL_FRAME_BYTES }
    }
}

impl FrameBuffer {
    /// An empty buffer, which holds no memory yet.
    pub fn new() -> FrameBuffer {
        FrameBuffer::default()
    }

    /// True if no byte of a frame has arrived: the peer is between two requests.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The next frame, without its size, if all of it has arrived. A size above `frame_bytes_max` is refused.
    pub fn take(&mut self, frame_bytes_max: usize) -> Result<Option<Bytes>, FrameRefused> {
        let Some(announced) = self.announced() else { return Ok(None) };
        let size = match usize::try_from(announced) {
            Ok(size) if size <= frame_bytes_max => size,
            _ => return Err(FrameRefused { size: announced }),
        };
        if self.bytes.len() < SIZE_BYTES + size {
            return Ok(None);
        }
        if size <= COPIED_FRAME_BYTES {
            let frame = Bytes::copy_from_slice(&self.bytes[SIZE_BYTES..SIZE_BYTES + size]);
            self.bytes.advance(SIZE_BYTES + size);
            self.let_go();
            return Ok(Some(frame));
        }
        let mut frame = self.bytes.split_to(SIZE_BYTES + size);
        if size > WINDOW_BYTES_MAX {
            // What is behind belongs to the next frame; it moves so that the big allocation leaves with its frame.
            self.bytes = BytesMut::from(&self.bytes[..]);
        }
        self.let_go();
        frame.advance(SIZE_BYTES);
        Ok(Some(frame.freeze()))
    }

    /// Nothing waits and little came of late: a large window is not worth keeping.
    fn let_go(&mut self) {
        if self.bytes.is_empty() && self.bytes.capacity() > 2 * self.window {
            self.bytes = BytesMut::new();
        }
    }

    /// True if the frame that is arriving is above [`SMALL_FRAME_BYTES`].
    pub fn is_big(&self) -> bool {
        self.announced().is_some_and(|size| size > SMALL_FRAME_BYTES as i32)
    }

    /// How many bytes the next read may take: the rest of a big frame but not all at once, or a window.
    pub fn growth(&self) -> usize {
        let size = usize::try_from(self.announced().unwrap_or(0)).unwrap_or(0);
        let missing = (SIZE_BYTES + size).saturating_sub(self.bytes.len());
        if size > WINDOW_BYTES_MAX { missing.min(GROWTH_BYTES_MAX) } else { self.window.max(missing) }
    }

    /// Room to read up to `growth` more bytes into.
    pub fn room(&mut self, growth: usize) -> Limit<&mut BytesMut> {
        // Half a window is room enough; asking for all of it would move the bytes on every read.
        let spare = self.bytes.capacity() - self.bytes.len();
        if spare < growth.min(self.window / 2) {
            self.bytes.reserve(growth);
        }
        (&mut self.bytes).limit(growth)
    }

    /// Adapts the window to a read that could have taken `growth` bytes and took `count`.
    pub fn arrived(&mut self, count: usize, growth: usize) {
        if count >= growth.min(self.window) {
            self.window = (self.window * 2).min(WINDOW_BYTES_MAX);
        } else if count < self.window / 4 {
            self.window = (self.window / 2).max(SMALL_FRAME_BYTES);
        }
    }

    fn announced(&self) -> Option<i32> {
        self.bytes.first_chunk::<SIZE_BYTES>().map(|prefix| i32::from_be_bytes(*prefix))
    }

    /// Bytes that are waiting.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 100 << 20;

    /// Feeds `bytes` in pieces of at most `piece`; returns the frames and the most memory held.
    fn feed(buffer: &mut FrameBuffer, bytes: &[u8], piece: usize) -> Result<(Vec<Bytes>, usize), FrameRefused> {
        let (mut frames, mut memory, mut rest) = (Vec::new(), 0, bytes);
        while !rest.is_empty() {
            let growth = buffer.growth();
            let count = rest.len().min(piece).min(growth);
            buffer.room(growth).put_slice(&rest[..count]);
            buffer.arrived(count, growth);
            memory = memory.max(buffer.bytes.capacity());
            rest = &rest[count..];
            while let Some(frame) = buffer.take(LIMIT)? {
                frames.push(frame);
            }
        }
        Ok((frames, memory))
    }

    fn framed(body: &[u8]) -> Vec<u8> {
        [&(body.len() as i32).to_be_bytes()[..], body].concat()
    }

    #[test]
    fn frames_come_out_whole_whatever_the_pieces() {
        let bodies: Vec<Vec<u8>> = [0, 1, 5000, SMALL_FRAME_BYTES, SMALL_FRAME_BYTES + 1, 3 << 20, 10]
            .iter()
            .map(|&size| (0..size).map(|i| (i % 251) as u8).collect())
            .collect();
        let stream: Vec<u8> = bodies.iter().flat_map(|body| framed(body)).collect();
        for piece in [1000, 1 << 14, usize::MAX] {
            let mut buffer = FrameBuffer::new();
            let (frames, _) = feed(&mut buffer, &stream, piece).unwrap();
            assert!(frames.iter().map(|frame| &frame[..]).eq(bodies.iter().map(|body| &body[..])));
            assert!(buffer.is_empty());
            assert!(buffer.bytes.capacity() <= 2 * WINDOW_BYTES_MAX, "a big frame took its memory along");
            for _ in 0..10 {
                feed(&mut buffer, &framed(&[1; 100]), usize::MAX).unwrap();
            }
            assert!(buffer.bytes.capacity() <= 2 * SMALL_FRAME_BYTES, "a quiet connection holds a small window");
        }
    }

    #[test]
    fn sizes_beyond_the_limit_are_refused_at_once() {
        for size in [-1, i32::MIN, i32::MAX, LIMIT as i32 + 1] {
            let mut buffer = FrameBuffer::new();
            let refused = feed(&mut buffer, &size.to_be_bytes(), 4);
            assert_eq!(refused.err(), Some(FrameRefused { size }));
        }
    }

    #[test]
    fn memory_follows_the_bytes_and_not_the_announcement() {
        let mut buffer = FrameBuffer::new();
        let announced = [&(LIMIT as i32).to_be_bytes()[..], &[0; 100]].concat();
        let (frames, memory) = feed(&mut buffer, &announced, usize::MAX).unwrap();
        assert!(frames.is_empty());
        assert!(memory <= 2 * SMALL_FRAME_BYTES, "{memory}");
        assert!(buffer.is_big());
        buffer.room(buffer.growth());
        assert!(buffer.bytes.capacity() <= 2 * GROWTH_BYTES_MAX, "{}", buffer.bytes.capacity());
    }
}
