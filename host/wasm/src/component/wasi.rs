//! The part of WASI 0.2 that filters have: what proxy-wasm modules get of preview 1 (see [`crate::wasi`]), in its typed form.
//!
//! Standard output, clocks, random numbers and the environment. No files, no sockets, no sleep: a wait is over at once. What is
//! not here traps when it is called.

use wasmtime::component::{
    ComponentType, Lift, Linker, LinkerInstance, Lower, Resource, ResourceType,
};
use wasmtime::{StoreContextMut, format_err};

use crate::host::Host;
use crate::wasi::{MAX_LINE, MAX_RANDOM, fill_random, monotonic_nanoseconds};

/// Bytes that a stream takes at a time.
const CHUNK: u64 = 64 << 10;

/// A handle of any of WASI's resources. They are one type, which is also that of the resources that wasmtime stubs, so that
/// interfaces here and stubbed ones can name each other's. Nothing can be mistaken: the number means the level at which an
/// output stream logs, and of others nothing (input is always at its end, a pollable always ready, a terminal never there).
type Handle = Resource<()>;

/// `wasi:io/streams.stream-error`
#[derive(ComponentType, Lift, Lower)]
#[component(variant)]
enum StreamError {
    #[component(name = "last-operation-failed")]
    LastOperationFailed(Handle),
    #[component(name = "closed")]
    Closed,
}

/// `wasi:clocks/wall-clock.datetime`
#[derive(ComponentType, Lift, Lower)]
#[component(record)]
struct Datetime {
    seconds: u64,
    nanoseconds: u32,
}

/// The interfaces that are here, without their version.
const INTERFACES: [&str; 18] = [
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
];

type Store<'a> = StoreContextMut<'a, Host>;
type Stream<T = ()> = (Result<T, StreamError>,);

/// Whether filters have this interface of WASI (`wasi:cli/stdout@0.2.6`). What they do not have traps when it is called.
pub fn has_wasi(interface: &str) -> bool {
    interface
        .split_once('@')
        .is_some_and(|(name, version)| version.starts_with("0.2.") && INTERFACES.contains(&name))
}

/// Adds the interfaces of one version of WASI 0.2. A component's imports name theirs, and what is missing of an instance that is
/// there by that name is not looked for under another.
pub(super) fn add_to_linker(linker: &mut Linker<Host>, version: &str) -> wasmtime::Result<()> {
    cli(linker, version)?;
    clocks(linker, version)?;
    random(linker, version)?;
    poll(&mut instance(linker, "wasi:io/poll", version)?)?;
    let mut error = instance(linker, "wasi:io/error", version)?;
    resource(&mut error, "error")?;
    error.func_wrap(
        "[method]error.to-debug-string",
        |_: Store<'_>, (_,): (Handle,)| Ok((String::from("closed"),)),
    )?;
    let mut streams = instance(linker, "wasi:io/streams", version)?;
    output(&mut streams)?;
    input(&mut streams)
}

fn instance<'a>(
    linker: &'a mut Linker<Host>,
    interface: &str,
    version: &str,
) -> wasmtime::Result<LinkerInstance<'a, Host>> {
    debug_assert!(
        INTERFACES.contains(&interface),
        "{interface} is not in the list"
    );
    linker.instance(&format!("{interface}@{version}"))
}

fn resource(instance: &mut LinkerInstance<'_, Host>, name: &str) -> wasmtime::Result<()> {
    instance.resource(name, ResourceType::host::<()>(), |_, _| Ok(()))
}

