//! Header maps as the ABI writes them: the count, the sizes, then names and values, each with a zero behind it.

use crate::hostcalls::Pairs;

pub(crate) fn encode(pairs: &Pairs) -> Vec<u8> {
    let number = |size: usize| u32::try_from(size).unwrap_or(u32::MAX).to_le_bytes();
    let size: usize = pairs
        .iter()
        .map(|(name, value)| name.len() + value.len() + 10)
        .sum();
    let mut out = Vec::with_capacity(4 + size);
    out.extend(number(pairs.len()));
    for (name, value) in pairs {
        out.extend(number(name.len()));
        out.extend(number(value.len()));
    }
    for (name, value) in pairs {
        for text in [name, value] {
            out.extend_from_slice(text);
            out.push(0);
        }
    }
    out
}

/// What does not decode is an empty map, as for the host.
pub(crate) fn decode(bytes: &[u8]) -> Pairs {
    parse(bytes).unwrap_or_default()
}

fn parse(bytes: &[u8]) -> Option<Pairs> {
    let (count, mut rest) = number(bytes)?;
    let mut sizes = Vec::new();
    for _ in 0..count {
        let (name, after) = number(rest)?;
        let (value, after) = number(after)?;
        sizes.push((name, value));
        rest = after;
    }
    let mut pairs = Pairs::with_capacity(sizes.len());
    for (name, value) in sizes {
        let (name, after) = rest.split_at_checked(name)?;
        let (value, after) = after.get(1..)?.split_at_checked(value)?;
        pairs.push((name.to_vec(), value.to_vec()));
        rest = after.get(1..)?;
    }
    Some(pairs)
}

fn number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<4>()?;
    Some((usize::try_from(u32::from_le_bytes(*number)).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_decodes() {
        for pairs in [
            vec![],
            vec![(b"a".to_vec(), b"1".to_vec())],
            vec![
                (b"a".to_vec(), Vec::new()),
                (b"b\xff".to_vec(), b"\0\0".to_vec()),
            ],
        ] {
            assert_eq!(decode(&encode(&pairs)), pairs);
        }
    }

    #[test]
    fn what_breaks_off_is_empty() {
        let whole = encode(&vec![(b"name".to_vec(), b"value".to_vec())]);
        for size in 0..whole.len() {
            assert!(decode(&whole[..size]).is_empty(), "{size}");
        }
        assert!(decode(&[0xff; 16]).is_empty());
    }
}
