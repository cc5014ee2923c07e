//! Where the code of a Filter comes from.

use std::path::PathBuf;

use tidegate_model::{ImageReference, ModuleSource};

use super::{REFERENCE, pull};
use crate::api::Kind;
use crate::api::tidegate::{self as api, KeySelector};
use crate::translate::absent::absent;
use crate::translate::context::Context;
use crate::translate::problem::Problem;

/// The source of the module, everything that objects can say about it read. What deserves attention goes to `warnings`.
///
/// # Errors
/// Why it cannot be loaded from there.
pub(super) fn source(
    context: &Context<'_>,
    object: &api::Filter,
    warnings: &mut Vec<String>,
) -> Result<ModuleSource, Problem> {
    match &object.spec.module {
        api::ModuleSource::Builtin(name) => builtin(name),
        api::ModuleSource::File(path) => file(context, object, path).map(ModuleSource::File),
        api::ModuleSource::Image(image) => self::image(context, object, image, warnings),
        api::ModuleSource::Url(url) => self::url(context, object, url, warnings),
        api::ModuleSource::ConfigMap(reference) => config_map(context, object, reference),
    }
}

fn builtin(name: &str) -> Result<ModuleSource, Problem> {
    if tidegate_filters::get(name).is_some() {
        return Ok(ModuleSource::Builtin(name.into()));
    }
    let known: Vec<&str> = tidegate_filters::all()
        .iter()
        .map(|bundled| bundled.name)
        .collect();
    Err(invalid(format!(
        "spec.module.builtin: there is no bundled filter {name:?}; use one of {}, or name a module with file, image, url or configMapRef",
        known.join(", ")
    )))
}

/// A file of the host must never be readable through an object that a tenant of a cluster writes.
fn file(context: &Context<'_>, object: &api::Filter, path: &str) -> Result<PathBuf, Problem> {
    if !context.options.standalone {
        return Err(invalid(format!(
            "spec.module.file: {path:?} would be read on the gateway's own disk, which a cluster's objects must not do; use image, url or configMapRef"
        )));
    }
    let path = match object.source.folder() {
        Some(folder) => folder.join(path),
        None => PathBuf::from(path),
    };
    let tidy: PathBuf = path.components().collect();
    // Only the name is made absolute: no file is looked at here.
    std::path::absolute(&tidy)
        .map_err(|error| invalid(format!("spec.module.file: {}: {error}", tidy.display())))
}

fn image(
    context: &Context<'_>,
    object: &api::Filter,
    image: &str,
    warnings: &mut Vec<String>,
) -> Result<ModuleSource, Problem> {
    let image: ImageReference = image
        .parse()
        .map_err(|error| invalid(format!("spec.module.image: {error}")))?;
    let place = format!("{}/{}", image.registry(), image.repository());
    let (pull, warning) = pull::read(context, object, &place)?;
    warnings.extend(warning);
    Ok(ModuleSource::Image { image, pull })
}

fn url(
    context: &Context<'_>,
    object: &api::Filter,
    url: &str,
    warnings: &mut Vec<String>,
) -> Result<ModuleSource, Problem> {
    if object.spec.sha256.is_none() {
        return Err(invalid(format!(
            "spec.sha256 is missing: a module from a url must be pinned; set it to what sha256sum prints for {url}"
        )));
    }
    if !url.starts_with("https://") && !object.spec.pull.insecure {
        return Err(invalid(format!(
            "spec.module.url: {url} is not https; use https, or set spec.pull.insecure"
        )));
    }
    let parsed: Option<http::Uri> = url.parse().ok();
    let authority = parsed.as_ref().and_then(http::Uri::authority);
    let Some(authority) = authority.filter(|authority| !authority.as_str().contains('@')) else {
        return Err(invalid(format!(
            "spec.module.url: {url} is not an address; write it as https://host/path, without name and password, which belong into the Secret of spec.pull.secretRef"
        )));
    };
    let (pull, warning) = pull::read(context, object, authority.as_str())?;
    warnings.extend(warning);
    Ok(ModuleSource::Url {
        url: url.into(),
        pull,
    })
}

fn config_map(
    context: &Context<'_>,
    object: &api::Filter,
    reference: &KeySelector,
) -> Result<ModuleSource, Problem> {
    let (namespace, KeySelector { name, key }) = (&object.meta.namespace, reference);
    let missing =
        |message: String| Problem::new(REFERENCE, format!("spec.module.configMapRef: {message}"));
    let Some(map) = context.config_map(namespace, name) else {
        return Err(missing(absent(
            context.resources,
            Kind::ConfigMap,
            namespace,
            name,
        )));
    };
    if let Some(bytes) = map.spec.binary_data.get(key) {
        return Ok(ModuleSource::ConfigMap {
            name: format!("{namespace}/{name}/{key}").into(),
            bytes: bytes.0.clone().into(),
        });
    }
    if map.spec.data.contains_key(key) {
        return Err(missing(format!(
            "key {key:?} of ConfigMap {namespace}/{name} is text in data: a module must be in binaryData, where kubectl create configmap --from-file puts it"
        )));
    }
    let keys: Vec<&str> = map.spec.binary_data.keys().map(String::as_str).collect();
    Err(missing(format!(
        "ConfigMap {namespace}/{name} has no key {key:?} in binaryData; its keys there are {}",
        if keys.is_empty() {
            "none".to_owned()
        } else {
            keys.join(", ")
        }
    )))
}

fn invalid(message: String) -> Problem {
    Problem::new("InvalidModule", message)
}
