//! Replacements: literal text with `$1`, `${1}` and `${name}` for what a rule's expressions captured; `$$` is a dollar sign.

use tidegate_sdk::expression::{Captures, Regex};

use super::uri::{self, Component, Percent};

/// References in one replacement: each can insert the whole path again.
const MAX_REFERENCES: usize = 32;

/// A compiled replacement.
#[derive(Clone, Debug)]
pub(super) struct Template {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug)]
enum Piece {
    Literal(String),
    Group { of: Of, index: usize },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Path,
    Host,
}

/// The expressions of a rule, whose groups a replacement may name.
#[derive(Clone, Copy)]
pub(super) struct Groups<'a> {
    pub(super) path: Option<&'a Regex>,
    pub(super) host: Option<&'a Regex>,
}

/// What the expressions captured, and how a percent sign in it is meant.
pub(super) struct Captured<'a> {
    pub(super) path: Option<Captures<'a>>,
    pub(super) host: Option<Captures<'a>>,
    pub(super) percent: Percent,
    /// Whether characters stand for single bytes, because the path is no UTF-8.
    pub(super) bytewise: bool,
}

// === impl Template ===

impl Template {
    /// Reads a replacement. Literal text is encoded here, once, as `component` needs it; `None` leaves it as it is.
    ///
    /// # Errors
    ///
    /// References to groups that are not there, and a dollar sign that begins none.
    pub(super) fn parse(
        text: &str,
        groups: Groups<'_>,
        component: Option<Component>,
    ) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(dollar) = rest.find('$') {
            literal.push_str(&rest[..dollar]);
            rest = &rest[dollar + 1..];
            if let Some(after) = rest.strip_prefix('$') {
                literal.push('$');
                rest = after;
                continue;
            }
            let (name, after) = reference(rest)?;
            push_literal(&mut pieces, &mut literal, component);
            pieces.push(groups.find(name)?);
            rest = after;
        }
        literal.push_str(rest);
        push_literal(&mut pieces, &mut literal, component);
        let references = pieces
            .iter()
            .filter(|piece| matches!(piece, Piece::Group { .. }))
            .count();
        if references > MAX_REFERENCES {
            return Err(format!(
                "has {references} references to groups, {MAX_REFERENCES} are allowed"
            ));
        }
        Ok(Self { pieces })
    }

    /// The text before the first reference.
    pub(super) fn leading_literal(&self) -> Option<&str> {
        match self.pieces.first() {
            Some(Piece::Literal(text)) => Some(text),
            Some(Piece::Group { .. }) => None,
            None => Some(""),
        }
    }

    /// The replacement for one request; what was captured is encoded for `component`, so that it cannot leave it.
    pub(super) fn render(&self, captured: &Captured<'_>, component: Option<Component>) -> String {
        let mut out = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => out.push_str(text),
                Piece::Group { of, index } => {
                    let text = captured.get(*of, *index);
                    match component {
                        Some(component) => uri::encode(
                            &captured.bytes(*of, text),
                            component,
                            captured.percent(*of),
                            &mut out,
                        ),
                        None => out.push_str(text),
                    }
                }
            }
        }
        out
    }
}

/// The name of a reference, after its dollar sign, and what follows.
fn reference(rest: &str) -> Result<(&str, &str), String> {
    if let Some(braced) = rest.strip_prefix('{') {
        return braced
            .split_once('}')
            .ok_or_else(|| String::from("has ${ without }"));
    }
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    match digits {
        0 => Err(String::from(
            "has a $ that begins no reference; write $1 or ${name} for a group and $$ for a dollar sign",
        )),
        digits => Ok(rest.split_at(digits)),
    }
}

fn push_literal(pieces: &mut Vec<Piece>, literal: &mut String, component: Option<Component>) {
    if literal.is_empty() {
        return;
    }
    let text = std::mem::take(literal);
    let text = match component {
        Some(component) => {
            let mut encoded = String::new();
            uri::encode(text.as_bytes(), component, Percent::Encoded, &mut encoded);
            encoded
        }
        None => text,
    };
    pieces.push(Piece::Literal(text));
}

