//! Content of messages as cases write it.

use serde::Deserialize;

/// A text, or a text many times.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Content {
    /// As it stands.
    Text(String),
    /// For bodies that have to be large.
    Repeated {
        /// What is repeated.
        repeat: String,
        /// How often.
        times: usize,
    },
}

impl Content {
    /// The bytes.
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Text(text) => text.clone().into_bytes(),
            Self::Repeated { repeat, times } => repeat.repeat(*times).into_bytes(),
        }
    }
}
