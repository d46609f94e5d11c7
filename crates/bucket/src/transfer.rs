//! Big objects: streamed both ways, hashed on the way, cancellable.

use std::fmt;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{BoxStream, FuturesUnordered};
use object_store::{MultipartUpload, ObjectStoreExt, PutPayload};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::watch;

use crate::http::observed;
use crate::{Bucket, BucketError};

/// Parts of one upload on their way at a time; each holds a part's bytes in memory.
const PARTS_IN_FLIGHT: usize = 3;
/// Parts per upload at most, below the 10,000 of S3 so that rounding can never reach it.
const PARTS_MAX: u64 = 9_000;

/// Longest wait for parts on their way before an upload is aborted.
const ABORT_GRACE: Duration = Duration::from_secs(5);

/// Ends the operations that hold its [`Cancel`]s. Dropping it without [`Canceller::cancel`] cancels nothing.
#[derive(Debug)]
pub struct Canceller(watch::Sender<bool>);

/// Tells an operation that it should end.
#[derive(Debug, Clone)]
pub struct Cancel(watch::Receiver<bool>);

/// A connected pair.
#[must_use]
pub fn cancel_pair() -> (Canceller, Cancel) {
    let (sender, receiver) = watch::channel(false);
    (Canceller(sender), Cancel(receiver))
}

impl Canceller {
    /// Ends the operations; idempotent.
    pub fn cancel(&self) {
        self.0.send_replace(true);
    }
}

impl Cancel {
    /// True once cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        *self.0.borrow()
    }

    /// Resolves when cancelled, never otherwise.
    pub async fn cancelled(&self) {
        let mut receiver = self.0.clone();
        if receiver.wait_for(|cancelled| *cancelled).await.is_err() {
            futures::future::pending::<()>().await;
        }
    }
}

/// What was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uploaded {
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256 of the bytes, lower-case hex.
    pub sha256: String,
}

/// Bytes that come from a bucket, in order.
pub struct Download<'bucket> {
    bucket: &'bucket Bucket,
    path: String,
    stream: BoxStream<'static, object_store::Result<Bytes>>,
    bytes: u64,
    received: u64,
}

impl fmt::Debug for Download<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Download")
            .field("path", &self.path)
            .field("bytes", &self.bytes)
            .field("received", &self.received)
            .finish_non_exhaustive()
    }
}

impl Download<'_> {
    /// Size of the whole object.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The next bytes; `None` exactly once, after all of them.
    /// # Errors
    /// [`BucketError::Unavailable`] when the object store stops before the end: the end is never taken for granted.
    pub async fn next_chunk(&mut self) -> Result<Option<Bytes>, BucketError> {
        let (next, failure) = observed(self.stream.next()).await;
        match next {
            Some(Ok(chunk)) => {
                self.received += chunk.len() as u64;
                Ok(Some(chunk))
            }
            Some(Err(error)) => Err(self.bucket.classify("read", &self.path, &error, failure)),
            None if self.received == self.bytes => Ok(None),
            None => Err(self.bucket.unavailable(
                "read",
                &self.path,
                format!("the answer ended after {} of {} bytes", self.received, self.bytes),
            )),
        }
    }
}

impl Bucket {
    /// Sends `bytes` bytes from `reader` to `path`, in parts when there are many, and returns what was sent.
    ///
    /// `progress` is told the total of bytes that have arrived whenever it changes. On an error or when `cancel` is
    /// set, a started multipart upload is aborted before this returns.
    /// # Errors
    /// [`BucketError::ReadSource`] when `reader` fails, ends early or has more; [`BucketError::Cancelled`]; classes of
    /// access and availability.
    pub async fn put_file(
        &self,
        path: &str,
        reader: impl AsyncRead + Unpin + Send,
        bytes: u64,
        progress: &(dyn Fn(u64) + Send + Sync),
        cancel: &Cancel,
    ) -> Result<Uploaded, BucketError> {
        let mut parts = Parts::new(reader, bytes, part_len(self.limits.part_bytes, bytes));
        let read_error = |source| BucketError::ReadSource { object: self.location.key(path), source };
        if bytes <= parts.part_len {
            let whole = parts.next().await.map_err(read_error)?.unwrap_or_default();
            if parts.next().await.map_err(read_error)?.is_some() {
                unreachable!("a part holds all bytes that were announced")
            }
            let object = self.object_path(path)?;
            let put = self.store.put(&object, PutPayload::from_bytes(whole));
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Err(self.cancelled(path)),
                sent = self.run("send", path, self.limits.part, put) => sent?,
            };
            progress(bytes);
            return Ok(parts.finish());
        }

