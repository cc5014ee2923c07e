//! `spec.pull`: who asks for a module over the network, and who vouches for the server that has it.
//!
//! Secrets are of type `kubernetes.io/dockerconfigjson`, as `kubectl create secret docker-registry` makes them, or
//! `kubernetes.io/basic-auth`. Of the former the entry is chosen that fits the registry best, as a kubelet does.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use tidegate_model::{Authorities, Credentials, Pull};

use super::REFERENCE;
use crate::api::Kind;
use crate::api::core::Secret;
use crate::api::tidegate::{self as api, KeySelector};
use crate::translate::absent::absent;
use crate::translate::certificates::check_authorities;
use crate::translate::context::Context;
use crate::translate::problem::Problem;

const DOCKER_CONFIG: &str = "kubernetes.io/dockerconfigjson";
const BASIC: &str = "kubernetes.io/basic-auth";

/// How `object`'s module is fetched from `place` (`host[:port]/path`), and what deserves attention about it.
///
/// # Errors
/// A reference that leads nowhere, or to something that is no credentials or no authorities.
pub(super) fn read(
    context: &Context<'_>,
    object: &api::Filter,
    place: &str,
) -> Result<(Pull, Option<String>), Problem> {
    let written = &object.spec.pull;
    let namespace = &object.meta.namespace;
    let mut pull = Pull {
        insecure: written.insecure,
        ..Pull::default()
    };
    let mut warning = None;
    if let Some(reference) = &written.secret_ref {
        let problem =
            |what: String| Problem::new(REFERENCE, format!("spec.pull.secretRef: {what}"));
        let secret = context.secret(namespace, &reference.name).ok_or_else(|| {
            problem(absent(
                context.resources,
                Kind::Secret,
                namespace,
                &reference.name,
            ))
        })?;
        pull.credentials = credentials(secret, place).map_err(problem)?;
        if pull.credentials.is_none() {
            warning = Some(format!(
                "spec.pull.secretRef: Secret {} has no credentials for {place}: the module is asked for without any; add them, or remove the reference",
                secret.key()
            ));
        }
    }
    if let Some(reference) = &written.ca_ref {
        pull.authorities = Some(authorities(context, namespace, reference)?);
    }
    Ok((pull, warning))
}

fn credentials(secret: &Secret, place: &str) -> Result<Option<Credentials>, String> {
    let name = secret.key();
    let entry = |key: &str| {
        secret.spec.get(key).ok_or_else(|| {
            format!(
                "Secret {name} of type {} has no data[{key:?}]",
                secret.spec.kind
            )
        })
    };
    let text = |key: &str| {
        String::from_utf8(entry(key)?.to_vec())
            .map_err(|_| format!("Secret {name}, data[{key:?}] is not UTF-8 text"))
    };
    let pair = match secret.spec.kind.as_str() {
        BASIC => Some((text("username")?, text("password")?)),
        DOCKER_CONFIG => docker_config(entry(".dockerconfigjson")?, place)
            .map_err(|what| format!("Secret {name}, data[\".dockerconfigjson\"]: {what}"))?,
        other => {
            return Err(format!(
                "Secret {name} has type {other:?}: credentials must be in one of type {DOCKER_CONFIG} (kubectl create secret docker-registry) or {BASIC}"
            ));
        }
    };
    Ok(pair.map(|(user, password)| Credentials {
        secret: name.to_string().into(),
        user: user.into(),
        password: password.into(),
    }))
}

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: std::collections::BTreeMap<String, Entry>,
}

/// What `docker login` writes for a registry.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    /// `user:password` in base64.
    auth: String,
    username: String,
    password: String,
    #[serde(rename = "identitytoken")]
    identity_token: String,
}

/// Name and password of the entry of a docker configuration that fits `registry/repository` best; none where nothing fits.
///
/// # Errors
/// What is wrong with it, without what it says.
pub fn docker_config(json: &[u8], place: &str) -> Result<Option<(String, String)>, String> {
    // What serde says of JSON may quote it, and it holds passwords.
    let config: DockerConfig = serde_json::from_slice(json).map_err(|error| {
        format!(
            "not what docker login writes (line {}, column {}); make it with kubectl create secret docker-registry",
            error.line(),
            error.column()
        )
    })?;
    let fitting = config
        .auths
        .iter()
        .filter_map(|(key, entry)| Some((fit(key, place)?, key, entry)))
        .max_by_key(|(fit, _, _)| *fit);
    match fitting {
        None => Ok(None),
        Some((_, key, entry)) => pair(entry)
            .map(Some)
            .map_err(|what| format!("auths[{key:?}]: {what}")),
    }
}

fn pair(entry: &Entry) -> Result<(String, String), String> {
    if !entry.identity_token.is_empty() {
        return Err("identity tokens are not supported; log in with a name and a password or an access token".to_owned());
    }
    if entry.auth.is_empty() {
        return Ok((entry.username.clone(), entry.password.clone()));
    }
    let decoded = BASE64_STANDARD.decode(entry.auth.trim()).ok();
    let text = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
    text.as_deref()
        .and_then(|text| text.trim_end_matches('\0').split_once(':'))
        .map(|(user, password)| (user.to_owned(), password.to_owned()))
        .ok_or_else(|| "auth is not user:password in base64".to_owned())
}

