//! Serialised maps: `u32 n; n × (u32 key length, u32 value length); n × (key, 0, value, 0)`, little-endian.
//!
//! What a guest sends is read strictly: a blob that does not decode to its last byte is an empty map, as in Envoy.

/// Largest blob that is read.
const MAX_BYTES: usize = 1 << 20;
/// Most pairs that are read.
const MAX_PAIRS: usize = 1024;

/// One key and its value, borrowed from the blob.
pub(crate) type Pair<'a> = (&'a [u8], &'a [u8]);

/// Bytes that `pairs` take when encoded.
pub(crate) fn encoded_len<'a>(pairs: impl Iterator<Item = Pair<'a>>) -> usize {
    pairs.fold(4, |sum, (key, value)| {
        sum + 8 + key.len() + 1 + value.len() + 1
    })
}

/// Writes `count` pairs into `out`, which must be exactly [`encoded_len`] long.
pub(crate) fn encode<'a>(pairs: impl Iterator<Item = Pair<'a>>, count: usize, out: &mut [u8]) {
    let table = 4 + 8 * count;
    if out.len() < table {
        return;
    }
    put_u32(out, 0, count);
    let mut at = table;
    for (index, (key, value)) in pairs.take(count).enumerate() {
        put_u32(out, 4 + 8 * index, key.len());
        put_u32(out, 8 + 8 * index, value.len());
        for part in [key, value] {
            let Some(target) = out.get_mut(at..at + part.len() + 1) else {
                return;
            };
            target[..part.len()].copy_from_slice(part);
            target[part.len()] = 0;
            at += part.len() + 1;
        }
    }
}

/// The pairs of a blob, or none if it is malformed, too large, or has too many.
pub(crate) fn decode(blob: &[u8]) -> Vec<Pair<'_>> {
    try_decode(blob).unwrap_or_default()
}

fn try_decode(blob: &[u8]) -> Option<Vec<Pair<'_>>> {
    if blob.len() > MAX_BYTES {
        return None;
    }
    let count = get_u32(blob, 0)?;
    if count > MAX_PAIRS {
        return None;
    }
    let mut rest = blob.get(4 + 8 * count..)?;
    let mut pairs = Vec::with_capacity(count);
    for index in 0..count {
        let key = take(&mut rest, get_u32(blob, 4 + 8 * index)?)?;
        let value = take(&mut rest, get_u32(blob, 8 + 8 * index)?)?;
        pairs.push((key, value));
    }
    rest.is_empty().then_some(pairs)
}

/// The next `len` bytes, which a NUL must follow.
fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (part, tail) = rest.split_at_checked(len)?;
    let (nul, tail) = tail.split_first()?;
    *rest = tail;
    (*nul == 0).then_some(part)
}

fn get_u32(bytes: &[u8], at: usize) -> Option<usize> {
    let four: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    usize::try_from(u32::from_le_bytes(four)).ok()
}

fn put_u32(out: &mut [u8], at: usize, value: usize) {
    let value = u32::try_from(value).unwrap_or(u32::MAX);
    out[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(pairs: &[Pair<'_>]) -> Vec<u8> {
        let mut out = vec![0xff; encoded_len(pairs.iter().copied())];
        encode(pairs.iter().copied(), pairs.len(), &mut out);
        out
    }

    #[test]
    fn the_layout_of_the_specification() {
        let blob = encoded(&[(b"a", b"bc"), (b"d", b"")]);
        let expected = b"\x02\0\0\0\x01\0\0\0\x02\0\0\0\x01\0\0\0\0\0\0\0a\0bc\0d\0\0";
        assert_eq!(blob, expected);
        assert_eq!(encoded(&[]), [0, 0, 0, 0]);
    }

    #[test]
    fn malformed_blobs_are_empty() {
        let good = encoded(&[(b"a", b"b")]);
        assert_eq!(decode(&good).len(), 1);
        let mut trailing = good.clone();
        trailing.push(0);
        let mut no_nul = good.clone();
        no_nul[13] = 7;
        let mut long_key = good.clone();
        long_key[4] = 200;
        let mut count = good.clone();
        count[0] = 2;
        let huge_count = [0xff_u8; 16];
        for blob in [
            &trailing[..],
            &no_nul,
            &long_key,
            &count,
            &huge_count,
            &good[..good.len() - 1],
            &[],
            &[1, 0],
        ] {
            assert!(decode(blob).is_empty(), "{blob:?}");
        }
    }

    #[test]
    fn limits_on_input() {
        let many: Vec<Pair<'_>> = vec![(b"k", b"v"); MAX_PAIRS];
        assert_eq!(decode(&encoded(&many)).len(), MAX_PAIRS);
        let more: Vec<Pair<'_>> = vec![(b"k", b"v"); MAX_PAIRS + 1];
        assert!(decode(&encoded(&more)).is_empty());
        let value = vec![b'x'; MAX_BYTES];
        assert!(decode(&encoded(&[(b"k", &value)])).is_empty());
    }

    proptest! {
        #[test]
        fn decode_inverts_encode(pairs in proptest::collection::vec((any::<Vec<u8>>(), any::<Vec<u8>>()), 0..40)) {
            let borrowed: Vec<Pair<'_>> = pairs.iter().map(|(k, v)| (&k[..], &v[..])).collect();
            let blob = encoded(&borrowed);
            prop_assert_eq!(decode(&blob), borrowed);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), count in 0_u32..4) {
            decode(&bytes);
            let mut bytes = bytes;
            if bytes.len() >= 4 {
                bytes[..4].copy_from_slice(&count.to_le_bytes());
            }
            let pairs = decode(&bytes);
            let again = encoded(&pairs);
            prop_assert!(pairs.is_empty() || again == bytes);
        }

        #[test]
        fn encoding_into_a_wrong_length_never_panics(len in 0_usize..64) {
            let mut out = vec![0; len];
            encode([(&b"key"[..], &b"value"[..]); 2].into_iter(), 2, &mut out);
        }
    }
}