// === impl Groups ===

impl Groups<'_> {
    /// Numbers count the groups of the path's expression, or of the host's where there is none for the path. Names are looked
    /// up in both.
    fn find(&self, name: &str) -> Result<Piece, String> {
        if let Ok(index) = name.parse::<usize>() {
            let (of, regex) = match (self.path, self.host) {
                (Some(path), _) => (Of::Path, Some(path)),
                (None, host) => (Of::Host, host),
            };
            let count = regex.map_or(0, Regex::captures_len);
            return match index < count {
                true => Ok(Piece::Group { of, index }),
                false => Err(format!(
                    "refers to group {index}, but the expression has {}; a digit that follows a reference needs ${{1}}0",
                    count.saturating_sub(1)
                )),
            };
        }
        [(Of::Path, self.path), (Of::Host, self.host)]
            .into_iter()
            .find_map(|(of, regex)| {
                let index = regex?
                    .capture_names()
                    .position(|group| group == Some(name))?;
                Some(Piece::Group { of, index })
            })
            .ok_or_else(|| format!("refers to ${{{name}}}, but no group has this name"))
    }
}

// === impl Captured ===

impl Captured<'_> {
    fn get(&self, of: Of, index: usize) -> &str {
        let captures = match of {
            Of::Path => &self.path,
            Of::Host => &self.host,
        };
        // A group that took no part is empty.
        captures
            .as_ref()
            .and_then(|captures| captures.get(index))
            .map_or("", |group| group.as_str())
    }

    fn bytes(&self, of: Of, text: &str) -> Vec<u8> {
        match of {
            Of::Path if self.bytewise => super::from_bytewise(text),
            _ => text.as_bytes().to_vec(),
        }
    }

    fn percent(&self, of: Of) -> Percent {
        match of {
            Of::Path => self.percent,
            Of::Host => Percent::Literal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(template: &str, path: &str, text: &str) -> Result<String, String> {
        let path = Regex::new(path).unwrap();
        let host = Regex::new(r"^(?<tenant>[a-z]+)\.(test)$").unwrap();
        let groups = Groups {
            path: Some(&path),
            host: Some(&host),
        };
        let template = Template::parse(template, groups, Some(Component::Path))?;
        let captured = Captured {
            path: path.captures(text),
            host: host.captures("shop.test"),
            percent: Percent::Encoded,
            bytewise: false,
        };
        Ok(template.render(&captured, Some(Component::Path)))
    }

    #[test]
    fn references_by_number_and_by_name() {
        let path = "^/(a+)/(?<rest>.*)$";
        for (template, expected) in [
            ("/x/$1", "/x/aa"),
            ("/${1}1/$2", "/aa1/b"),
            ("/${rest}/$0", "/b//aa/b"),
            ("/${tenant}", "/shop"),
            ("/$$1", "/$1"),
            ("/a b", "/a%20b"),
            ("", ""),
        ] {
            assert_eq!(
                render(template, path, "/aa/b").unwrap(),
                expected,
                "{template}"
            );
        }
    }

    #[test]
    fn a_group_that_took_no_part_is_empty() {
        assert_eq!(render("/x$1", "^/a(/.*)?$", "/a").unwrap(), "/x");
    }

    #[test]
    fn bad_references_say_what_to_do() {
        for (template, part) in [
            ("/$3", "group 3, but the expression has 2"),
            ("/$10", "${1}0"),
            ("/$", "$$ for a dollar sign"),
            ("/$x", "${name}"),
            ("/${1", "without }"),
            ("/${}", "no group has this name"),
            ("/${who}", "no group has this name"),
            ("/$99999999999999999999", "no group has this name"),
            (&"$1".repeat(33), "33 references"),
        ] {
            let problem = render(template, "^/(a)(b)?", "/a").unwrap_err();
            assert!(problem.contains(part), "{template}: {problem}");
        }
    }
}
