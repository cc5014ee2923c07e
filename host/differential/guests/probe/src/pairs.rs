//! Serialised maps.

/// The wire form: count, lengths of each entry, then names and values, each ended by a zero.
pub(crate) fn encode(entries: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut out = (entries.len() as u32).to_le_bytes().to_vec();
    for (name, value) in entries {
        out.extend((name.len() as u32).to_le_bytes());
        out.extend((value.len() as u32).to_le_bytes());
    }
    for part in entries.iter().flat_map(|(name, value)| [name, value]) {
        out.extend(part);
        out.push(0);
    }
    out
}

/// Reads it; `None` if it is not one.
pub(crate) fn decode(bytes: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let number = |at: usize| {
        let bytes = bytes.get(at..at + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?) as usize)
    };
    let count = number(0)?;
    let mut at = 4 + count.checked_mul(8)?;
    let mut entries = Vec::new();
    for index in 0..count {
        let (name, value) = (number(4 + index * 8)?, number(8 + index * 8)?);
        let ends = (at + name, at + name + 1 + value);
        entries.push((bytes.get(at..ends.0)?, bytes.get(ends.0 + 1..ends.1)?));
        at = ends.1 + 1;
    }
    (at == bytes.len()).then_some(entries)
}
