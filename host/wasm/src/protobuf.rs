//! Just enough of protobuf's wire format to read the few messages that guests send.

/// `DeclarePropertyArguments`, as far as it matters here.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct DeclaredProperty<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) read_only: bool,
}

/// The fields of one message, in order; malformed input ends them with `None`.
struct Fields<'a>(&'a [u8]);

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The cluster of a `envoy.config.core.v3.GrpcService`: field 1 `envoy_grpc`, in it field 1 `cluster_name`.
pub(crate) fn grpc_cluster(message: &[u8]) -> Option<&[u8]> {
    bytes_field(bytes_field(message, 1)?, 1)
}

/// `DeclarePropertyArguments`: 1 `name`, 2 `readonly`.
pub(crate) fn declared_property(message: &[u8]) -> Option<DeclaredProperty<'_>> {
    let mut declared = DeclaredProperty {
        name: b"",
        read_only: false,
    };
    each(message, |number, value| match (number, value) {
        (1, Value::Bytes(name)) => declared.name = name,
        (2, Value::Number(flag)) => declared.read_only = flag != 0,
        _ => {}
    })?;
    (!declared.name.is_empty()).then_some(declared)
}

/// `SetEnvoyFilterStateArguments`: 1 `path`, 2 `value`.
pub(crate) fn filter_state(message: &[u8]) -> Option<(&[u8], &[u8])> {
    let (mut path, mut value) = (&b""[..], &b""[..]);
    each(message, |number, field| match (number, field) {
        (1, Value::Bytes(bytes)) => path = bytes,
        (2, Value::Bytes(bytes)) => value = bytes,
        _ => {}
    })?;
    (!path.is_empty()).then_some((path, value))
}

/// Encodes one string field.
pub(crate) fn put_string(number: u8, text: &str, out: &mut Vec<u8>) {
    out.push(number << 3 | 2);
    let mut len = text.len();
    while len >= 0x80 {
        out.push((len & 0x7f) as u8 | 0x80);
        len >>= 7;
    }
    out.push((len & 0x7f) as u8);
    out.extend_from_slice(text.as_bytes());
}

/// The last length-delimited field of that number, as protobuf has it.
fn bytes_field(message: &[u8], wanted: u64) -> Option<&[u8]> {
    let mut found = None;
    each(message, |number, value| {
        if let (true, Value::Bytes(bytes)) = (number == wanted, value) {
            found = Some(bytes);
        }
    })?;
    found
}

fn each<'a>(message: &'a [u8], mut visit: impl FnMut(u64, Value<'a>)) -> Option<()> {
    let mut fields = Fields(message);
    while !fields.0.is_empty() {
        let (number, value) = fields.next()?;
        visit(number, value);
    }
    Some(())
}

impl<'a> Fields<'a> {
    fn next(&mut self) -> Option<(u64, Value<'a>)> {
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Number(self.varint()?),
            1 => Value::Bytes(self.take(8)?),
            2 => {
                let len = usize::try_from(self.varint()?).ok()?;
                Value::Bytes(self.take(len)?)
            }
            5 => Value::Bytes(self.take(4)?),
            _ => return None,
        };
        (tag >> 3 != 0).then_some((tag >> 3, value))
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.take(1)?.first()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(len)?;
        self.0 = tail;
        Some(head)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn grpc_services() {
        let mut inner = Vec::new();
        put_string(1, "authz", &mut inner);
        let mut message = vec![0x0a, u8::try_from(inner.len()).unwrap()];
        message.extend_from_slice(&inner);
        // timeout { seconds: 1 }
        message.extend_from_slice(&[0x1a, 2, 8, 1]);
        assert_eq!(grpc_cluster(&message), Some(&b"authz"[..]));
        assert_eq!(grpc_cluster(b"authz"), None);
        assert_eq!(grpc_cluster(b""), None);
    }

    #[test]
    fn properties_and_state() {
        let mut message = Vec::new();
        put_string(1, "user", &mut message);
        message.extend_from_slice(&[0x10, 1, 0x18, 1]);
        assert_eq!(
            declared_property(&message),
            Some(DeclaredProperty {
                name: b"user",
                read_only: true
            })
        );
        assert_eq!(declared_property(&[0x10, 1]), None);
        let mut message = Vec::new();
        put_string(1, "path", &mut message);
        put_string(2, &"v".repeat(300), &mut message);
        assert_eq!(
            filter_state(&message),
            Some((&b"path"[..], "v".repeat(300).as_bytes()))
        );
        assert_eq!(filter_state(&message[..message.len() - 1]), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            grpc_cluster(&bytes);
            declared_property(&bytes);
            filter_state(&bytes);
        }
    }
}
