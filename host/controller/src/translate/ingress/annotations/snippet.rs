//! Lines of nginx's configuration: their syntax, the lines that change headers, and those that keep clients out.

use std::fmt;

/// `name argument …;` or `name argument … { … }`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Statement {
    words: Vec<String>,
    block: Option<Vec<Self>>,
}

/// A line that changes a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// `more_set_headers`; no statuses stand for all.
    SetResponse {
        statuses: Vec<u16>,
        name: String,
        value: String,
    },
    /// `add_header`
    AddResponse {
        always: bool,
        name: String,
        value: String,
    },
    /// `more_clear_headers`, `proxy_hide_header`
    ClearResponse { name: String },
    /// `proxy_set_header`, `more_set_input_headers`
    SetRequest { name: String, value: String },
    /// `more_clear_input_headers`
    ClearRequest { name: String },
}

/// Directives that keep clients out; what begins with one of the last ones, too.
const RESTRICTING: [&str; 21] = [
    "allow",
    "auth_basic",
    "auth_basic_user_file",
    "auth_request",
    "auth_delay",
    "deny",
    "internal",
    "limit_conn",
    "limit_except",
    "limit_req",
    "modsecurity",
    "modsecurity_rules",
    "modsecurity_rules_file",
    "satisfy",
    "secure_link",
    "secure_link_md5",
    "secure_link_secret",
    "ssl_client_certificate",
    "ssl_verify_client",
    "ssl_verify_depth",
    "valid_referers",
];
const RESTRICTING_FAMILIES: [&str; 6] = [
    "access_by_lua",
    "auth_jwt",
    "content_by_lua",
    "js_access",
    "rewrite_by_lua",
    "server_rewrite_by_lua",
];

/// Reads lines.
///
/// # Errors
/// Where they are no lines of nginx.
pub(super) fn parse(text: &str) -> Result<Vec<Statement>, String> {
    let mut tokens = tokens(text)?.into_iter();
    let (statements, closed) = block(&mut tokens, 0)?;
    if closed {
        return Err("a } closes nothing".to_owned());
    }
    Ok(statements)
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    End,
    Open,
    Close,
}

/// The statements up to the end or the brace that closes them.
fn block(
    tokens: &mut impl Iterator<Item = Token>,
    depth: usize,
) -> Result<(Vec<Statement>, bool), String> {
    const DEEPEST: usize = 16;
    if depth > DEEPEST {
        return Err(format!("blocks are nested more than {DEEPEST} deep"));
    }
    let mut statements = Vec::new();
    let mut words = Vec::new();
    while let Some(token) = tokens.next() {
        let inner = match token {
            Token::Word(word) => {
                words.push(word);
                continue;
            }
            Token::End => None,
            Token::Open => {
                let (inner, closed) = block(tokens, depth + 1)?;
                if !closed {
                    return Err("a { is not closed".to_owned());
                }
                Some(inner)
            }
            Token::Close if words.is_empty() => return Ok((statements, true)),
            Token::Close => return Err(format!("{:?} has no ; at its end", words.join(" "))),
        };
        if !words.is_empty() {
            statements.push(Statement {
                words: std::mem::take(&mut words),
                block: inner,
            });
        }
    }
    if !words.is_empty() {
        return Err(format!("{:?} has no ; at its end", words.join(" ")));
    }
    Ok((statements, false))
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_whitespace() => {}
            '#' => drop(chars.by_ref().find(|c| *c == '\n')),
            ';' => tokens.push(Token::End),
            '{' => tokens.push(Token::Open),
            '}' => tokens.push(Token::Close),
            quote @ ('"' | '\'') => {
                let mut word = String::new();
                loop {
                    match chars.next() {
                        None => return Err("a quotation mark is not closed".to_owned()),
                        Some(c) if c == quote => break,
                        Some('\\') => match chars.next() {
                            Some(escaped) if escaped == quote || escaped == '\\' => {
                                word.push(escaped)
                            }
                            Some(other) => word.extend(['\\', other]),
                            None => return Err("a quotation mark is not closed".to_owned()),
                        },
                        Some(c) => word.push(c),
                    }
                }
                tokens.push(Token::Word(word));
            }
            first => {
                let mut word = String::from(first);
                // `${name}` is part of a word.
                while let Some(c) = chars.peek().copied() {
                    let opens = c == '{' && word.ends_with('$');
                    if !opens && (c.is_whitespace() || c == ';' || c == '{') {
                        break;
                    }
                    word.push(c);
                    chars.next();
                }
                tokens.push(Token::Word(word));
            }
        }
    }
    Ok(tokens)
}

/// The first line that keeps clients out, wherever it stands.
pub(super) fn restriction(statements: &[Statement]) -> Option<String> {
    statements.iter().find_map(|statement| {
        if statement.restricts() {
            return Some(statement.to_string());
        }
        statement.block.as_deref().and_then(restriction)
    })
}

impl Statement {
    fn restricts(&self) -> bool {
        let (name, arguments) = match self.words.split_first() {
            Some((name, arguments)) => (name.as_str(), arguments),
            None => return false,
        };
        let first = arguments.first().map(String::as_str);
        match (name, first) {
            // These open.
            ("allow", Some("all"))
            | ("auth_basic" | "auth_request" | "ssl_verify_client", Some("off")) => false,
            ("return", Some(status)) => status.parse().is_ok_and(|status: u16| status >= 400),
            (name, _) => {
                RESTRICTING.contains(&name)
                    || RESTRICTING_FAMILIES
                        .iter()
                        .any(|family| name.starts_with(family))
            }
        }
    }
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words.join(" "))?;
        f.write_str(if self.block.is_some() { " { … }" } else { "" })
    }
}

