//! The known name that somebody may have meant.

use super::table::TABLE;

/// The nearest name of the table, if one is near.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    let (distance, nearest) = TABLE
        .iter()
        .map(|row| (distance(&name, row.name), row.name))
        .min()?;
    // A third of the letters may be wrong.
    (distance * 3 <= name.len().max(nearest.len())).then_some(nearest)
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised() {
        for (slip, meant) in [
            ("rewrite-taget", Some("rewrite-target")),
            ("ssl_redirect", Some("ssl-redirect")),
            ("whitelist-source-ranges", Some("whitelist-source-range")),
            ("Enable-Cors", Some("enable-cors")),
            ("frobnicate-everything", None),
        ] {
            assert_eq!(nearest(slip), meant, "{slip}");
        }
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
