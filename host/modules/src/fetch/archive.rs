//! `plugin.wasm` out of an archive that somebody else made: nothing is believed, everything is counted as it is read.

use std::io::Read;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;

use super::manifest::Packing;
use crate::source::MOST_BYTES;

/// The one file that counts.
const PLUGIN: &str = "plugin.wasm";
/// Bytes of an archive that are looked at, decompressed.
const MOST_ARCHIVE: u64 = 256 << 20;
const MOST_ENTRIES: usize = 10_000;

/// Why there is no module in an archive.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ArchiveError {
    #[error("plugin.wasm in it is larger than {} MiB, which is the most that a module may have", MOST_BYTES >> 20)]
    TooLarge,
    #[error("its archive is larger than {} MiB, or has more than {MOST_ENTRIES} files", MOST_ARCHIVE >> 20)]
    TooMuch,
    #[error("its archive has no file plugin.wasm")]
    Absent,
    #[error("its archive is damaged: {0}")]
    Damaged(String),
}

/// The module of a layer. Blocks.
pub(super) fn unpack(layer: Bytes, packing: Packing) -> Result<Bytes, ArchiveError> {
    match packing {
        Packing::Bare => Ok(layer),
        Packing::Tar => find(Counted::new(&layer[..])),
        Packing::TarGzip => find(Counted::new(MultiGzDecoder::new(&layer[..]))),
    }
}

fn find(reader: Counted<impl Read>) -> Result<Bytes, ArchiveError> {
    let mut archive = tar::Archive::new(reader);
    let entries = archive.entries().map_err(damaged)?;
    for (count, entry) in entries.enumerate() {
        if count >= MOST_ENTRIES {
            return Err(ArchiveError::TooMuch);
        }
        let entry = entry.map_err(damaged)?;
        // Links and devices are nothing to follow, and a sparse file could be all zeros of any length.
        let plain = matches!(
            entry.header().entry_type(),
            tar::EntryType::Regular | tar::EntryType::Continuous
        );
        let named = entry
            .path()
            .is_ok_and(|path| path.file_name() == Some(PLUGIN.as_ref()));
        if !plain || !named {
            continue;
        }
        // The size in its header is only what somebody wrote there.
        let announced = entry.size();
        let mut bytes = Vec::new();
        entry
            .take(MOST_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(damaged)?;
        return match bytes.len() as u64 {
            length if length > MOST_BYTES => Err(ArchiveError::TooLarge),
            length if length < announced => Err(ArchiveError::Damaged("it ends early".to_owned())),
            _ => Ok(bytes.into()),
        };
    }
    Err(ArchiveError::Absent)
}

/// What is behind [`damaged`] when more was read than is looked at.
const TOO_MUCH: &str = "more than is looked at";

#[allow(
    clippy::needless_pass_by_value,
    reason = "the shape that map_err wants"
)]
fn damaged(error: std::io::Error) -> ArchiveError {
    // tar puts its own words around it.
    let text = error.to_string();
    if text.contains(TOO_MUCH)
        || error
            .get_ref()
            .is_some_and(|inner| inner.to_string().contains(TOO_MUCH))
    {
        ArchiveError::TooMuch
    } else {
        ArchiveError::Damaged(text)
    }
}

/// Fails once more than [`MOST_ARCHIVE`] bytes went through.
struct Counted<R> {
    reader: R,
    left: u64,
}

impl<R> Counted<R> {
    fn new(reader: R) -> Self {
        Self {
            reader,
            left: MOST_ARCHIVE,
        }
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.left = self
            .left
            .checked_sub(read as u64)
            .ok_or_else(|| std::io::Error::other(TOO_MUCH))?;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    /// A header and content; `announced` may lie.
    fn entry(name: &str, content: &[u8], announced: u64, kind: tar::EntryType) -> Vec<u8> {
        let mut header = tar::Header::new_ustar();
        header.set_path(name).expect("a short name");
        header.set_size(announced);
        header.set_entry_type(kind);
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }

    fn file(name: &str, content: &[u8]) -> Vec<u8> {
        entry(name, content, content.len() as u64, tar::EntryType::Regular)
    }

    fn gzip(bytes: &[u8]) -> Bytes {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).expect("memory");
        encoder.finish().expect("memory").into()
    }

    #[test]
    fn the_plugin_is_found_among_others() {
        let archive = [
            file("runtime-config.json", b"{}"),
            entry("plugin.wasm", b"", 0, tar::EntryType::Symlink),
            file("./plugin.wasm", b"\0asm"),
            vec![0; 1024],
        ]
        .concat();
        let found = unpack(gzip(&archive), Packing::TarGzip);
        assert_eq!(found.as_deref(), Ok(&b"\0asm"[..]));
        assert_eq!(
            unpack(archive.into(), Packing::Tar).as_deref(),
            Ok(&b"\0asm"[..])
        );
    }

    #[test]
    fn an_archive_without_it_or_cut_short_is_refused() {
        let without = gzip(&file("other.wasm", b"\0asm"));
        assert_eq!(unpack(without, Packing::TarGzip), Err(ArchiveError::Absent));
        let whole = gzip(&file("plugin.wasm", &[7; 100_000]));
        let cut = whole.slice(..whole.len() / 2);
        assert!(matches!(
            unpack(cut, Packing::TarGzip),
            Err(ArchiveError::Damaged(_))
        ));
        let text = Bytes::from_static(b"no archive");
        assert!(matches!(
            unpack(text, Packing::TarGzip),
            Err(ArchiveError::Damaged(_))
        ));
    }

    #[test]
    fn what_a_header_announces_is_neither_believed_nor_allocated() {
        let lie = entry("plugin.wasm", b"\0asm", 1 << 32, tar::EntryType::Regular);
        assert!(matches!(
            unpack(lie.into(), Packing::Tar),
            Err(ArchiveError::Damaged(_))
        ));
        let lie = entry("other", b"", 1 << 32, tar::EntryType::Regular);
        assert!(unpack(lie.into(), Packing::Tar).is_err());
    }

    #[test]
    fn bombs_end_at_the_limit() {
        let zeros = vec![0; usize::try_from(MOST_BYTES).expect("fits") + 1];
        let bomb = gzip(&file("plugin.wasm", &zeros));
        assert!(bomb.len() < 1 << 20, "{} bytes", bomb.len());
        assert_eq!(unpack(bomb, Packing::TarGzip), Err(ArchiveError::TooLarge));
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder
            .write_all(&entry(
                "other",
                b"",
                MOST_ARCHIVE * 2,
                tar::EntryType::Regular,
            ))
            .expect("memory");
        for _ in 0..=(MOST_ARCHIVE / zeros.len() as u64) {
            encoder.write_all(&zeros).expect("memory");
        }
        let bomb = encoder.finish().expect("memory");
        assert_eq!(
            unpack(bomb.into(), Packing::TarGzip),
            Err(ArchiveError::TooMuch)
        );
    }
}