/// The changes that a line makes.
///
/// # Errors
/// Why it makes none.
pub(super) fn line(statement: &Statement) -> Result<Vec<Line>, String> {
    let Some((name, arguments)) = statement.words.split_first() else {
        return Ok(Vec::new());
    };
    if statement.block.is_some() {
        return Err("only lines that change headers are read, and no blocks".to_owned());
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match (name.as_str(), arguments.as_slice()) {
        ("add_header", [name, value]) => Ok(vec![added(name, value, false)]),
        ("add_header", [name, value, "always"]) => Ok(vec![added(name, value, true)]),
        ("proxy_set_header" | "grpc_set_header", [name, value]) => Ok(vec![Line::SetRequest {
            name: (*name).to_owned(),
            value: (*value).to_owned(),
        }]),
        ("proxy_hide_header" | "grpc_hide_header", [name]) => Ok(vec![Line::ClearResponse {
            name: (*name).to_owned(),
        }]),
        ("more_set_headers", arguments) => {
            let (statuses, pairs) = options(arguments)?;
            let line = |(name, value)| Line::SetResponse {
                statuses: statuses.clone(),
                name,
                value,
            };
            Ok(pairs.into_iter().map(line).collect())
        }
        ("more_clear_headers", arguments) => {
            let (statuses, pairs) = options(arguments)?;
            if !statuses.is_empty() {
                return Err("more_clear_headers is read without -s only".to_owned());
            }
            Ok(pairs
                .into_iter()
                .map(|(name, _)| Line::ClearResponse { name })
                .collect())
        }
        ("more_set_input_headers", arguments) => {
            let (_, pairs) = options(arguments)?;
            Ok(pairs
                .into_iter()
                .map(|(name, value)| Line::SetRequest { name, value })
                .collect())
        }
        ("more_clear_input_headers", arguments) => {
            let (_, pairs) = options(arguments)?;
            Ok(pairs
                .into_iter()
                .map(|(name, _)| Line::ClearRequest { name })
                .collect())
        }
        _ => Err("only lines that change headers are read".to_owned()),
    }
}

fn added(name: &str, value: &str, always: bool) -> Line {
    Line::AddResponse {
        always,
        name: name.to_owned(),
        value: value.to_owned(),
    }
}

/// Statuses, and names with their values.
type Options = (Vec<u16>, Vec<(String, String)>);

/// `-s 404 -s '500 503' "Name: value" …` (headers-more-nginx-module).
fn options(arguments: &[&str]) -> Result<Options, String> {
    let (mut statuses, mut pairs) = (Vec::new(), Vec::new());
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match *argument {
            "-s" => {
                let list = arguments.next().ok_or("-s has no status")?;
                for status in list.split_whitespace() {
                    statuses.push(
                        status
                            .parse()
                            .map_err(|_| format!("{status:?} is no status"))?,
                    );
                }
            }
            option if option.starts_with('-') => {
                return Err(format!("option {option} is not read"));
            }
            pair => {
                let (name, value) = pair.split_once(':').unwrap_or((pair, ""));
                pairs.push((name.trim().to_owned(), value.trim().to_owned()));
            }
        }
    }
    Ok((statuses, pairs))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Vec<Result<Vec<Line>, String>> {
        parse(text).unwrap().iter().map(line).collect()
    }

    #[test]
    fn header_lines_are_read() {
        let lines = all(
            "# comment; more\nmore_set_headers \"X-A: b; c\" 'X-B: \"q\"';\nmore_set_headers -s '404 500' X-C:d;\n\
             add_header X-D \"e f\" always; add_header X-E ${request_id};proxy_set_header X-F \"\";\nmore_clear_headers Server;",
        );
        let lines: Vec<Line> = lines.into_iter().flat_map(Result::unwrap).collect();
        let set = |statuses: &[u16], name: &str, value: &str| Line::SetResponse {
            statuses: statuses.to_vec(),
            name: name.to_owned(),
            value: value.to_owned(),
        };
        assert_eq!(
            lines,
            [
                set(&[], "X-A", "b; c"),
                set(&[], "X-B", "\"q\""),
                set(&[404, 500], "X-C", "d"),
                added("X-D", "e f", true),
                added("X-E", "${request_id}", false),
                Line::SetRequest {
                    name: "X-F".to_owned(),
                    value: String::new()
                },
                Line::ClearResponse {
                    name: "Server".to_owned()
                },
            ]
        );
    }

    #[test]
    fn what_is_no_header_line_is_said_and_what_is_no_line_refused() {
        for text in [
            "proxy_buffering off;",
            "if ($a) { add_header X y; }",
            "more_set_headers -t text/html 'X: y';",
        ] {
            assert!(all(text)[0].is_err(), "{text}");
        }
        for text in [
            "add_header X y",
            "if ($a) { add_header X y;",
            "}",
            "add_header \"X;",
            "add_header X y }",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse(&"a {".repeat(100)).is_err());
        assert_eq!(parse(" # nothing").unwrap(), []);
    }

    #[test]
    fn what_keeps_clients_out_is_found_wherever_it_stands() {
        for text in [
            "deny all;",
            "allow 10.0.0.0/8;",
            "if ($http_x = \"\") { return 403; }",
            "location /x { if ($a) { deny 1.2.3.4; } }",
            "access_by_lua_block { ngx.exit(403); }",
            "auth_basic \"closed\";",
            "return 401;",
        ] {
            assert!(restriction(&parse(text).unwrap()).is_some(), "{text}");
        }
        for text in [
            "allow all;",
            "auth_basic off;",
            "return 301 /x;",
            "add_header deny all;",
            "gzip off;",
        ] {
            assert!(restriction(&parse(text).unwrap()).is_none(), "{text}");
        }
    }
}