fn cli(linker: &mut Linker<Host>, version: &str) -> wasmtime::Result<()> {
    let mut environment = instance(linker, "wasi:cli/environment", version)?;
    environment.func_wrap("get-environment", |store: Store<'_>, (): ()| {
        let env = &store.data().vm.env;
        let pairs = env
            .iter()
            .map(|(name, value)| (name.clone(), value.clone()));
        Ok((pairs.collect::<Vec<_>>(),))
    })?;
    environment.func_wrap("get-arguments", |_: Store<'_>, (): ()| {
        Ok((Vec::<String>::new(),))
    })?;
    environment.func_wrap("initial-cwd", |_: Store<'_>, (): ()| Ok((None::<String>,)))?;
    instance(linker, "wasi:cli/exit", version)?.func_wrap(
        "exit",
        |_: Store<'_>, (status,): (Result<(), ()>,)| -> wasmtime::Result<()> {
            Err(format_err!("exit({})", i32::from(status.is_err())))
        },
    )?;
    instance(linker, "wasi:cli/stdin", version)?
        .func_wrap("get-stdin", |_: Store<'_>, (): ()| {
            Ok((Handle::new_own(0),))
        })?;
    // Standard output logs at info, standard error at error.
    for (interface, function, level) in [
        ("wasi:cli/stdout", "get-stdout", 2),
        ("wasi:cli/stderr", "get-stderr", 4),
    ] {
        instance(linker, interface, version)?
            .func_wrap(function, move |_: Store<'_>, (): ()| {
                Ok((Handle::new_own(level),))
            })?;
    }
    for (interface, name) in [
        ("wasi:cli/terminal-input", "terminal-input"),
        ("wasi:cli/terminal-output", "terminal-output"),
    ] {
        resource(&mut instance(linker, interface, version)?, name)?;
    }
    for name in ["stdin", "stdout", "stderr"] {
        instance(linker, &format!("wasi:cli/terminal-{name}"), version)?
            .func_wrap(&format!("get-terminal-{name}"), |_: Store<'_>, (): ()| {
                Ok((None::<Handle>,))
            })?;
    }
    Ok(())
}

fn clocks(linker: &mut Linker<Host>, version: &str) -> wasmtime::Result<()> {
    let mut monotonic = instance(linker, "wasi:clocks/monotonic-clock", version)?;
    monotonic.func_wrap("now", |_: Store<'_>, (): ()| Ok((monotonic_nanoseconds(),)))?;
    monotonic.func_wrap("resolution", |_: Store<'_>, (): ()| Ok((1_u64,)))?;
    for name in ["subscribe-instant", "subscribe-duration"] {
        monotonic.func_wrap(name, |_: Store<'_>, (_,): (u64,)| Ok((Handle::new_own(0),)))?;
    }
    let mut wall = instance(linker, "wasi:clocks/wall-clock", version)?;
    wall.func_wrap("now", |store: Store<'_>, (): ()| {
        Ok((datetime(store.data().shared.now()),))
    })?;
    wall.func_wrap("resolution", |_: Store<'_>, (): ()| Ok((datetime(1),)))
}

fn datetime(nanoseconds: u64) -> Datetime {
    const SECOND: u64 = 1_000_000_000;
    Datetime {
        seconds: nanoseconds / SECOND,
        nanoseconds: u32::try_from(nanoseconds % SECOND).unwrap_or(0),
    }
}

fn random(linker: &mut Linker<Host>, version: &str) -> wasmtime::Result<()> {
    for kind in ["", "insecure-"] {
        let interface = match kind {
            "" => "wasi:random/random",
            _ => "wasi:random/insecure",
        };
        let mut random = instance(linker, interface, version)?;
        random.func_wrap(
            &format!("get-{kind}random-bytes"),
            |_: Store<'_>, (count,): (u64,)| {
                let count = usize::try_from(count)
                    .ok()
                    .filter(|count| *count <= MAX_RANDOM as usize)
                    .ok_or_else(|| format_err!("more than {MAX_RANDOM} random bytes at once"))?;
                let mut bytes = vec![0; count];
                fill(&mut bytes)?;
                Ok((bytes,))
            },
        )?;
        random.func_wrap(&format!("get-{kind}random-u64"), |_: Store<'_>, (): ()| {
            Ok((random_number()?,))
        })?;
    }
    instance(linker, "wasi:random/insecure-seed", version)?
        .func_wrap("insecure-seed", |_: Store<'_>, (): ()| {
            Ok(((random_number()?, random_number()?),))
        })
}

