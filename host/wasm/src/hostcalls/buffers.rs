//! Bodies, configurations, and what calls brought.

use bytes::BytesMut;

use super::Guest;
use crate::body::BodyData;
use crate::contexts::Open;
use crate::guest::{bytes, deliver_with, split, write_u32};
use crate::host::{Callout, Host};
use crate::status::{Outcome, Status};

/// `WasmBufferType`. There is no raw TCP here, so its two buffers are never there.
#[derive(Clone, Copy)]
pub(crate) enum Buffer {
    RequestBody,
    ResponseBody,
    Tcp,
    HttpCallBody,
    GrpcMessage,
    VmConfiguration,
    PluginConfiguration,
    CallData,
}

/// `proxy_get_buffer_bytes`: what lies past the end is cut off.
pub(super) fn get(
    caller: &mut Guest<'_>,
    buffer: u32,
    start: u32,
    max: u32,
    ptr_out: u32,
    size_out: u32,
) -> Outcome {
    let buffer = Buffer::try_from(buffer)?;
    let length = part(caller.data(), buffer, start, max)?.len();
    deliver_with(caller, length, ptr_out, size_out, |host, target| {
        // The allocator cannot have changed the buffer: it may only log.
        if let Ok(part) = part(host, buffer, start, max) {
            target.copy_from_slice(part);
        }
    })
}

/// `proxy_get_buffer_status`; there are no flags.
pub(super) fn status(
    caller: &mut Guest<'_>,
    buffer: u32,
    length_out: u32,
    flags_out: u32,
) -> Outcome {
    let buffer = Buffer::try_from(buffer)?;
    let (memory, host) = split(caller)?;
    let length = u32::try_from(content(host, buffer)?.len()).unwrap_or(u32::MAX);
    write_u32(memory, length_out, length)?;
    write_u32(memory, flags_out, 0)?;
    Ok(())
}

/// `proxy_set_buffer_bytes`, in the ways that Envoy knows: prepend, replace all, replace the first bytes, append.
pub(super) fn set(
    caller: &mut Guest<'_>,
    buffer: u32,
    start: u32,
    length: u32,
    ptr: u32,
    size: u32,
) -> Outcome {
    let buffer = Buffer::try_from(buffer)?;
    let (memory, host) = split(caller)?;
    content(host, buffer)?;
    let data = bytes(memory, ptr, size)?;
    Ok(replace(host, buffer, (start, length), data)?)
}

/// Puts `data` in place of `length` bytes from `start` on.
pub(crate) fn replace(
    host: &mut Host,
    buffer: Buffer,
    (start, length): (u32, u32),
    data: &[u8],
) -> Result<(), Status> {
    let limit = host.root().map_or(0, |root| root.plugin.buffered_body);
    let body = body_mut(host, buffer).ok_or(Status::BadArgument)?;
    write(
        body.make_mut(),
        start as usize,
        length as usize,
        data,
        limit,
    )
}

/// A part of a buffer; what lies past its end is cut off.
fn range(content: &[u8], start: u32, max: u32) -> std::ops::Range<usize> {
    // Envoy adds in 64 bits: a range beyond every body is an empty one.
    let end = usize::try_from(u64::from(start) + u64::from(max)).unwrap_or(usize::MAX);
    let end = end.min(content.len());
    (start as usize).min(end)..end
}

/// The part of a buffer from `start` on, of at most `max` bytes.
pub(crate) fn part(host: &Host, buffer: Buffer, start: u32, max: u32) -> Result<&[u8], Status> {
    let content = content(host, buffer)?;
    Ok(&content[range(content, start, max)])
}

fn write(
    body: &mut BytesMut,
    start: usize,
    length: usize,
    data: &[u8],
    limit: usize,
) -> Result<(), Status> {
    let replaced = if start == 0 {
        length.min(body.len())
    } else {
        0
    };
    if start > 0 && start < body.len() {
        return Err(Status::BadArgument);
    }
    // The body lies in the host's memory: what the guest makes of it must stay in bounds, but it may always shrink it.
    let result = body.len() - replaced + data.len();
    if result > limit && result > body.len() {
        return Err(Status::InternalFailure);
    }
    if start > 0 {
        body.extend_from_slice(data);
        return Ok(());
    }
    let tail = body.split_off(replaced);
    body.clear();
    body.extend_from_slice(data);
    body.unsplit(tail);
    Ok(())
}

