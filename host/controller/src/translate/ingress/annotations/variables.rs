//! nginx's variables in values of annotations, as the templates of the bundled filters write them.

/// nginx's name, and the template's.
const VARIABLES: [(&str, &str); 21] = [
    ("args", "request.query"),
    ("best_http_host", "request.authority"),
    ("escaped_request_uri", "request.target|encode"),
    ("host", "request.host"),
    ("http_host", "request.authority"),
    ("method", "request.method"),
    ("pass_access_scheme", "header.x-forwarded-proto"),
    ("pass_port", "header.x-forwarded-port"),
    ("proxy_add_x_forwarded_for", "header.x-forwarded-for"),
    ("proxy_host", "request.authority"),
    ("query_string", "request.query"),
    ("remote_addr", "client.address"),
    ("req_id", "header.x-request-id"),
    ("request_id", "header.x-request-id"),
    ("request_method", "request.method"),
    ("request_uri", "request.target"),
    ("scheme", "request.scheme"),
    ("server_name", "request.host"),
    ("the_real_ip", "client.address"),
    ("uri", "request.path"),
    ("document_uri", "request.path"),
];

/// The text as a template: `$request_uri` is `${request.target}`, `$1` is `${1}`, any other dollar sign stands for itself.
/// `fixed` are variables whose value is known beforehand.
///
/// # Errors
/// The first variable that has no counterpart.
pub(super) fn template(text: &str, fixed: &[(&str, &str)]) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        out.push_str(&rest[..dollar]);
        rest = &rest[dollar + 1..];
        let (name, after) = variable(rest);
        rest = after;
        if name.is_empty() {
            out.push_str("$$");
        } else if let Some((_, value)) = fixed.iter().find(|(known, _)| *known == name) {
            out.push_str(&value.replace('$', "$$"));
        } else {
            let found = counterpart(name)
                .ok_or_else(|| format!("${name} is no variable that has a counterpart here"))?;
            out.push_str(&format!("${{{found}}}"));
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// Whether the text has a variable.
pub(super) fn has_variables(text: &str) -> bool {
    text.match_indices('$')
        .any(|(at, _)| !variable(&text[at + 1..]).0.is_empty())
}

fn variable(rest: &str) -> (&str, &str) {
    if let Some((name, after)) = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
        return (name, after);
    }
    if rest.starts_with(|first: char| first.is_ascii_digit()) {
        return rest.split_at(1);
    }
    let end = rest
        .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .unwrap_or(rest.len());
    rest.split_at(end)
}

fn counterpart(name: &str) -> Option<String> {
    if let Some((_, found)) = VARIABLES.iter().find(|(known, _)| *known == name) {
        return Some((*found).to_owned());
    }
    if name.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(name.to_owned());
    }
    let families = [
        ("http_", "header"),
        ("cookie_", "cookie"),
        ("arg_", "query"),
    ];
    families.into_iter().find_map(|(prefix, family)| {
        let rest = name.strip_prefix(prefix).filter(|rest| !rest.is_empty())?;
        // nginx writes header names with underscores; cookies and parameters as they are.
        let rest = if family == "header" {
            rest.replace('_', "-")
        } else {
            rest.to_owned()
        };
        Some(format!("{family}.{rest}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_have_counterparts() {
        let fixed = [("service_name", "web")];
        for (text, expected) in [
            ("plain", "plain"),
            (
                "https://a/x?rd=$escaped_request_uri",
                "https://a/x?rd=${request.target|encode}",
            ),
            ("/$1/${2}x", "/${1}/${2}x"),
            ("/$12", "/${1}2"),
            (
                "$http_x_user $cookie_a_b $arg_q",
                "${header.x-user} ${cookie.a_b} ${query.q}",
            ),
            ("$service_name.svc", "web.svc"),
            ("5$ a", "5$$ a"),
        ] {
            assert_eq!(template(text, &fixed).as_deref(), Ok(expected), "{text}");
        }
        let error = template("$upstream_addr", &[]).expect_err("unknown");
        assert!(error.contains("$upstream_addr"), "{error}");
        assert!(has_variables("a$host") && !has_variables("5$ a"));
    }
}
