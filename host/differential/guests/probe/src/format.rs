//! How values look in the log.

use crate::pairs;

/// Longest value that is shown whole.
const WHOLE: usize = 300;

/// Text in quotes where it is printable, else hexadecimal; long ones are cut, with their length.
pub(crate) fn bytes(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(WHOLE)];
    let text = match std::str::from_utf8(shown) {
        Ok(text) if !text.chars().any(|c| c.is_control() && c != '\n') => format!("{text:?}"),
        _ => shown
            .iter()
            .fold(String::from("x:"), |text, byte| format!("{text}{byte:02x}")),
    };
    if shown.len() < bytes.len() {
        format!("{text}… ({} bytes)", bytes.len())
    } else {
        text
    }
}

/// A serialised map, sorted by name; equal names stay in their order.
pub(crate) fn map(wire: &[u8]) -> String {
    if wire.is_empty() {
        return "(nothing)".into();
    }
    let Some(mut entries) = pairs::decode(wire) else {
        return format!("(not a map) {}", bytes(wire));
    };
    entries.sort_by_key(|(name, _)| *name);
    let entries: Vec<String> = entries
        .iter()
        .map(|(name, value)| format!("{}: {}", String::from_utf8_lossy(name), bytes(value)))
        .collect();
    format!("[{}]", entries.join(", "))
}

/// A status by its name.
pub(crate) fn status(status: u32) -> String {
    let name = match status {
        0 => "Ok",
        1 => "NotFound",
        2 => "BadArgument",
        3 => "SerializationFailure",
        4 => "ParseFailure",
        5 => "BadExpression",
        6 => "InvalidMemoryAccess",
        7 => "Empty",
        8 => "CasMismatch",
        9 => "ResultMismatch",
        10 => "InternalFailure",
        11 => "BrokenConnection",
        12 => "Unimplemented",
        other => return other.to_string(),
    };
    name.into()
}