/// A buffer's content. What is not there is empty, except for the answer to a call and the configuration, which are not found.
pub(crate) fn content(host: &Host, buffer: Buffer) -> Result<&[u8], Status> {
    let body = |part: Open| {
        let stream = host.stream().filter(|stream| stream.open.has(part))?;
        stream.io.as_deref()
    };
    Ok(match buffer {
        Buffer::RequestBody => body(Open::REQUEST_BODY).map_or(&[], |io| &io.request_body),
        Buffer::ResponseBody => body(Open::RESPONSE_BODY).map_or(&[], |io| &io.response_body),
        Buffer::VmConfiguration => &host.vm.vm_config,
        Buffer::PluginConfiguration => {
            &host
                .root()
                .filter(|_| host.configuring)
                .ok_or(Status::NotFound)?
                .plugin
                .config
        }
        Buffer::HttpCallBody => match host.callout() {
            Some(Callout::Http(response)) => &response.body,
            _ => return Err(Status::NotFound),
        },
        Buffer::GrpcMessage => match host.callout() {
            Some(Callout::GrpcMessage(message)) => message,
            _ => &[],
        },
        Buffer::Tcp | Buffer::CallData => &[],
    })
}

fn body_mut(host: &mut Host, buffer: Buffer) -> Option<&mut BodyData> {
    let stream = host.stream_mut()?;
    match buffer {
        Buffer::RequestBody if stream.open.has(Open::REQUEST_BODY) => {
            Some(&mut stream.io.as_deref_mut()?.request_body)
        }
        Buffer::ResponseBody if stream.open.has(Open::RESPONSE_BODY) => {
            Some(&mut stream.io.as_deref_mut()?.response_body)
        }
        _ => None,
    }
}

impl TryFrom<u32> for Buffer {
    type Error = Status;

    fn try_from(value: u32) -> Result<Self, Status> {
        Ok(match value {
            0 => Self::RequestBody,
            1 => Self::ResponseBody,
            2 | 3 => Self::Tcp,
            4 => Self::HttpCallBody,
            5 => Self::GrpcMessage,
            6 => Self::VmConfiguration,
            7 => Self::PluginConfiguration,
            8 => Self::CallData,
            _ => return Err(Status::BadArgument),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ways_to_write() {
        let cases: [(usize, usize, &str, Result<&str, Status>); 9] = [
            (0, 0, "<", Ok("<abcd")),
            (0, 4, "new", Ok("new")),
            (0, 99, "new", Ok("new")),
            (0, 99, "", Ok("")),
            (0, 2, "XYZ", Ok("XYZcd")),
            (4, 0, ">", Ok("abcd>")),
            (99, 7, ">", Ok("abcd>")),
            (1, 1, "x", Err(Status::BadArgument)),
            (3, 9, "x", Err(Status::BadArgument)),
        ];
        for (start, length, data, expected) in cases {
            let mut body = BytesMut::from("abcd");
            let result = write(&mut body, start, length, data.as_bytes(), 100);
            assert_eq!(
                result.map(|()| &body[..]),
                expected.map(str::as_bytes),
                "{start} {length} {data}"
            );
        }
    }

    #[test]
    fn a_body_may_not_grow_past_its_limit() {
        let mut body = BytesMut::from("abcd");
        assert_eq!(write(&mut body, 4, 0, b"efgh", 8), Ok(()));
        assert_eq!(
            write(&mut body, 8, 0, b"i", 8),
            Err(Status::InternalFailure)
        );
        assert_eq!(
            write(&mut body, 0, 8, b"123456789", 8),
            Err(Status::InternalFailure)
        );
        assert_eq!(
            write(&mut body, 0, 0, b"i", 8),
            Err(Status::InternalFailure)
        );
        assert_eq!(&body[..], b"abcdefgh");
        // Over the limit already, as received: shrinking is fine.
        assert_eq!(write(&mut body, 0, 2, b"1", 4), Ok(()));
        assert_eq!(&body[..], b"1cdefgh");
    }
}
