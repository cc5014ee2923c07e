//! Messages of gRPC calls in cases: fields by their names there, protobuf's wire format for the filter.
//!
//! The table holds what cases need, as the definitions of Envoy's API have it (v1.40, <https://github.com/envoyproxy/envoy/tree/v1.40.0/api>:
//! `envoy/service/auth/v3`, `envoy/service/ratelimit/v3`, `envoy/config/core/v3`). It is written apart from what the filters are
//! built with, so that a wrong number on one side shows.

mod table;

use serde_json::{Map, Value};

use table::HEADER_VALUE;
pub use table::METHODS;

/// A method, by `service/method`.
#[derive(Debug)]
pub struct Method {
    /// `envoy.service.auth.v3.Authorization/Check`
    pub path: &'static str,
    /// What it is asked.
    pub request: &'static Message,
    /// What it answers.
    pub response: &'static Message,
}

/// A message's definition.
#[derive(Debug)]
pub struct Message {
    name: &'static str,
    fields: &'static [Field],
}

#[derive(Debug)]
struct Field {
    number: u64,
    name: &'static str,
    kind: Kind,
    repeated: bool,
}

#[derive(Debug)]
enum Kind {
    /// `string`, or `bytes` that are text in cases.
    Text,
    Number,
    Bool,
    /// Its names by number.
    Enum(&'static [&'static str]),
    Message(&'static Message),
    /// `map<string, string>`
    Map,
}

const fn field(number: u64, name: &'static str, kind: Kind) -> Field {
    Field {
        number,
        name,
        kind,
        repeated: false,
    }
}

const fn list(number: u64, name: &'static str, kind: Kind) -> Field {
    Field {
        number,
        name,
        kind,
        repeated: true,
    }
}

const fn message(name: &'static str, fields: &'static [Field]) -> Message {
    Message { name, fields }
}

/// The method of that name.
///
/// # Errors
///
/// There is none in the table.
pub fn method(path: &str) -> Result<&'static Method, String> {
    let found = METHODS.iter().find(|method| method.path == path);
    found.ok_or_else(|| {
        let known: Vec<&str> = METHODS.iter().map(|method| method.path).collect();
        format!(
            "there is no method {path:?} in the table of sdk/cases/src/proto/table.rs; it has {}",
            known.join(", ")
        )
    })
}

const VARINT: u64 = 0;
const BYTES: u64 = 2;

// === impl Message ===

impl Message {
    /// The bytes of a message with these fields.
    ///
    /// # Errors
    ///
    /// A field that it has not, or a value of another type.
    pub fn encode(&self, value: &Value) -> Result<Vec<u8>, String> {
        let fields = value
            .as_object()
            .ok_or_else(|| format!("{} is written as {value}, not as fields", self.name))?;
        let mut out = Vec::new();
        for (name, value) in fields {
            let field = self.fields.iter().find(|field| field.name == name);
            let field = field.ok_or_else(|| format!("{} has no field {name:?}", self.name))?;
            match (&field.kind, value) {
                (Kind::Map, Value::Object(entries)) => {
                    for (key, value) in entries {
                        let mut entry = Vec::new();
                        put_bytes(1, key.as_bytes(), &mut entry);
                        put_bytes(2, text(value)?.as_bytes(), &mut entry);
                        put_bytes(field.number, &entry, &mut out);
                    }
                }
                (_, Value::Array(values)) if field.repeated => {
                    for value in values {
                        field.encode(value, &mut out)?;
                    }
                }
                (_, value) if !field.repeated => field.encode(value, &mut out)?,
                _ => return Err(format!("{}.{name} cannot be {value}", self.name)),
            }
        }
        Ok(out)
    }

    /// The fields of a message.
    ///
    /// # Errors
    ///
    /// Bytes that are no such message, or a field that the table does not know.
    pub fn decode(&self, bytes: &[u8]) -> Result<Value, String> {
        let broken = || format!("the message is no {}: {bytes:02x?}", self.name);
        let mut fields = Map::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let tag = take_varint(&mut rest).ok_or_else(broken)?;
            let (number, wire) = (tag >> 3, tag & 7);
            let field = self.fields.iter().find(|field| field.number == number);
            let field = field.ok_or_else(|| format!("{} has no field {number}", self.name))?;
            if wire != field.wire() {
                return Err(broken());
            }
            let value = match wire {
                VARINT => field.number_value(take_varint(&mut rest).ok_or_else(broken)?),
                _ => {
                    let length =
                        take_varint(&mut rest).and_then(|length| usize::try_from(length).ok());
                    let (value, after) = length
                        .and_then(|length| rest.split_at_checked(length))
                        .ok_or_else(broken)?;
                    rest = after;
                    field.bytes_value(value)?
                }
            };
            field.put(value, &mut fields);
        }
        Ok(Value::Object(fields))
    }
}

// === impl Field ===

impl Field {
    fn wire(&self) -> u64 {
        match self.kind {
            Kind::Number | Kind::Bool | Kind::Enum(_) => VARINT,
            Kind::Text | Kind::Message(_) | Kind::Map => BYTES,
        }
    }

    fn encode(&self, value: &Value, out: &mut Vec<u8>) -> Result<(), String> {
        let wrong = || format!("{} cannot be {value}", self.name);
        let number = match &self.kind {
            Kind::Number => value
                .as_u64()
                .or_else(|| value.as_i64().map(i64::cast_unsigned)),
            Kind::Bool => value.as_bool().map(u64::from),
            Kind::Enum(names) => {
                let name = value.as_str().ok_or_else(wrong)?;
                let position = names.iter().position(|known| *known == name);
                position.map(|position| position as u64)
            }
            Kind::Text => {
                put_bytes(self.number, text(value)?.as_bytes(), out);
                return Ok(());
            }
            Kind::Message(message) => {
                put_bytes(self.number, &message.encode(value)?, out);
                return Ok(());
            }
            Kind::Map => None,
        };
        put_varint(self.number << 3 | VARINT, out);
        put_varint(number.ok_or_else(wrong)?, out);
        Ok(())
    }

