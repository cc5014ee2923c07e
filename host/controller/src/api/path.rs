//! The way to a field, kept on the stack: naming a field costs nothing until there is an error.

use std::fmt;

/// A field of an object, written as the API server writes it: `spec.rules[0].name`, `data[tls.crt]`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum FieldPath<'p> {
    /// Where the walk began; may be empty.
    Root(&'p str),
    /// A field by name.
    Field(&'p Self, &'p str),
    /// An item of a list.
    Index(&'p Self, usize),
    /// A key of a map.
    Key(&'p Self, &'p str),
}

impl<'p> FieldPath<'p> {
    /// The object itself.
    pub(crate) const OBJECT: FieldPath<'static> = FieldPath::Root("");

    pub(crate) fn field(&'p self, name: &'p str) -> Self {
        Self::Field(self, name)
    }

    pub(crate) fn index(&'p self, index: usize) -> Self {
        Self::Index(self, index)
    }

    pub(crate) fn key(&'p self, key: &'p str) -> Self {
        Self::Key(self, key)
    }
}

impl fmt::Display for FieldPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root(name) => f.write_str(name),
            Self::Field(Self::Root(""), name) => f.write_str(name),
            Self::Field(parent, name) => write!(f, "{parent}.{name}"),
            Self::Index(parent, index) => write!(f, "{parent}[{index}]"),
            Self::Key(parent, key) => write!(f, "{parent}[{key}]"),
        }
    }
}
