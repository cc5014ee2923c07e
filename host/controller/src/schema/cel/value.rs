//! JSON as CEL sees it, without copying: objects are looked into as rules ask for their fields.

use std::sync::OnceLock;

use cel::ExecutionError;
use cel::common::traits::{self, Container, Indexer, Iterable, Sizer, Zeroer};
use cel::common::types::{
    CelBool, CelDouble, CelInt, CelList, CelNull, CelString, CelUInt, MAP_TYPE, Type,
};
use cel::common::value::{CowVal, Val};
use serde_json::{Map, Number, Value};

/// The CEL value of a JSON value.
pub(super) fn of<'v>(value: &'v Value) -> Box<dyn Val + 'v> {
    match value {
        Value::Null => Box::new(CelNull),
        Value::Bool(flag) => Box::new(CelBool::from(*flag)),
        Value::Number(number) => of_number(number),
        Value::String(text) => Box::new(CelString::from(text.as_str())),
        Value::Array(items) => Box::new(CelList::from(items.iter().map(of).collect::<Vec<_>>())),
        Value::Object(fields) => Box::new(Object::new(fields)),
    }
}

fn of_number<'v>(number: &Number) -> Box<dyn Val + 'v> {
    if let Some(int) = number.as_i64() {
        Box::new(CelInt::from(int))
    } else if let Some(uint) = number.as_u64() {
        Box::new(CelUInt::from(uint))
    } else {
        Box::new(CelDouble::from(number.as_f64().unwrap_or(f64::NAN)))
    }
}

#[derive(Debug)]
struct Object<'v> {
    fields: &'v Map<String, Value>,
    /// Made when a rule iterates over the keys: iteration lends values, so they have to be somewhere.
    keys: OnceLock<Vec<CelString<'v>>>,
}

// === impl Object ===

impl<'v> Object<'v> {
    fn new(fields: &'v Map<String, Value>) -> Self {
        Self {
            fields,
            keys: OnceLock::new(),
        }
    }

    fn find(&self, name: &str) -> Option<&'v Value> {
        self.fields
            .get(name)
            .or_else(|| self.fields.get(&unescaped(name)?))
    }
}

/// Fields whose names CEL cannot spell are escaped in rules: `__namespace__`, `my__dash__field`.
fn unescaped(name: &str) -> Option<String> {
    if !name.contains("__") {
        return None;
    }
    let keyword = name.strip_prefix("__").and_then(|n| n.strip_suffix("__"));
    if let Some(keyword) =
        keyword.filter(|k| k.bytes().all(|b| b.is_ascii_alphabetic()) && *k != "underscores")
    {
        return Some(keyword.to_owned());
    }
    Some(
        name.replace("__dot__", ".")
            .replace("__dash__", "-")
            .replace("__slash__", "/")
            .replace("__underscores__", "__"),
    )
}

impl Val for Object<'_> {
    fn get_type(&self) -> &Type {
        &MAP_TYPE
    }

    fn cel_type() -> &'static Type {
        &MAP_TYPE
    }

    fn as_container(&self) -> Option<&dyn Container> {
        Some(self)
    }

    fn as_indexer<'b, 'w>(&'b self) -> Option<&'b (dyn Indexer + 'w)>
    where
        Self: 'w,
    {
        Some(self)
    }

    fn as_iterable<'b, 'w>(&'b self) -> Option<&'b (dyn Iterable + 'w)>
    where
        Self: 'w,
    {
        Some(self)
    }

    fn as_sizer(&self) -> Option<&dyn Sizer> {
        Some(self)
    }

    fn as_zeroer(&self) -> Option<&dyn Zeroer> {
        Some(self)
    }

    fn equals(&self, other: &dyn Val) -> bool {
        let (Some(sizer), Some(indexer)) = (other.as_sizer(), other.as_indexer()) else {
            return false;
        };
        usize::try_from(*sizer.size().inner()) == Ok(self.fields.len())
            && self.fields.iter().all(|(name, field)| {
                indexer
                    .get(&CelString::from(name.as_str()))
                    .is_ok_and(|value| of(field).equals(value.as_ref()))
            })
    }

    fn clone_as_boxed<'w>(&self) -> Box<dyn Val + 'w>
    where
        Self: 'w,
    {
        Box::new(Object::new(self.fields))
    }
}

impl Container for Object<'_> {
    fn contains(&self, key: &dyn Val) -> Result<bool, ExecutionError> {
        Ok(key
            .downcast_ref::<CelString<'_>>()
            .is_some_and(|key| self.find(key.inner()).is_some()))
    }
}

impl Indexer for Object<'_> {
    fn get<'b, 'w>(&'b self, key: &dyn Val) -> Result<CowVal<'b, 'w>, ExecutionError>
    where
        Self: 'w,
    {
        let Some(name) = key.downcast_ref::<CelString<'_>>() else {
            return Err(ExecutionError::UnexpectedType {
                got: key.get_type().name().to_owned(),
                want: "string".to_owned(),
            });
        };
        match self.find(name.inner()) {
            Some(value) => Ok(CowVal::Owned(of(value))),
            None => Err(ExecutionError::no_such_key(name.inner())),
        }
    }

    fn steal<'w>(self: Box<Self>, key: &dyn Val) -> Result<Box<dyn Val + 'w>, ExecutionError>
    where
        Self: 'w,
    {
        match self.get(key)? {
            CowVal::Owned(value) => Ok(value),
            CowVal::Borrowed(value) => Ok(value.clone_as_boxed()),
        }
    }
}

struct Keys<'b, 'v>(std::slice::Iter<'b, CelString<'v>>);

impl<'b, 'v: 'w, 'w> traits::Iterator<'b, 'w> for Keys<'b, 'v> {
    fn next(&mut self) -> Option<&'b (dyn Val + 'w)> {
        self.0.next().map(|key| key as &'b (dyn Val + 'w))
    }
}

impl Iterable for Object<'_> {
    fn iter<'b, 'w>(&'b self) -> Box<dyn traits::Iterator<'b, 'w> + 'b>
    where
        Self: 'w,
    {
        let keys = self.keys.get_or_init(|| {
            self.fields
                .keys()
                .map(|key| CelString::from(key.as_str()))
                .collect()
        });
        Box::new(Keys(keys.iter()))
    }
}

impl Sizer for Object<'_> {
    fn size(&self) -> CelInt {
        CelInt::from(i64::try_from(self.fields.len()).unwrap_or(i64::MAX))
    }
}

impl Zeroer for Object<'_> {
    fn is_zero_value(&self) -> bool {
        self.fields.is_empty()
    }
}
