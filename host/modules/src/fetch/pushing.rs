//! Pushing to a registry: what is not there yet of an image's content, then its manifest.
//!
//! <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#push>

use bytes::Bytes;
use http::{Method, StatusCode, Uri};

use super::address::shown;
use super::client::Answer;
use super::error::FetchError;
use super::session::{Call, Session, To};

const BYTES: &str = "application/octet-stream";
/// What a registry says the digest of content is.
const DIGEST: &str = "docker-content-digest";

/// Something with a digest.
#[derive(Clone, Debug)]
pub(crate) struct Blob {
    pub(crate) digest: String,
    pub(crate) bytes: Bytes,
}

/// One push of one image.
pub(super) struct Pushing<'a> {
    pub(super) session: Session<'a>,
}

impl Pushing<'_> {
    /// Puts content in; false where the registry has it.
    pub(super) async fn blob(&mut self, blob: &Blob) -> Result<bool, FetchError> {
        let path = format!("blobs/{}", blob.digest);
        let answer = self.send(Method::HEAD, To::Path(&path), None).await?;
        match answer.status {
            StatusCode::OK => return Ok(false),
            // Who may not even ask need not try. Others do not know HEAD, or the repository, which a push makes.
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(refused(answer).await),
            _ => {}
        }
        let upload = To::Path("blobs/uploads/");
        let answer = self.send(Method::POST, upload, None).await?;
        if answer.status != StatusCode::ACCEPTED {
            return Err(refused(answer).await);
        }
        let place = with_digest(&answer.location()?, &blob.digest)?;
        let content = Some((BYTES, blob.bytes.clone()));
        let answer = self.send(Method::PUT, To::Led(place), content).await?;
        match answer.status {
            StatusCode::CREATED => Ok(true),
            _ => Err(refused(answer).await),
        }
    }

    /// Puts the manifest in, under its tag. What it names must be there.
    pub(super) async fn manifest(
        &mut self,
        tag: &str,
        kind: &'static str,
        manifest: &Blob,
    ) -> Result<(), FetchError> {
        let path = format!("manifests/{tag}");
        let content = Some((kind, manifest.bytes.clone()));
        let answer = self.send(Method::PUT, To::Path(&path), content).await?;
        if answer.status != StatusCode::CREATED {
            return Err(refused(answer).await);
        }
        let said = answer.headers.get(DIGEST);
        match said.map(|value| String::from_utf8_lossy(value.as_bytes())) {
            Some(found) if found != manifest.digest.as_str() => Err(FetchError::Digest {
                url: shown(&self.session.url(&path)?),
                expected: manifest.digest.clone(),
                found: found.into_owned(),
            }),
            _ => Ok(()),
        }
    }

    async fn send(
        &mut self,
        method: Method,
        to: To<'_>,
        content: Option<(&'static str, Bytes)>,
    ) -> Result<Answer, FetchError> {
        let call = Call {
            method,
            to,
            accept: "*/*",
            content,
        };
        self.session.send(&call).await
    }
}

async fn refused(mut answer: Answer) -> FetchError {
    answer.refusal().await
}

/// Where an upload ends: the address that the registry has given, whose own query stays.
fn with_digest(place: &Uri, digest: &str) -> Result<Uri, FetchError> {
    let and = if place.query().is_some() { '&' } else { '?' };
    format!("{place}{and}digest={digest}")
        .parse()
        .map_err(|_| FetchError::Address(shown(place)))
}

#[cfg(test)]
mod tests {
    use super::with_digest;

    #[test]
    fn the_query_of_an_upload_stays() {
        for (place, expected) in [
            (
                "http://r.test/v2/a/blobs/uploads/1",
                "http://r.test/v2/a/blobs/uploads/1?digest=sha256:0",
            ),
            (
                "http://r.test/u?_state=x%3D",
                "http://r.test/u?_state=x%3D&digest=sha256:0",
            ),
        ] {
            let place = place.parse().expect("an address");
            let with = with_digest(&place, "sha256:0").expect("an address");
            assert_eq!(with.to_string(), expected);
        }
    }
}
