//! Who asks a registry, and how: what `tidegate filter push` and `pull` share.

use std::io::BufRead;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use tidegate_controller::translate::docker_config;
use tidegate_model::{Authorities, Credentials, ImageReference, Pull};
use tidegate_modules::Access;

use super::arguments::Registry;

/// Longest password line.
const MOST_PASSWORD: u64 = 64 << 10;

/// The image of a reference. `oci://` may be left away, as in a Filter.
pub(super) fn image(reference: &str) -> anyhow::Result<ImageReference> {
    reference.parse().map_err(|error| anyhow!("{error}"))
}

/// What the arguments, else the docker configuration say.
pub(super) fn access(arguments: &Registry, image: &ImageReference) -> anyhow::Result<Access> {
    let credentials = match &arguments.username {
        Some(user) => Some(Credentials {
            secret: "--password-stdin".into(),
            user: user.as_str().into(),
            password: password()?.into(),
        }),
        None => logged_in(image)?,
    };
    Ok(Access {
        pull: Pull {
            credentials,
            authorities: arguments.ca.as_deref().map(authorities).transpose()?,
            insecure: false,
        },
        plain_http: arguments.plain_http,
    })
}

/// A command's own runtime.
pub(super) fn block_on<T>(work: impl Future<Output = T>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(work))
}

/// The first line of standard input.
fn password() -> anyhow::Result<String> {
    let mut line = String::new();
    std::io::Read::take(std::io::stdin().lock(), MOST_PASSWORD)
        .read_line(&mut line)
        .context("--password-stdin: the password cannot be read")?;
    let password = line.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        bail!(
            "--password-stdin: there is no password on standard input; write it there, on one line"
        );
    }
    Ok(password.to_owned())
}

fn authorities(path: &Path) -> anyhow::Result<Authorities> {
    let name = format!("--ca {}", path.display());
    let pem = std::fs::read(path).with_context(|| format!("{name} cannot be read"))?;
    if !pem
        .windows(27)
        .any(|bytes| bytes == b"-----BEGIN CERTIFICATE-----")
    {
        bail!("{name}: there is no certificate in it; give PEM, blocks of BEGIN CERTIFICATE");
    }
    Ok(Authorities {
        name: name.into(),
        pem: pem.into(),
    })
}

/// What `docker login` has left for that registry.
fn logged_in(image: &ImageReference) -> anyhow::Result<Option<Credentials>> {
    let Some(path) = docker_file() else {
        return Ok(None);
    };
    let json = match std::fs::read(&path) {
        Ok(json) => json,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => bail!("{}: {error}", path.display()),
    };
    let source = path.display().to_string();
    let place = format!("{}/{}", image.registry(), image.repository());
    let pair = docker_config(&json, &place).map_err(|what| anyhow!("{source}: {what}"))?;
    // Where a helper keeps the passwords, entries are there but empty.
    let kept = pair.filter(|(user, _)| !user.is_empty());
    if kept.is_none()
        && let Some(helper) = helper(&json, image.registry())
    {
        eprintln!(
            "tidegate: {source} leaves the credentials of {} to docker-credential-{helper}, which is not asked: give --username and --password-stdin",
            image.registry()
        );
    }
    Ok(kept.map(|(user, password)| Credentials {
        secret: source.into(),
        user: user.into(),
        password: password.into(),
    }))
}

/// The program that keeps the passwords for a registry, if one does.
fn helper(json: &[u8], registry: &str) -> Option<String> {
    let config: serde_json::Value = serde_json::from_slice(json).ok()?;
    let of_registry = config["credHelpers"][registry].as_str();
    let helper = of_registry.or_else(|| config["credsStore"].as_str())?;
    Some(helper.to_owned())
}

fn docker_file() -> Option<PathBuf> {
    let folder = match std::env::var_os("DOCKER_CONFIG") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(std::env::var_os("HOME")?).join(".docker"),
    };
    Some(folder.join("config.json"))
}
