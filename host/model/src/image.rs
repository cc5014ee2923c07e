//! Names of OCI images, as people write them.
//!
//! ```text
//!   ghcr.io/acme/filters/hello:1.2@sha256:…
//!   registry└── repository ──┘ tag  digest
//! ```
//!
//! As with docker, a name without a registry is one of Docker Hub, and there one without a folder is in `library`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Serialize, Serializer};

/// Docker Hub, as names call it.
const DOCKER_HUB: &str = "docker.io";
/// What distribution allows (`reference.NameTotalLengthMax`).
const LONGEST_NAME: usize = 255;
const LONGEST_TAG: usize = 128;

/// An image in a registry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ImageReference {
    registry: Arc<str>,
    repository: Arc<str>,
    tag: Option<Arc<str>>,
    digest: Option<Arc<str>>,
}

/// Why a name is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageReferenceError {
    text: String,
    what: &'static str,
}

// === impl ImageReference ===

impl ImageReference {
    /// Host, and port if there is one.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Where the registry's API is: Docker Hub's is elsewhere than its name says.
    pub fn endpoint(&self) -> &str {
        match &*self.registry {
            DOCKER_HUB | "index.docker.io" => "registry-1.docker.io",
            other => other,
        }
    }

    /// Path in the registry.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; `latest` where neither tag nor digest is given.
    pub fn tag(&self) -> Option<&str> {
        match (&self.tag, &self.digest) {
            (Some(tag), _) => Some(tag),
            (None, None) => Some("latest"),
            (None, Some(_)) => None,
        }
    }

    /// `sha256:…` of the manifest, if it is given.
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }

    /// The same name, with what its tag has come to.
    pub fn resolved(&self, digest: &str) -> Self {
        Self {
            tag: self.tag().map(Into::into),
            digest: Some(digest.into()),
            ..self.clone()
        }
    }

    /// What this name's tag came to, where [`resolved`](Self::resolved) made that text of this very name.
    pub fn digest_in(&self, resolved: &str) -> Option<Arc<str>> {
        let known: Self = resolved.parse().ok()?;
        let same = known.registry == self.registry
            && known.repository == self.repository
            && known.tag() == self.tag()
            && (self.digest.is_none() || self.digest == known.digest);
        known.digest.filter(|_| same)
    }

    /// The same image by the digest of its manifest.
    pub fn pinned(&self, digest: &str) -> String {
        format!("{}/{}@{digest}", self.registry, self.repository)
    }
}

impl FromStr for ImageReference {
    type Err = ImageReferenceError;

    fn from_str(text: &str) -> Result<Self, ImageReferenceError> {
        parse(text).map_err(|what| ImageReferenceError {
            text: text.to_owned(),
            what,
        })
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = self.tag() {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for ImageReferenceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { text, what } = self;
        write!(
            f,
            "{text:?} is not an image: {what}; write it as registry/name:tag or registry/name@sha256:…"
        )
    }
}

impl std::error::Error for ImageReferenceError {}

impl Serialize for ImageReference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

fn parse(text: &str) -> Result<ImageReference, &'static str> {
    // A scheme is a habit of other tools.
    let text = text.strip_prefix("oci://").unwrap_or(text);
    let (name, digest) = match text.split_once('@') {
        Some((name, digest)) => (name, Some(checked_digest(digest)?)),
        None => (text, None),
    };
    // A colon before the last slash belongs to a port.
    let (name, tag) = match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(checked_tag(tag)?)),
        _ => (name, None),
    };
    let (registry, repository) = match name.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => {
            (checked_registry(first)?, rest.to_owned())
        }
        Some(_) => (DOCKER_HUB, name.to_owned()),
        None => (DOCKER_HUB, format!("library/{name}")),
    };
    if !repository.split('/').all(is_component) || repository.len() > LONGEST_NAME {
        return Err(
            "its name has other characters than lower-case letters, digits, '.', '_', '-' and '/'",
        );
    }
    Ok(ImageReference {
        registry: registry.into(),
        repository: repository.into(),
        tag: tag.map(Into::into),
        digest: digest.map(Into::into),
    })
}

fn checked_registry(text: &str) -> Result<&str, &'static str> {
    let authority: http::uri::Authority = text.parse().map_err(|_| "its registry is not a host")?;
    if text.contains('@') || authority.host().is_empty() {
        return Err("its registry is not a host");
    }
    match text.rsplit_once(':') {
        Some((_, port)) if !port.ends_with(']') && authority.port_u16().is_none() => {
            Err("the port of its registry is not a number up to 65535")
        }
        _ => Ok(text),
    }
}