        let object = self.object_path(path)?;
        let start = self.store.put_multipart(&object);
        let mut upload = self.run("send", path, self.limits.operation, start).await?;
        let sent = self.send_parts(upload.as_mut(), path, &mut parts, progress, cancel).await;
        let completed = match sent {
            Ok(()) => self.run("send", path, self.limits.part, upload.complete()).await.map(|_| ()),
            Err(error) => Err(error),
        };
        if let Err(error) = completed {
            if let Err(left) = self.run("abort", path, self.limits.operation, upload.abort()).await {
                tracing::warn!(error = %left, "parts of an incomplete upload may be left in the bucket");
            }
            return Err(error);
        }
        Ok(parts.finish())
    }

    async fn send_parts<R: AsyncRead + Unpin + Send>(
        &self,
        upload: &mut dyn MultipartUpload,
        path: &str,
        parts: &mut Parts<R>,
        progress: &(dyn Fn(u64) + Send + Sync),
        cancel: &Cancel,
    ) -> Result<(), BucketError> {
        let mut in_flight = FuturesUnordered::new();
        let mut arrived = 0;
        let mut more = true;
        let result = loop {
            if more && in_flight.len() < PARTS_IN_FLIGHT {
                match parts.next().await {
                    Ok(Some(part)) => {
                        let part_len = part.len() as u64;
                        let sending = upload.put_part(PutPayload::from_bytes(part));
                        in_flight.push(async move {
                            self.run("send", path, self.limits.part, sending).await.map(|()| part_len)
                        });
                    }
                    Ok(None) => more = false,
                    Err(source) => {
                        break Err(BucketError::ReadSource { object: self.location.key(path), source });
                    }
                }
                continue;
            }
            tokio::select! {
                biased;
                () = cancel.cancelled() => break Err(self.cancelled(path)),
                arrival = in_flight.next() => match arrival {
                    None => break Ok(()),
                    Some(Ok(part_len)) => {
                        arrived += part_len;
                        progress(arrived);
                    }
                    Some(Err(error)) => break Err(error),
                }
            }
        };
        if result.is_err() {
            // A part that arrives after the abort stays in the bucket, unseen and paid for.
            let drained = tokio::time::timeout(ABORT_GRACE, in_flight.for_each(|_| std::future::ready(())));
            let _ = drained.await;
        }
        result
    }

    /// Starts to read the object at `path`.
    /// # Errors
    /// [`BucketError::ObjectNotFound`], classes of access and availability.
    pub async fn get_stream(&self, path: &str) -> Result<Download<'_>, BucketError> {
        let object = self.object_path(path)?;
        let found = self.run("read", path, self.limits.operation, self.store.get(&object)).await?;
        let bytes = found.meta.size;
        Ok(Download { bucket: self, path: path.to_owned(), stream: found.into_stream(), bytes, received: 0 })
    }

    fn cancelled(&self, path: &str) -> BucketError {
        BucketError::Cancelled { object: self.location.key(path) }
    }
}

/// Cuts a reader into parts and hashes them on the way.
struct Parts<R> {
    reader: R,
    bytes: u64,
    left: u64,
    part_len: u64,
    hash: Sha256,
}

impl<R: AsyncRead + Unpin> Parts<R> {
    fn new(reader: R, bytes: u64, part_len: u64) -> Self {
        Self { reader, bytes, left: bytes, part_len, hash: Sha256::new() }
    }

    /// The next part, whole; `None` after the last. An empty source has no part.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if self.left == 0 {
            let mut beyond = [0; 1];
            if self.reader.read(&mut beyond).await? > 0 {
                return Err(io::Error::other(format!("it has more than the {} bytes announced", self.bytes)));
            }
            return Ok(None);
        }
        let len = self.left.min(self.part_len);
        let mut part = vec![0; usize::try_from(len).map_err(io::Error::other)?];
        self.reader.read_exact(&mut part).await?;
        self.hash.update(&part);
        self.left -= len;
        Ok(Some(Bytes::from(part)))
    }

    fn finish(self) -> Uploaded {
        Uploaded { bytes: self.bytes, sha256: hex(&self.hash.finalize()) }
    }
}

fn part_len(wanted: usize, bytes: u64) -> u64 {
    (wanted as u64).max(bytes.div_ceil(PARTS_MAX))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes every write");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_parts_stays_below_what_s3_allows() {
        for bytes in [0, 1, 8 << 20, 100 << 30, 5 << 40] {
            let len = part_len(8 << 20, bytes);
            assert!(len >= 8 << 20);
            assert!(bytes.div_ceil(len) <= PARTS_MAX, "{bytes} bytes");
        }
    }

    #[tokio::test]
    async fn a_source_of_another_size_than_announced_is_an_error() {
        let read_all = |source: &'static [u8], bytes| async move {
            let mut parts = Parts::new(source, bytes, 4);
            let mut count = 0;
            while let Some(part) = parts.next().await? {
                count += part.len();
            }
            io::Result::Ok((count, parts.finish().sha256))
        };
        let (count, sha256) = read_all(b"abc", 3).await.unwrap();
        assert_eq!(count, 3);
        assert_eq!(sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(read_all(b"", 0).await.unwrap().0, 0);
        assert_eq!(read_all(b"abcdef", 8).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert!(read_all(b"abcdef", 5).await.is_err());
        assert!(read_all(b"abcdefgh", 4).await.is_err());
    }
}