/// How well the name of an entry fits: the longer its path, the better; an exact host before one with wildcards.
fn fit(key: &str, place: &str) -> Option<(usize, bool)> {
    let key = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key);
    let key = key.trim_end_matches('/');
    let key = key
        .strip_suffix("/v1")
        .or_else(|| key.strip_suffix("/v2"))
        .unwrap_or(key);
    let (host, path) = key.split_once('/').unwrap_or((key, ""));
    let (wanted_host, wanted_path) = place.split_once('/').unwrap_or((place, ""));
    let exact = hub(host) == hub(wanted_host);
    if !exact && !matches_labels(host, wanted_host) {
        return None;
    }
    let below = path.is_empty()
        || wanted_path == path
        || wanted_path
            .strip_prefix(path)
            .is_some_and(|rest| rest.starts_with('/'));
    below.then_some((path.len(), exact))
}

/// Docker Hub has three names.
fn hub(host: &str) -> &str {
    match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        other => other,
    }
}

/// `*.registry.test`: each star stands for one label, or a part of it.
fn matches_labels(pattern: &str, host: &str) -> bool {
    let (patterns, labels) = (pattern.split('.'), host.split('.'));
    let same_length = patterns.clone().count() == labels.clone().count();
    same_length
        && patterns
            .zip(labels)
            .all(|(pattern, label)| match pattern.split_once('*') {
                None => pattern == label,
                Some((start, end)) => {
                    label.len() >= start.len() + end.len()
                        && label.starts_with(start)
                        && label.ends_with(end)
                }
            })
}

fn authorities(
    context: &Context<'_>,
    namespace: &str,
    reference: &KeySelector,
) -> Result<Authorities, Problem> {
    let KeySelector { name, key } = reference;
    let problem = |what: String| Problem::new(REFERENCE, format!("spec.pull.caRef: {what}"));
    let map = context
        .config_map(namespace, name)
        .ok_or_else(|| problem(absent(context.resources, Kind::ConfigMap, namespace, name)))?;
    let pem = map.spec.get(key).ok_or_else(|| {
        problem(format!(
            "ConfigMap {namespace}/{name} has no key {key:?}: put the authorities there, PEM"
        ))
    })?;
    check_authorities(pem).map_err(|what| {
        problem(format!(
            "ConfigMap {namespace}/{name}, data[{key:?}]: {what}"
        ))
    })?;
    Ok(Authorities {
        name: format!("{namespace}/{name}/{key}").into(),
        pem: pem.to_vec().into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(auths: &str, place: &str) -> Option<(String, String)> {
        docker_config(format!(r#"{{"auths": {auths}}}"#).as_bytes(), place)
            .expect("a configuration")
    }

    fn owned(user: &str, password: &str) -> Option<(String, String)> {
        Some((user.to_owned(), password.to_owned()))
    }

    #[test]
    fn the_entry_that_fits_best_is_taken() {
        let auths = r#"{
            "https://index.docker.io/v1/": {"auth": "aHViOnNlY3JldA=="},
            "r.test:5000": {"username": "all", "password": "1"},
            "r.test:5000/team": {"username": "team", "password": "2"},
            "*.wild.test": {"username": "star", "password": "3"},
            "a.wild.test": {"username": "exact", "password": "4"}
        }"#;
        assert_eq!(chosen(auths, "docker.io/library/a"), owned("hub", "secret"));
        assert_eq!(chosen(auths, "r.test:5000/other/a"), owned("all", "1"));
        assert_eq!(chosen(auths, "r.test:5000/team/a"), owned("team", "2"));
        assert_eq!(chosen(auths, "r.test:5000/teams/a"), owned("all", "1"));
        assert_eq!(chosen(auths, "b.wild.test/a"), owned("star", "3"));
        assert_eq!(chosen(auths, "a.wild.test/a"), owned("exact", "4"));
        assert_eq!(chosen(auths, "x.b.wild.test/a"), None);
        assert_eq!(chosen(auths, "r.test/a"), None);
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        let error = docker_config(
            br#"{"auths": {"r.test": {"auth": "c2VjcmV0"}}}"#,
            "r.test/a",
        );
        assert_eq!(
            error,
            Err(r#"auths["r.test"]: auth is not user:password in base64"#.to_owned())
        );
        let error = docker_config(br#"{"auths": "secret"}"#, "r.test/a").expect_err("not a map");
        assert!(!error.contains("secret\""), "{error}");
        let token = br#"{"auths": {"r.test": {"identitytoken": "t"}}}"#;
        let error = docker_config(token, "r.test/a").expect_err("not supported");
        assert!(
            error.contains("identity tokens are not supported"),
            "{error}"
        );
    }
}
