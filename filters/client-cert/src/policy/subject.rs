//! Distinguished names as text (RFC 2253, RFC 4514).

/// The first common name of a subject such as `CN=client,OU=a\,b,O=c`.
pub(super) fn common_name(subject: &str) -> Option<String> {
    let mut rest = subject;
    loop {
        let (attribute, after) = split(rest);
        // A value may be one of several of the same relative name, joined by a plus.
        for pair in split_plus(attribute) {
            if let Some((name, value)) = pair.split_once('=')
                && name.trim().eq_ignore_ascii_case("cn")
            {
                return Some(unescape(value.trim()));
            }
        }
        rest = after?;
    }
}

/// The first attribute and what follows its comma.
fn split(text: &str) -> (&str, Option<&str>) {
    match unescaped(text, b",;") {
        Some(index) => (&text[..index], Some(&text[index + 1..])),
        None => (text, None),
    }
}

fn split_plus(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(index) = unescaped(rest, b"+") {
        parts.push(&rest[..index]);
        rest = &rest[index + 1..];
    }
    parts.push(rest);
    parts
}

/// The first of these bytes that stands neither behind a backslash nor in quotes.
fn unescaped(text: &str, wanted: &[u8]) -> Option<usize> {
    let (mut escaped, mut quoted) = (false, false);
    text.bytes().position(|byte| {
        let found = !escaped && !quoted && wanted.contains(&byte);
        quoted ^= byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        found
    })
}

/// Without quotes and backslashes; `\C3\A9` is a byte for each pair.
fn unescape(value: &str) -> String {
    let value = value
        .strip_prefix('"')
        .and_then(|value| value.strip_suffix('"'))
        .unwrap_or(value);
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        match (first, after) {
            (b'\\', [high, low, tail @ ..]) if digit(*high).is_some() && digit(*low).is_some() => {
                out.extend(
                    digit(*high)
                        .zip(digit(*low))
                        .map(|(high, low)| high << 4 | low),
                );
                rest = tail;
            }
            (b'\\', [escaped, tail @ ..]) => {
                out.push(*escaped);
                rest = tail;
            }
            (byte, _) => out.push(*byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_names() {
        for (subject, expected) in [
            ("CN=client,O=a", Some("client")),
            ("O=a, cn = client ,C=b", Some("client")),
            ("O=a\\,CN=evil,CN=good", Some("good")),
            ("O=\"a,CN=evil\",CN=good", Some("good")),
            ("OU=x+CN=joined,O=a", Some("joined")),
            ("CN=a\\2Cb\\,c", Some("a,b,c")),
            ("CN=J\\C3\\B6rg", Some("J\u{f6}rg")),
            ("XCN=evil,O=a", None),
            ("O=CN\\=evil", None),
            ("", None),
            ("CN=\\", Some("\\")),
        ] {
            assert_eq!(common_name(subject).as_deref(), expected, "{subject}");
        }
    }
}