fn is_component(text: &str) -> bool {
    let lower = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = text.as_bytes().first().copied().is_some_and(lower)
        && text.as_bytes().last().copied().is_some_and(lower);
    ends && text
        .bytes()
        .all(|byte| lower(byte) || matches!(byte, b'.' | b'_' | b'-'))
}

fn checked_tag(text: &str) -> Result<&str, &'static str> {
    let starts = text
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let all = text
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    if starts && all && text.len() <= LONGEST_TAG {
        Ok(text)
    } else {
        Err("its tag is not one")
    }
}

fn checked_digest(text: &str) -> Result<&str, &'static str> {
    let digits = text
        .strip_prefix("sha256:")
        .ok_or("its digest does not begin with sha256:")?;
    let hexadecimal = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if digits.len() == 64 && digits.bytes().all(hexadecimal) {
        Ok(text)
    } else {
        Err("its digest does not have 64 hexadecimal digits in lower case")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> (String, String, Option<String>) {
        let image: ImageReference = text.parse().expect(text);
        let tag = image.tag().map(str::to_owned);
        (
            image.registry().to_owned(),
            image.repository().to_owned(),
            tag,
        )
    }

    #[test]
    fn names_are_read_as_docker_reads_them() {
        let owned = |registry: &str, repository: &str, tag: &str| {
            (
                registry.to_owned(),
                repository.to_owned(),
                Some(tag.to_owned()),
            )
        };
        assert_eq!(
            parts("hello"),
            owned("docker.io", "library/hello", "latest")
        );
        assert_eq!(parts("acme/hello:1"), owned("docker.io", "acme/hello", "1"));
        assert_eq!(
            parts("localhost/hello"),
            owned("localhost", "hello", "latest")
        );
        assert_eq!(
            parts("127.0.0.1:5000/a/b:v1.2_x"),
            owned("127.0.0.1:5000", "a/b", "v1.2_x")
        );
        assert_eq!(
            parts("oci://[::1]:5000/a"),
            owned("[::1]:5000", "a", "latest")
        );
    }

    #[test]
    fn a_digest_needs_no_tag_and_may_have_one() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        let image: ImageReference = format!("r.test/a@{digest}").parse().expect("an image");
        assert_eq!((image.tag(), image.digest()), (None, Some(&*digest)));
        let image: ImageReference = format!("r.test/a:1@{digest}").parse().expect("an image");
        assert_eq!((image.tag(), image.digest()), (Some("1"), Some(&*digest)));
        assert_eq!(image.to_string(), format!("r.test/a:1@{digest}"));
        assert_eq!(image.pinned(&digest), format!("r.test/a@{digest}"));
    }

    #[test]
    fn what_a_tag_came_to_is_that_tag_s_alone() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        let of = |text: &str| text.parse::<ImageReference>().expect("an image");
        for (name, full) in [
            ("r.test/a", "r.test/a:latest"),
            ("r.test/a:1", "r.test/a:1"),
            ("hello", "docker.io/library/hello:latest"),
        ] {
            let resolved = of(name).resolved(&digest).to_string();
            assert_eq!(resolved, format!("{full}@{digest}"));
            assert_eq!(of(name).digest_in(&resolved).as_deref(), Some(&*digest));
            for other in ["r.test/a:2", "r.test/b:1", "r.test:1/a", "hello:1"] {
                assert_eq!(of(other).digest_in(&resolved), None, "{other}");
            }
        }
        assert_eq!(of("r.test/a").digest_in("r.test/a:latest"), None);
        assert_eq!(
            of("r.test/a").digest_in(&format!("r.test/a@{digest}")),
            None
        );
        let other = format!("sha256:{}", "0b".repeat(32));
        let by_digest = of(&format!("r.test/a@{digest}"));
        assert_eq!(by_digest.digest_in(&format!("r.test/a@{other}")), None);
    }

    #[test]
    fn what_is_no_image_is_refused() {
        for text in [
            "",
            "r.test/",
            "r.test/A",
            "r.test//a",
            "r.test/../a",
            "r.test/a:",
            "r.test/a: b",
            "r.test/a@sha256:00",
            "r.test/a@md5:00",
            "user@r.test/a",
            "r.test:99999/a",
            "r.test/a?b=c",
            "https://r.test/a",
        ] {
            assert!(
                text.parse::<ImageReference>().is_err(),
                "{text:?} was taken"
            );
        }
    }
}
