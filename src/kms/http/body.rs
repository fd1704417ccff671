use zeroize::Zeroizing;

use super::error::{HttpError, HttpErrorKind};

const FIRST_CAPACITY: usize = 8 * 1024;

/// An answer's body while it arrives: bounded, and never left behind in a block that was outgrown.
pub(super) struct BodyBuffer {
    bytes: Zeroizing<Vec<u8>>,
    limit: usize,
}

impl BodyBuffer {
    /// A buffer for at most `limit` bytes, of which the sender has announced `announced`.
    pub(super) fn new(announced: Option<u64>, limit: usize) -> Result<Self, HttpError> {
        let capacity = match announced.map(usize::try_from) {
            None => FIRST_CAPACITY.min(limit),
            Some(Ok(length)) if length <= limit => length,
            Some(_) => return Err(too_large(limit)),
        };
        Ok(Self {
            bytes: Zeroizing::new(Vec::with_capacity(capacity)),
            limit,
        })
    }

    pub(super) fn push(&mut self, chunk: &[u8]) -> Result<(), HttpError> {
        let length = self.bytes.len().saturating_add(chunk.len());
        if length > self.limit {
            return Err(too_large(self.limit));
        }
        if length > self.bytes.capacity() {
            self.resize(length.max(2 * self.bytes.capacity()).min(self.limit));
        }
        self.bytes.extend_from_slice(chunk);
        Ok(())
    }

    /// The body in a block of exactly its size.
    pub(super) fn finish(mut self) -> Zeroizing<Vec<u8>> {
        if self.bytes.capacity() > self.bytes.len() {
            self.resize(self.bytes.len());
        }
        self.bytes
    }

    /// Moves to a block of `capacity` bytes and wipes the old one, which growing in place would not do.
    fn resize(&mut self, capacity: usize) {
        let mut bytes = Zeroizing::new(Vec::with_capacity(capacity));
        bytes.extend_from_slice(&self.bytes);
        self.bytes = bytes;
    }
}

fn too_large(limit: usize) -> HttpError {
    HttpError::new(HttpErrorKind::TooLarge, format!("more than {limit} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announced_body_over_the_limit_is_refused_before_it_is_read() {
        let refused = BodyBuffer::new(Some(11), 10)
            .err()
            .map(|error| error.kind());
        assert_eq!(refused, Some(HttpErrorKind::TooLarge));
        assert!(BodyBuffer::new(Some(u64::MAX), 10).is_err());
    }

    #[test]
    fn an_unannounced_body_over_the_limit_is_refused_at_the_chunk_that_passes_it() {
        let mut body = BodyBuffer::new(None, 10).expect("a buffer");
        body.push(b"12345").expect("within the limit");
        body.push(b"67890").expect("at the limit");
        assert!(body.push(b"1").is_err());
    }

    #[test]
    fn a_body_is_whole_and_exactly_sized_however_it_arrives() {
        let sent: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        for announced in [None, Some(sent.len() as u64), Some(5)] {
            let mut body = BodyBuffer::new(announced, 1024 * 1024).expect("a buffer");
            for chunk in sent.chunks(7_001) {
                body.push(chunk).expect("within the limit");
            }
            let body = body.finish();
            assert_eq!(*body, sent);
            assert_eq!(body.capacity(), sent.len());
        }
    }
}