fn random_number() -> wasmtime::Result<u64> {
    let mut bytes = [0; 8];
    fill(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

fn fill(bytes: &mut [u8]) -> wasmtime::Result<()> {
    fill_random(bytes).ok_or_else(|| format_err!("no random bytes"))
}

fn poll(poll: &mut LinkerInstance<'_, Host>) -> wasmtime::Result<()> {
    resource(poll, "pollable")?;
    poll.func_wrap("[method]pollable.ready", |_: Store<'_>, (_,): (Handle,)| {
        Ok((true,))
    })?;
    poll.func_wrap("[method]pollable.block", |_: Store<'_>, (_,): (Handle,)| {
        Ok(())
    })?;
    poll.func_wrap("poll", |_: Store<'_>, (all,): (Vec<Handle>,)| {
        let count = u32::try_from(all.len()).unwrap_or(u32::MAX);
        Ok(((0..count).collect::<Vec<u32>>(),))
    })
}

fn output(streams: &mut LinkerInstance<'_, Host>) -> wasmtime::Result<()> {
    resource(streams, "output-stream")?;
    streams.func_wrap(
        "[method]output-stream.check-write",
        |_: Store<'_>, (_,): (Handle,)| -> wasmtime::Result<Stream<u64>> { Ok((Ok(CHUNK),)) },
    )?;
    for name in ["write", "blocking-write-and-flush"] {
        streams.func_wrap(
            &format!("[method]output-stream.{name}"),
            |mut store: Store<'_>,
             (stream, bytes): (Handle, Vec<u8>)|
             -> wasmtime::Result<Stream> {
                let line = &bytes[..bytes.len().min(MAX_LINE)];
                if !line.is_empty() {
                    let line = line.strip_suffix(b"\n").unwrap_or(line);
                    store.data_mut().log(stream.rep(), line);
                }
                Ok((Ok(()),))
            },
        )?;
    }
    for name in ["flush", "blocking-flush"] {
        streams.func_wrap(
            &format!("[method]output-stream.{name}"),
            |_: Store<'_>, (_,): (Handle,)| -> wasmtime::Result<Stream> { Ok((Ok(()),)) },
        )?;
    }
    streams.func_wrap(
        "[method]output-stream.subscribe",
        |_: Store<'_>, (_,): (Handle,)| Ok((Handle::new_own(0),)),
    )
}

fn input(streams: &mut LinkerInstance<'_, Host>) -> wasmtime::Result<()> {
    resource(streams, "input-stream")?;
    for name in ["read", "blocking-read"] {
        streams.func_wrap(
            &format!("[method]input-stream.{name}"),
            |_: Store<'_>, (_, _): (Handle, u64)| -> wasmtime::Result<Stream<Vec<u8>>> {
                Ok((Err(StreamError::Closed),))
            },
        )?;
    }
    for name in ["skip", "blocking-skip"] {
        streams.func_wrap(
            &format!("[method]input-stream.{name}"),
            |_: Store<'_>, (_, _): (Handle, u64)| -> wasmtime::Result<Stream<u64>> {
                Ok((Err(StreamError::Closed),))
            },
        )?;
    }
    streams.func_wrap(
        "[method]input-stream.subscribe",
        |_: Store<'_>, (_,): (Handle,)| Ok((Handle::new_own(0),)),
    )
}

#[cfg(test)]
mod tests {
    use wasmtime::component::{Linker, ResourceType};

    use super::{INTERFACES, add_to_linker, has_wasi};

    #[test]
    fn the_list_is_what_is_linked() {
        let engine = wasmtime::Engine::default();
        let mut linker = Linker::new(&engine);
        add_to_linker(&mut linker, "0.2.6").unwrap();
        let mut is_linked = |name: &str| {
            // A name can be taken once.
            let mut root = linker.root();
            let taken = root.resource(name, ResourceType::host::<()>(), |_, _| Ok(()));
            taken.is_err()
        };
        for interface in INTERFACES {
            let name = format!("{interface}@0.2.6");
            assert!(has_wasi(&name) && is_linked(&name), "{name}");
        }
        for name in ["wasi:filesystem/types@0.2.6", "wasi:cli/stdout@0.3.0"] {
            assert!(!has_wasi(name) && !is_linked(name), "{name}");
        }
    }
}
