//! `rewrite-target`: the filter rewrite, or a redirect where the target is a URL.

use serde_json::{Value, json};

use tidegate_model::Pattern;

use super::paths::located;
use super::reader::Reader;
use super::variables;

/// What paths become.
#[derive(Debug)]
pub(super) struct Rewrite {
    /// With `${1}` for what was captured.
    target: String,
    /// As written.
    text: String,
}

pub(super) fn read(reader: &mut Reader<'_>) -> Option<Rewrite> {
    let text = reader.text("rewrite-target")?;
    match captures_only(text) {
        Ok(target) => Some(Rewrite {
            target,
            text: text.to_owned(),
        }),
        Err(variable) => {
            reader.wrong("rewrite-target", &format!("{text:?} has the variable ${variable}, and only $1 to $9 are known here; write it without, or use a Filter of the bundled module rewrite"));
            None
        }
    }
}

impl Rewrite {
    /// Whether a URL is written, which nginx answers with a redirect.
    pub(super) fn is_redirect(&self) -> bool {
        self.text.starts_with("http://") || self.text.starts_with("https://")
    }

    /// Whether this path is left alone: an Exact path that is what it would become.
    pub(super) fn leaves_alone(&self, path: &str, is_exact: bool) -> bool {
        is_exact && self.text == path
    }

    /// The configuration of the filter rewrite or redirect for a path.
    pub(super) fn config(&self, path: &str) -> Value {
        // nginx searches for it anywhere; the location has matched from the beginning.
        let expression = format!("(?i){path}");
        let target = without_groups_above(&self.target, groups(path));
        if self.is_redirect() {
            // nginx puts the query behind, unless the target ends with a question mark.
            let to = match (target.strip_suffix('?'), target.contains('?')) {
                (Some(whole), _) => whole.to_owned(),
                (None, true) => format!("{target}${{request.query|ampersand}}"),
                (None, false) => format!("{target}${{request.query|question}}"),
            };
            return json!({"rules": [{"match": {"path": expression}, "to": to, "status": 302}]});
        }
        json!({"decode": true, "rules": [{"match": {"path": expression}, "path": target}]})
    }
}

/// `$1` as `${1}`; any other variable is an error.
fn captures_only(text: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        match rest.chars().next() {
            Some(digit) if digit.is_ascii_digit() => {
                out.push_str(&format!("${{{digit}}}"));
                rest = &rest[1..];
            }
            _ if variables::has_variables(&format!("${rest}")) => {
                let end = rest
                    .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                    .unwrap_or(rest.len());
                return Err(rest[..end.max(1)].to_owned());
            }
            _ => out.push_str("$$"),
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// How many groups a path has; asked of the expression that routes match it with, which is compiled already.
fn groups(path: &str) -> usize {
    Pattern::standing_for(path, &located(path)).map_or(0, |pattern| pattern.groups())
}

/// A group that is not there is empty for nginx.
fn without_groups_above(target: &str, groups: usize) -> String {
    let mut target = target.to_owned();
    for number in groups + 1..=9 {
        target = target.replace(&format!("${{{number}}}"), "");
    }
    if target.is_empty() {
        "/".to_owned()
    } else {
        target
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(target: &str, path: &str) -> Value {
        let rewrite = Rewrite {
            target: captures_only(target).unwrap(),
            text: target.to_owned(),
        };
        rewrite.config(path)["rules"][0].clone()
    }

    #[test]
    fn captures_are_what_the_filter_knows() {
        let rule = config("/$2", "/something(/|$)(.*)");
        assert_eq!(rule["path"], "/${2}");
        assert_eq!(rule["match"]["path"], "(?i)/something(/|$)(.*)");
        assert_eq!(config("/a/$1$3", "/(x)")["path"], "/a/${1}");
        assert_eq!(config("/$1", "/x")["path"], "/");
        assert_eq!(
            config("https://b.test/$1", "/(.*)")["to"],
            "https://b.test/${1}${request.query|question}"
        );
        let further = config("https://b.test/?a=$1", "/(.*)");
        assert_eq!(
            further["to"],
            "https://b.test/?a=${1}${request.query|ampersand}"
        );
        assert_eq!(config("https://b.test/?", "/x")["to"], "https://b.test/");
        assert_eq!(captures_only("/x$host"), Err("host".to_owned()));
        assert_eq!(captures_only("/5$").unwrap(), "/5$$");
    }
}
