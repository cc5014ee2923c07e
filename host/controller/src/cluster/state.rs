//! The last good state on disk, so that a restart without the API server serves what was served before.
//!
//! The file holds private keys: it is readable by its owner alone, and a state that was last confirmed too long ago is not
//! used. It is written whole to another name and renamed, so that a crash leaves the old one.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::settings::StateFile;
use crate::api::{Age, Key, Source};
use crate::resources::{AnyObject, decode};

const NAME: &str = "state.json";
/// Changes when older files can no longer be read.
const FORMAT: u32 = 1;

/// What a state file held.
pub(super) struct Restored {
    /// With the text that each was read from.
    pub(super) objects: Vec<(AnyObject, Box<str>)>,
    pub(super) assigned: BTreeMap<Key, IpAddr>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Content {
    format: u32,
    controller_name: String,
    /// `namespace/name` of Gateways.
    assigned: BTreeMap<String, IpAddr>,
    objects: Vec<Box<RawValue>>,
}

/// Reads the file; `None`, with a word in the log, when there is none that may be used.
pub(super) fn load(file: &StateFile, controller_name: &str) -> Option<Restored> {
    let path = file.folder.join(NAME);
    let age = match age(&path) {
        Ok(age) => age,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the state file cannot be read");
            return None;
        }
    };
    if age > file.max_age {
        tracing::warn!(path = %path.display(), age = age.as_secs(), "the state file is too old and is not used");
        return None;
    }
    let restored = fs::read_to_string(&path).and_then(|text| parse(&text, controller_name));
    match restored {
        Ok(restored) => {
            tracing::info!(
                path = %path.display(), objects = restored.objects.len(), age = age.as_secs(),
                "the state of last time serves until the API server has been read"
            );
            Some(restored)
        }
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the state file is not used");
            None
        }
    }
}

/// Since when nobody has confirmed it: the file's time is set whenever it is known to be current.
fn age(path: &Path) -> io::Result<Duration> {
    let modified = fs::metadata(path)?.modified()?;
    Ok(SystemTime::now()
        .duration_since(modified)
        .unwrap_or_default())
}

fn parse(text: &str, controller_name: &str) -> io::Result<Restored> {
    let content: Content = serde_json::from_str(text)?;
    if content.format != FORMAT {
        return Err(io::Error::other(format!(
            "format {} is not {FORMAT}",
            content.format
        )));
    }
    if content.controller_name != controller_name {
        let of = content.controller_name;
        return Err(io::Error::other(format!("it is that of controller {of}")));
    }
    let mut objects = Vec::with_capacity(content.objects.len());
    for raw in content.objects {
        let text: Box<str> = raw.into();
        let value: Value = serde_json::from_str(&text)?;
        if let Some(Ok(object)) = decode(&value, Source::Cluster, Age::Unknown) {
            objects.push((object, text));
        }
    }
    let assigned = content.assigned.into_iter();
    let assigned = assigned
        .filter_map(|(name, address)| {
            let (namespace, name) = name.split_once('/')?;
            Some((Key::new(namespace, name), address))
        })
        .collect();
    Ok(Restored { objects, assigned })
}

/// Writes the file; what goes wrong is logged, since serving goes on.
pub(super) fn save(
    file: &StateFile,
    controller_name: &str,
    objects: &[Box<str>],
    assigned: &BTreeMap<Key, IpAddr>,
) {
    let content = Content {
        format: FORMAT,
        controller_name: controller_name.to_owned(),
        assigned: assigned
            .iter()
            .map(|(key, address)| (key.to_string(), *address))
            .collect(),
        objects: objects
            .iter()
            .filter_map(|text| RawValue::from_string(text.to_string()).ok())
            .collect(),
    };
    if let Err(error) = write(&file.folder, &content) {
        tracing::error!(folder = %file.folder.display(), %error, "the state file cannot be written: give --state-dir a folder that may be written");
    }
}

/// Says that the file is still current.
pub(super) fn confirm(file: &StateFile) -> io::Result<()> {
    let path = file.folder.join(NAME);
    OpenOptions::new()
        .append(true)
        .open(path)?
        .set_modified(SystemTime::now())
}

fn write(folder: &Path, content: &Content) -> io::Result<()> {
    make_folder(folder)?;
    let path: PathBuf = folder.join(NAME);
    let new = folder.join(format!(".{NAME}.new"));
    let mut file = private_file(&new)?;
    file.write_all(&serde_json::to_vec(content)?)?;
    file.sync_all()?;
    fs::rename(new, path)
}

#[cfg(unix)]
fn make_folder(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
}

#[cfg(unix)]
fn private_file(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    // One that was left behind might have other permissions.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

#[cfg(not(unix))]
fn make_folder(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)
}

#[cfg(not(unix))]
fn private_file(path: &Path) -> io::Result<File> {
    File::create(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn file(folder: &Path) -> StateFile {
        StateFile {
            folder: folder.join("state"),
            max_age: Duration::from_secs(60),
        }
    }

    fn secret() -> Box<str> {
        let object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "n"},
            "data": {"tls.key": "a2V5"}});
        object.to_string().into()
    }

    #[test]
    fn what_is_written_is_read_and_private() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let file = file(folder.path());
        let assigned = BTreeMap::from([(Key::new("n", "g"), "10.0.0.1".parse().unwrap())]);
        save(&file, "us", &[secret()], &assigned);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&file.folder), 0o700);
        assert_eq!(mode(&file.folder.join(NAME)), 0o600);
        let restored = load(&file, "us").unwrap();
        assert_eq!(restored.assigned, assigned);
        assert_eq!(restored.objects.len(), 1);
        assert_eq!(restored.objects[0].0.key(), Key::new("n", "s"));
        assert_eq!(restored.objects[0].1, secret());
    }

    #[test]
    fn old_foreign_and_broken_ones_are_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(folder.path());
        assert!(load(&file, "us").is_none(), "there is none");
        save(&file, "us", &[secret()], &BTreeMap::new());
        assert!(load(&file, "others").is_none());
        let path = file.folder.join(NAME);
        let old = SystemTime::now() - Duration::from_secs(61);
        File::options()
            .append(true)
            .open(&path)
            .unwrap()
            .set_modified(old)
            .unwrap();
        assert!(load(&file, "us").is_none(), "too old");
        confirm(&file).unwrap();
        assert!(load(&file, "us").is_some());
        fs::write(&path, "{").unwrap();
        assert!(load(&file, "us").is_none(), "broken");
    }
}
