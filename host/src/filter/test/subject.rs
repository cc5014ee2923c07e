//! What is tested: a module and its cases.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use serde_json::{Value, json};
use tidegate_filter_cases::{Case, File};

use super::identities::Identities;
use crate::filter::arguments::Test;

/// The file of cases in a filter's folder.
const CASES: &str = "cases.yaml";

/// A module and its cases.
pub(crate) struct Subject {
    /// Its name in reports.
    pub(crate) name: String,
    pub(crate) module: Module,
    pub(crate) cases: Vec<Case>,
    pub(crate) identities: Arc<Identities>,
    /// `limits.callTimeout`, if it is not the default.
    pub(crate) call_timeout: Option<String>,
}

/// Where the module is.
pub(crate) enum Module {
    /// Bundled.
    Builtin(&'static tidegate_filters::Bundled),
    /// A file, absolute.
    File(PathBuf),
}

impl Subject {
    /// Everything that the command line names.
    ///
    /// # Errors
    /// What cannot be found or read, and what to do.
    pub(crate) fn all(arguments: &Test) -> anyhow::Result<Vec<Self>> {
        let mut subjects = Self::named_by(arguments)?;
        for subject in &mut subjects {
            subject.call_timeout.clone_from(&arguments.call_timeout);
        }
        Ok(subjects)
    }

    fn named_by(arguments: &Test) -> anyhow::Result<Vec<Self>> {
        let cases = arguments.cases.as_deref();
        if arguments.bundled {
            if cases.is_some() {
                bail!("--cases is for one filter; name it instead of --bundled");
            }
            return tidegate_filters::all()
                .iter()
                .map(|filter| Self::builtin(filter, None))
                .collect();
        }
        let here = [".".to_owned()];
        let named = if arguments.filters.is_empty() {
            &here[..]
        } else {
            &arguments.filters
        };
        if cases.is_some() && named.len() > 1 {
            bail!("--cases is for one filter; {} are named", named.len());
        }
        named.iter().map(|name| Self::named(name, cases)).collect()
    }

    /// One by its name or its place, with its own cases or those of a file.
    ///
    /// # Errors
    /// See [`Self::all`].
    pub(crate) fn named(name: &str, cases: Option<&Path>) -> anyhow::Result<Self> {
        if let Some(filter) = tidegate_filters::get(name) {
            return Self::builtin(filter, cases);
        }
        let path = Path::new(name);
        let about = std::fs::metadata(path).with_context(|| {
            format!("{name}: neither a bundled filter nor a file or folder that can be read; bundled are: {}", names())
        })?;
        let folder = if about.is_dir() {
            path
        } else {
            path.parent().unwrap_or(Path::new("."))
        };
        let module = if about.is_dir() {
            only_module(path)?
        } else {
            path.to_owned()
        };
        let cases = cases.map_or_else(|| folder.join(CASES), Path::to_owned);
        let (cases, identities) = read(&cases)?;
        Ok(Self {
            name: name.to_owned(),
            module: Module::File(
                std::fs::canonicalize(&module).with_context(|| module.display().to_string())?,
            ),
            cases,
            identities,
            call_timeout: None,
        })
    }

    fn builtin(
        filter: &'static tidegate_filters::Bundled,
        cases: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let (cases, identities) = match cases {
            Some(path) => read(path)?,
            None => parse(filter.cases, &format!("{}/{CASES}", filter.name))?,
        };
        Ok(Self {
            name: filter.name.to_owned(),
            module: Module::Builtin(filter),
            cases,
            identities,
            call_timeout: None,
        })
    }

    /// Bytes of the module.
    pub(crate) fn size(&self) -> usize {
        match &self.module {
            Module::Builtin(filter) => filter.module.len(),
            Module::File(path) => std::fs::metadata(path)
                .ok()
                .and_then(|about| usize::try_from(about.len()).ok())
                .unwrap_or(0),
        }
    }
}

impl Module {
    /// `spec.module` of a Filter.
    pub(crate) fn source(&self) -> Value {
        match self {
            Self::Builtin(filter) => json!({"builtin": filter.name}),
            Self::File(path) => json!({"file": path}),
        }
    }
}

/// The bundled filters' names, for messages.
pub(crate) fn names() -> String {
    let names: Vec<&str> = tidegate_filters::all()
        .iter()
        .map(|filter| filter.name)
        .collect();
    names.join(", ")
}

fn only_module(folder: &Path) -> anyhow::Result<PathBuf> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut modules: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "wasm")
        })
        .collect();
    modules.sort();
    // Both forms of one filter, as `tidegate filter build` leaves them: the module, unless the component is named.
    if let [component, module] = &modules[..]
        && *component == module.with_extension("component.wasm")
    {
        modules.remove(0);
    }
    match &modules[..] {
        [module] => Ok(module.clone()),
        [] => bail!(
            "{}: no .wasm file is in this folder; build the filter, and name the module itself with --cases {}",
            folder.display(),
            folder.join(CASES).display()
        ),
        several => bail!(
            "{}: {} .wasm files are in this folder; name one of them, {} for example",
            folder.display(),
            several.len(),
            several[0].display()
        ),
    }
}

/// The cases of a file, and whose certificates they speak of.
fn read(path: &Path) -> anyhow::Result<(Vec<Case>, Arc<Identities>)> {
    let text = std::fs::read_to_string(path).with_context(|| {
        format!(
            "{}: the cases cannot be read; --cases says where they are",
            path.display()
        )
    })?;
    parse(&text, &path.display().to_string())
}

fn parse(text: &str, origin: &str) -> anyhow::Result<(Vec<Case>, Arc<Identities>)> {
    let mut identities = None;
    let file = File::parse_with(text, |certificates| {
        let made = Identities::new(certificates).map_err(|error| format!("{error:#}"))?;
        Ok(identities.insert(made).fingerprints().clone())
    });
    let file = file.map_err(|error| anyhow::anyhow!("{origin}: {error}"))?;
    if file.cases.is_empty() {
        bail!("{origin}: there is no case in it");
    }
    let identities = match identities {
        Some(identities) => identities,
        None => Identities::new(&file.certificates)?,
    };
    Ok((file.cases, Arc::new(identities)))
}