    fn number_value(&self, number: u64) -> Value {
        match &self.kind {
            Kind::Bool => Value::Bool(number != 0),
            Kind::Enum(names) => {
                let name = usize::try_from(number)
                    .ok()
                    .and_then(|index| names.get(index));
                name.map_or_else(|| number.into(), |name| (*name).into())
            }
            _ => number.cast_signed().into(),
        }
    }

    fn bytes_value(&self, bytes: &[u8]) -> Result<Value, String> {
        match &self.kind {
            Kind::Message(message) => message.decode(bytes),
            Kind::Map => HEADER_VALUE.decode(bytes),
            _ => Ok(String::from_utf8_lossy(bytes).into_owned().into()),
        }
    }

    fn put(&self, value: Value, fields: &mut Map<String, Value>) {
        let name = self.name.to_owned();
        match (&self.kind, self.repeated) {
            (Kind::Map, _) => {
                let map = fields
                    .entry(name)
                    .or_insert_with(|| Value::Object(Map::new()));
                if let Value::Object(map) = map {
                    let key = value["key"].as_str().unwrap_or_default().to_owned();
                    let value = value["value"].as_str().unwrap_or_default().to_owned();
                    map.insert(key, value.into());
                }
            }
            (_, true) => {
                let list = fields
                    .entry(name)
                    .or_insert_with(|| Value::Array(Vec::new()));
                if let Value::Array(list) = list {
                    list.push(value);
                }
            }
            (_, false) => drop(fields.insert(name, value)),
        }
    }
}

/// What is not as expected of a decoded message, a line for each that begins with `place`. Fields that `expected` does not name may be
/// anything; `null` is not there, `{contains: text}` holds a text.
pub fn compare(place: &str, expected: &Value, seen: &Value, found: &mut Vec<String>) {
    match (expected, seen) {
        (Value::Object(fields), Value::String(seen)) if fields.contains_key("contains") => {
            let part = fields["contains"].as_str().unwrap_or_default();
            if !seen.contains(part) {
                found.push(format!("{place} is {seen:?}, expected one with {part:?}"));
            }
        }
        (Value::Object(fields), Value::Object(seen)) => {
            for (name, expected) in fields {
                let inside = format!("{place}.{name}");
                match (expected, seen.get(name)) {
                    (Value::Null, None) => {}
                    (expected, Some(seen)) => compare(&inside, expected, seen, found),
                    (expected, None) => {
                        found.push(format!("{inside} is not there, expected {expected}"));
                    }
                }
            }
        }
        (Value::Array(list), Value::Array(seen)) if list.len() == seen.len() => {
            for (index, (expected, seen)) in list.iter().zip(seen).enumerate() {
                compare(&format!("{place}[{index}]"), expected, seen, found);
            }
        }
        (expected, seen) if plain(expected) == plain(seen) => {}
        (expected, seen) => {
            found.push(format!("{place} is {seen}, expected {expected}"));
        }
    }
}

/// Text of a scalar, so that `port: 80` need not say whether it is a number.
fn plain(value: &Value) -> String {
    text(value).unwrap_or_else(|_| value.to_string())
}

fn text(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(value) => Ok(value.to_string()),
        other => Err(format!("{other} is no text")),
    }
}

fn put_bytes(number: u64, bytes: &[u8], out: &mut Vec<u8>) {
    put_varint(number << 3 | BYTES, out);
    put_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn put_varint(mut number: u64, out: &mut Vec<u8>) {
    while number > 0x7f {
        out.push(u8::try_from(number & 0x7f).expect("seven bits") | 0x80);
        number >>= 7;
    }
    out.push(u8::try_from(number).expect("seven bits"));
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let method = method("envoy.service.auth.v3.Authorization/Check").unwrap();
        let request = json!({"attributes": {
            "source": {"address": {"socket_address": {"address": "192.0.2.1", "port_value": 40000}}},
            "request": {"http": {"method": "GET", "headers": {"a": "b", "c": "d"}, "size": -1}},
            "context_extensions": {"x": "y"},
        }});
        let bytes = method.request.encode(&request).unwrap();
        assert_eq!(method.request.decode(&bytes).unwrap(), request);
        let response = json!({
            "status": {"code": 7},
            "denied_response": {"status": {"code": 401}, "headers": [
                {"header": {"key": "a", "value": "b"}, "append": {"value": true}},
                {"append_action": "ADD_IF_ABSENT"},
            ]},
        });
        let bytes = method.response.encode(&response).unwrap();
        assert_eq!(method.response.decode(&bytes).unwrap(), response);
        assert!(method.response.decode(&bytes[..bytes.len() - 1]).is_err());
        assert!(method.response.encode(&json!({"state": 1})).is_err());
        assert!(super::method("a.B/C").is_err());
    }

    #[test]
    fn what_is_not_named_may_be_anything() {
        let seen = json!({"a": 1, "b": {"c": "text"}, "d": [1, 2]});
        let differ = |expected: Value| {
            let mut found = Vec::new();
            compare("m", &expected, &seen, &mut found);
            found.len()
        };
        assert_eq!(
            differ(json!({"a": "1", "b": {"c": {"contains": "ex"}}, "e": null})),
            0
        );
        assert_eq!(
            differ(json!({"a": 2, "b": {"c": {"contains": "y"}}, "d": [1]})),
            3
        );
        assert_eq!(differ(json!({"a": null, "e": 1, "d": [2, 2]})), 3);
    }
}
