//! `allowlist-source-range`, `whitelist-source-range`, `denylist-source-range`; `auth-type: basic` with its Secret.

use serde_json::{Map, Value, json};
use tidegate_filters::Bundled;

use super::reader::{PREFIX, Reader};
use super::{permit, values};
use crate::api::Kind;
use crate::api::core::Secret;
use crate::translate::absent::absent;
use crate::translate::context::Context;
use crate::translate::filters;

/// Whose requests are refused with 403.
#[derive(Debug)]
pub(super) struct AddressLists(pub(super) Value);

/// Who may log in.
#[derive(Debug)]
pub(super) struct BasicAuth(pub(super) Value);

/// The address lists. A list without a single address that can be read has closed the Ingress by then.
pub(super) fn addresses(reader: &mut Reader<'_>) -> Option<AddressLists> {
    let mut config = Map::new();
    let allow = reader.list("allowlist-source-range");
    let older = reader.list("whitelist-source-range");
    if allow.is_some() && older.is_some() {
        reader.warn("whitelist-source-range", &format!("has no effect beside {PREFIX}allowlist-source-range, which is its newer name; remove it"));
    }
    if let Some(allow) = allow.or(older) {
        config.insert("allow".to_owned(), allow.into());
    }
    if let Some(deny) = reader.list("denylist-source-range") {
        config.insert("deny".to_owned(), deny.into());
    }
    (!config.is_empty()).then_some(AddressLists(Value::Object(config)))
}

/// Basic authentication against a Secret.
pub(super) fn basic(
    context: &Context<'_>,
    reader: &mut Reader<'_>,
    own: &str,
) -> Option<BasicAuth> {
    // As with ingress-nginx nothing else is looked at without it.
    if reader.text("auth-type").is_none() {
        if reader.raw("auth-type").is_none() && reader.raw("auth-secret").is_some() {
            reader.warn(
                "auth-secret",
                &format!("has no effect without {PREFIX}auth-type: basic"),
            );
        }
        return None;
    }
    let realm = reader.text("auth-realm").unwrap_or_default();
    let layout = reader.text("auth-secret-type").unwrap_or("auth-file");
    let reference = reader.text("auth-secret");
    let Some((namespace, name)) = reference.and_then(|text| values::reference(text, own)) else {
        if reader.raw("auth-secret").is_none() {
            reader.deny("auth-type", &format!("basic needs {PREFIX}auth-secret, the Secret with users and their hashes; name it"));
        }
        return None;
    };
    let users = secret(context, own, namespace, name).and_then(|secret| users(secret, layout));
    let config = users.and_then(|users| {
        let config = json!({"realm": realm, "users": users});
        usable(&config).map(|()| config)
    });
    match config {
        Ok(config) => Some(BasicAuth(config)),
        Err(why) => {
            reader.deny("auth-secret", &why);
            None
        }
    }
}

/// Whether the filter's schema takes the configuration; its values are secret.
fn usable(config: &Value) -> Result<(), String> {
    let bundled: &Bundled = tidegate_filters::get("basic-auth")
        .ok_or("the filter basic-auth is not part of this build; use one that has it")?;
    filters::check_bundled(bundled, config, true)
}

fn secret<'a>(
    context: &Context<'a>,
    own: &str,
    namespace: &str,
    name: &str,
) -> Result<&'a Secret, String> {
    permit(context, own, Kind::Secret, namespace, name)?;
    context
        .secret(namespace, name)
        .map(|secret| &**secret)
        .ok_or_else(|| absent(context.resources, Kind::Secret, namespace, name))
}

/// The two layouts of ingress-nginx: the lines of a file under the key `auth`, or a key for each user.
fn users(secret: &Secret, layout: &str) -> Result<Value, String> {
    let text = |key: &str, bytes: &[u8]| {
        std::str::from_utf8(bytes)
            .map(|text| Value::String(text.trim_end_matches(['\r', '\n']).to_owned()))
            .map_err(|_| format!("{secret} holds no text under {key:?}; write the hash as text"))
    };
    if layout == "auth-file" {
        let bytes = secret.spec.get("auth").ok_or_else(|| {
            format!("{secret} has no key \"auth\" with the lines of an htpasswd file; add it, or set {PREFIX}auth-secret-type: auth-map where each key is a user")
        })?;
        return text("auth", bytes);
    }
    let users = secret.spec.data.iter();
    let users = users.map(|(name, bytes)| Ok((name.clone(), text(name, &bytes.0)?)));
    users
        .collect::<Result<Map<_, _>, String>>()
        .map(Value::Object)
}
