//! The table of known differences, and how it is held against what happens.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// differences.yaml
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// Why this host differs, by a short name.
    pub reasons: BTreeMap<String, String>,
    /// What differs, by case.
    pub cases: BTreeMap<String, Difference>,
}

/// The lines of a case that only one of the hosts has.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Difference {
    /// Names of reasons.
    #[serde(default)]
    pub reasons: Vec<String>,
    /// Lines that Envoy has.
    #[serde(default)]
    pub envoy: Vec<String>,
    /// Lines that this host has.
    #[serde(default)]
    pub here: Vec<String>,
}

impl Table {
    /// Reads it.
    ///
    /// # Panics
    /// When it is none.
    pub fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// The page for readers.
    pub fn page(&self) -> String {
        let mut page = String::from(
            "# Where filters see another host than in Envoy\n\n\
             Written from `host/differential/differences.yaml`, which the differential test holds against a real Envoy 1.40: a\n\
             difference that is not listed fails it, and so does one that is listed and does not occur. Whatever the cases under\n\
             `host/differential/cases` try and this page does not name is alike, line by line.\n",
        );
        for (name, reason) in &self.reasons {
            // Writing to a String cannot fail.
            let _ = write!(
                page,
                "\n## {}\n\n{}\n",
                name.replace('-', " "),
                reason.trim()
            );
            page.push_str("\n| Case | Envoy | Tidegate |\n|---|---|---|\n");
            for (case, difference) in &self.cases {
                if difference.reasons.first() == Some(name) {
                    let _ = writeln!(
                        page,
                        "| {case} | {} | {} |",
                        cell(&difference.envoy),
                        cell(&difference.here)
                    );
                }
            }
        }
        page
    }
}

fn cell(lines: &[String]) -> String {
    let mut shown: Vec<String> = lines
        .iter()
        .take(3)
        .map(|line| {
            format!(
                "`{}`",
                line.trim()
                    .replace('|', "\\|")
                    .replace('`', "'")
                    .replace('\r', "")
                    .replace('\n', " ")
            )
        })
        .collect();
    if lines.len() > 3 {
        shown.push(format!("and {} lines more", lines.len() - 3));
    }
    if shown.is_empty() {
        "nothing".into()
    } else {
        shown.join("<br>")
    }
}

/// The lines that only one side has, in their order (by a longest common subsequence).
pub fn between(envoy: &[String], here: &[String]) -> Difference {
    let (rows, columns) = (envoy.len(), here.len());
    let mut common = vec![vec![0_usize; columns + 1]; rows + 1];
    for row in (0..rows).rev() {
        for column in (0..columns).rev() {
            common[row][column] = if envoy[row] == here[column] {
                common[row + 1][column + 1] + 1
            } else {
                common[row + 1][column].max(common[row][column + 1])
            };
        }
    }
    let mut difference = Difference::default();
    let (mut row, mut column) = (0, 0);
    while row < rows || column < columns {
        if row < rows && column < columns && envoy[row] == here[column] {
            row += 1;
            column += 1;
        } else if column == columns
            || (row < rows && common[row + 1][column] >= common[row][column + 1])
        {
            difference.envoy.push(envoy[row].clone());
            row += 1;
        } else {
            difference.here.push(here[column].clone());
            column += 1;
        }
    }
    difference
}

impl Difference {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.envoy.is_empty() && self.here.is_empty()
    }

    /// Whether the same lines differ, whatever the reasons.
    pub fn same(&self, other: &Self) -> bool {
        self.envoy == other.envoy && self.here == other.here
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for line in &self.envoy {
            writeln!(f, "    envoy | {line}")?;
        }
        for line in &self.here {
            writeln!(f, "    here  | {line}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.chars().map(|c| c.to_string()).collect()
    }

    #[test]
    fn only_what_differs_is_left() {
        let difference = between(&lines("abxcd"), &lines("abcyd"));
        assert_eq!(
            (difference.envoy, difference.here),
            (lines("x"), lines("y"))
        );
        assert!(between(&lines("abc"), &lines("abc")).is_empty());
        assert!(
            !between(&lines("ab"), &lines("ba")).is_empty(),
            "order counts"
        );
    }
}
