//! The only place that reads files.

use std::io::{self, Read};
use std::path::PathBuf;

use zeroize::Zeroizing;

/// Reads a whole file of at most `limit` bytes, off the runtime's threads, into a block that is wiped.
pub(crate) async fn read(path: PathBuf, limit: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    tokio::task::spawn_blocking(move || read_now(path, limit))
        .await
        .map_err(io::Error::other)?
}

/// Whether there is something at `path` that this process can see.
pub(crate) async fn exists(path: PathBuf) -> bool {
    // The only failure is the end of the runtime.
    tokio::task::spawn_blocking(move || path.metadata().is_ok())
        .await
        .unwrap_or(false)
}

/// The same at once, for when there is no runtime yet.
#[expect(clippy::disallowed_methods, reason = "the one place that opens files")]
pub(crate) fn read_now(path: PathBuf, limit: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = std::fs::File::open(path)?;
    // Room for all that may come, so that the block is never outgrown.
    let mut bytes = Zeroizing::new(Vec::with_capacity(limit + 1));
    let wanted = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    file.take(wanted).read_to_end(&mut bytes)?;
    if bytes.len() > limit {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("is larger than {limit} bytes"),
        ));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[tokio::test]
    async fn a_file_is_read_up_to_its_limit_and_not_beyond() {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(b"12345").expect("written");
        let path = file.path().to_owned();
        assert!(exists(path.clone()).await && !exists("/no/such/file".into()).await);
        assert_eq!(*read(path.clone(), 5).await.expect("read"), b"12345");
        assert_eq!(
            read(path, 4).await.map_err(|error| error.kind()),
            Err(io::ErrorKind::InvalidData)
        );
        assert_eq!(
            read("/no/such/file".into(), 4)
                .await
                .map_err(|error| error.kind()),
            Err(io::ErrorKind::NotFound)
        );
    }
}
