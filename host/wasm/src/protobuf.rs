//! Just enough of protobuf's wire format to read the few messages that guests send.

/// `DeclarePropertyArguments`, as far as it matters here.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct DeclaredProperty<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) read_only: bool,
}

/// `GrpcService`, as far as it matters here.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct GrpcService<'a> {
    pub(crate) cluster: &'a [u8],
    /// Empty where there is none.
    pub(crate) authority: &'a [u8],
    pub(crate) metadata: Vec<(&'a [u8], &'a [u8])>,
}

/// `VerifySignatureArguments` or `SignArguments`.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct SignatureArguments<'a> {
    pub(crate) hash: &'a [u8],
    pub(crate) der: &'a [u8],
    pub(crate) pem: &'a [u8],
    /// Empty for signing.
    pub(crate) signature: &'a [u8],
    pub(crate) text: &'a [u8],
}

/// The fields of one message, in order; malformed input ends them with `None`.
struct Fields<'a>(&'a [u8]);

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// `envoy.config.core.v3.GrpcService`: 1 `envoy_grpc` with 1 `cluster_name` and 2 `authority`; 5 `initial_metadata`, each with
/// 1 `key` and 2 `value` or 3 `raw_value`. Timeout and retries are the caller's.
pub(crate) fn grpc_service(message: &[u8]) -> Option<GrpcService<'_>> {
    let envoy_grpc = bytes_field(message, 1)?;
    let mut service = GrpcService {
        cluster: bytes_field(envoy_grpc, 1)?,
        authority: bytes_field(envoy_grpc, 2).unwrap_or_default(),
        metadata: Vec::new(),
    };
    let mut whole = Some(());
    each(message, |number, value| {
        if let (5, Value::Bytes(header)) = (number, value) {
            match header_value(header) {
                Some(pair) => service.metadata.push(pair),
                None => whole = None,
            }
        }
    })?;
    whole.map(|()| service)
}

fn header_value(message: &[u8]) -> Option<(&[u8], &[u8])> {
    let (mut key, mut text) = (&b""[..], &b""[..]);
    each(message, |number, field| match (number, field) {
        (1, Value::Bytes(bytes)) => key = bytes,
        (2 | 3, Value::Bytes(bytes)) if !bytes.is_empty() => text = bytes,
        _ => {}
    })?;
    Some((key, text))
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

/// `VerifySignatureArguments`: 1 `hash_function`, 2 `public_key`, 3 `signature`, 4 `text`, 5 `public_key_pem`.
pub(crate) fn verify_signature(message: &[u8]) -> Option<SignatureArguments<'_>> {
    let mut arguments = SignatureArguments::default();
    each(message, |number, value| match (number, value) {
        (1, Value::Bytes(bytes)) => arguments.hash = bytes,
        (2, Value::Bytes(bytes)) => arguments.der = bytes,
        (3, Value::Bytes(bytes)) => arguments.signature = bytes,
        (4, Value::Bytes(bytes)) => arguments.text = bytes,
        (5, Value::Bytes(bytes)) => arguments.pem = bytes,
        _ => {}
    })?;
    Some(arguments)
}

/// `SignArguments`: 1 `hash_function`, 2 `private_key`, 3 `text`, 4 `private_key_pem`.
pub(crate) fn sign(message: &[u8]) -> Option<SignatureArguments<'_>> {
    let mut arguments = SignatureArguments::default();
    each(message, |number, value| match (number, value) {
        (1, Value::Bytes(bytes)) => arguments.hash = bytes,
        (2, Value::Bytes(bytes)) => arguments.der = bytes,
        (3, Value::Bytes(bytes)) => arguments.text = bytes,
        (4, Value::Bytes(bytes)) => arguments.pem = bytes,
        _ => {}
    })?;
    Some(arguments)
}

/// Encodes one string field.
pub(crate) fn put_string(number: u8, text: &str, out: &mut Vec<u8>) {
    put_bytes(number, text.as_bytes(), out);
}

/// Encodes a flag; false is left out, as in proto3.
pub(crate) fn put_flag(number: u8, flag: bool, out: &mut Vec<u8>) {
    if flag {
        out.extend_from_slice(&[number << 3, 1]);
    }
}

/// Encodes one field of bytes.
pub(crate) fn put_bytes(number: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(number << 3 | 2);
    let mut len = bytes.len();
    while len >= 0x80 {
        out.push((len & 0x7f) as u8 | 0x80);
        len >>= 7;
    }
    out.push((len & 0x7f) as u8);
    out.extend_from_slice(bytes);
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
        let plain = GrpcService {
            cluster: b"authz",
            authority: b"",
            metadata: Vec::new(),
        };
        assert_eq!(grpc_service(&message), Some(plain));
        assert_eq!(grpc_service(b"authz"), None);
        assert_eq!(grpc_service(b""), None);

        put_string(2, "authz.test", &mut inner);
        let mut header = Vec::new();
        put_string(1, "x-team", &mut header);
        put_string(3, "shop", &mut header);
        let mut message = vec![0x0a, u8::try_from(inner.len()).unwrap()];
        message.extend_from_slice(&inner);
        message.extend_from_slice(&[0x2a, u8::try_from(header.len()).unwrap()]);
        message.extend_from_slice(&header);
        let full = GrpcService {
            cluster: b"authz",
            authority: b"authz.test",
            metadata: vec![(b"x-team", b"shop")],
        };
        assert_eq!(grpc_service(&message), Some(full));
        *message.last_mut().unwrap() = 0;
        message.pop();
        assert_eq!(grpc_service(&message), None, "cut short");
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
            grpc_service(&bytes);
            declared_property(&bytes);
            filter_state(&bytes);
            verify_signature(&bytes);
            sign(&bytes);
        }
    }
}
