//! The part of WASI preview 1 that proxy-wasm hosts offer, under both of its module names.
//!
//! No files, no sockets, no sleep: what guests use of it is standard output, clocks, random numbers and their environment. The
//! rest answers as proxy-wasm-cpp-host does, since the start-up code of Go, Rust and C++ relies on exactly that.

use std::fs::File;
use std::io::Read;
use std::sync::OnceLock;
use std::time::Instant;

use crate::engine::Functions;
use crate::guest::{bytes, bytes_mut, read_u32, split, write_u32, write_u64};
use crate::host::Gate;
use crate::hostcalls::{Guest, admit};
use crate::status::{Outcome, Status};

const SUCCESS: u32 = 0;
const BADF: u32 = 8;
const FAULT: u32 = 21;
const INVAL: u32 = 28;
const IO: u32 = 29;
const NOENT: u32 = 44;
const NOSYS: u32 = 52;
const NOTSUP: u32 = 58;

/// Most bytes of one `random_get`.
pub(crate) const MAX_RANDOM: u32 = 64 << 10;
/// Most buffers and bytes of one write that are looked at.
const MAX_BUFFERS: u32 = 1024;
pub(crate) const MAX_LINE: usize = 8 << 10;

macro_rules! wasi {
    ($functions:ident, $module:literal: $( $name:ident($($arg:ident: $ty:ty),*) $gate:ident => $body:expr; )*) => {
        $(
            $functions.names.insert(($module, stringify!($name)));
            $functions.linker.func_wrap(
                $module,
                stringify!($name),
                |mut caller: Guest<'_>, $($arg: $ty),*| -> wasmtime::Result<u32> {
                    admit(&caller, stringify!($name), Gate::$gate)?;
                    let body: fn(&mut Guest<'_>, $($ty),*) -> u32 = $body;
                    Ok(body(&mut caller, $($arg),*))
                },
            )?;
        )*
    };
}

/// Registers one module name. A macro, since the linker's names are literals.
macro_rules! register_module {
    ($functions:ident, $module:literal) => {
        wasi! { $functions, $module:
            args_get(_argv: u32, _buffer: u32) Starting => |_, _, _| SUCCESS;
            args_sizes_get(count: u32, size: u32) Starting => |caller, count, size| two_numbers(caller, (count, 0), (size, 0));
            environ_get(environ: u32, buffer: u32) Starting => environ_get;
            environ_sizes_get(count: u32, size: u32) Starting => environ_sizes_get;
            clock_res_get(id: u32, out: u32) Starting => |caller, id, out| match id {
                0 | 1 => number(caller, out, 1),
                _ => NOTSUP,
            };
            clock_time_get(id: u32, _precision: u64, out: u32) Allocating => |caller, id, _, out| match id {
                0 => {
                    let now = caller.data().shared.now();
                    number(caller, out, now)
                }
                1 => number(caller, out, monotonic_nanoseconds()),
                _ => NOTSUP,
            };
            random_get(ptr: u32, size: u32) Starting => random_get;
            // Never sleeps: no event came. Go's runtime gives up on anything but success.
            poll_oneoff(_in: u32, _out: u32, _count: u32, events: u32) Allocating => |caller, _, _, _, events| {
                status(split(caller).and_then(|(memory, _)| Ok(write_u32(memory, events, 0)?)))
            };
            sched_yield() Running => |_| SUCCESS;

            fd_write(fd: u32, buffers: u32, count: u32, written: u32) Allocating => fd_write;
            fd_pwrite(fd: u32, buffers: u32, count: u32, _at: u64, written: u32) Starting
                => |caller, fd, buffers, count, _, written| fd_write(caller, fd, buffers, count, written);
            fd_read(_fd: u32, _buffers: u32, _count: u32, _read: u32) Running => |_, _, _, _, _| NOSYS;
            fd_pread(_fd: u32, _buffers: u32, _count: u32, _at: u64, _read: u32) Starting => |_, _, _, _, _, _| NOSYS;
            fd_seek(_fd: u32, _offset: i64, _whence: u32, _out: u32) Running => |_, _, _, _, _| SUCCESS;
            fd_close(_fd: u32) Running => |_, _| SUCCESS;
            fd_fdstat_get(fd: u32, out: u32) Starting => fd_fdstat_get;
            fd_fdstat_set_flags(_fd: u32, _flags: u32) Starting => |_, _, _| NOSYS;
            fd_fdstat_set_rights(fd: u32, _base: u64, _inheriting: u64) Starting => |_, fd, _, _| output(fd);
            fd_filestat_get(_fd: u32, _out: u32) Starting => |_, _, _| BADF;
            fd_filestat_set_size(fd: u32, _size: u64) Starting => |_, fd, _| output(fd);
            fd_filestat_set_times(fd: u32, _access: u64, _modify: u64, _flags: u32) Starting => |_, fd, _, _, _| output(fd);
            // Ends libc's look for preopened directories.
            fd_prestat_get(_fd: u32, _out: u32) Starting => |_, _, _| BADF;
            fd_prestat_dir_name(_fd: u32, _path: u32, _size: u32) Starting => |_, _, _, _| NOSYS;
            fd_advise(_fd: u32, _offset: u64, _length: u64, _advice: u32) Starting => |_, _, _, _, _| SUCCESS;
            fd_allocate(fd: u32, _offset: u64, _length: u64) Starting => |_, fd, _, _| output(fd);
            fd_datasync(fd: u32) Starting => |_, fd| output(fd);
            fd_sync(fd: u32) Starting => |_, fd| output(fd);
            fd_tell(fd: u32, _out: u32) Starting => |_, fd, _| output(fd);
            fd_readdir(_fd: u32, _buffer: u32, _size: u32, _cookie: u64, _used: u32) Starting => |_, _, _, _, _, _| 20;
            fd_renumber(fd: u32, _to: u32) Starting => |_, fd, _| if output(fd) == SUCCESS { NOTSUP } else { BADF };

            path_open(
                _fd: u32, _lookup: u32, _path: u32, _size: u32, _flags: u32, _base: u64, _inheriting: u64, _fdflags: u32, _out: u32
            ) Running => |_, _, _, _, _, _, _, _, _, _| NOENT;
            path_create_directory(_fd: u32, _path: u32, _size: u32) Starting => |_, _, _, _| NOTSUP;
            path_filestat_get(_fd: u32, _flags: u32, _path: u32, _size: u32, _out: u32) Starting => |_, _, _, _, _, _| NOTSUP;
            path_filestat_set_times(
                _fd: u32, _flags: u32, _path: u32, _size: u32, _access: u64, _modify: u64, _times: u32
            ) Starting => |_, _, _, _, _, _, _, _| NOTSUP;
            path_link(_fd: u32, _flags: u32, _path: u32, _size: u32, _to: u32, _target: u32, _length: u32) Starting
                => |_, _, _, _, _, _, _, _| NOTSUP;
            path_readlink(_fd: u32, _path: u32, _size: u32, _buffer: u32, _length: u32, _used: u32) Starting
                => |_, _, _, _, _, _, _| NOTSUP;
            path_remove_directory(_fd: u32, _path: u32, _size: u32) Starting => |_, _, _, _| NOTSUP;
            path_rename(_fd: u32, _path: u32, _size: u32, _to: u32, _target: u32, _length: u32) Starting
                => |_, _, _, _, _, _, _| NOTSUP;
            path_symlink(_path: u32, _size: u32, _fd: u32, _target: u32, _length: u32) Starting => |_, _, _, _, _, _| NOTSUP;
            path_unlink_file(_fd: u32, _path: u32, _size: u32) Starting => |_, _, _, _| NOTSUP;

            sock_accept(_fd: u32, _flags: u32, _out: u32) Starting => |_, _, _, _| NOTSUP;
            sock_recv(_fd: u32, _buffers: u32, _count: u32, _flags: u32, _size: u32, _out: u32) Starting
                => |_, _, _, _, _, _, _| NOTSUP;
            sock_send(_fd: u32, _buffers: u32, _count: u32, _flags: u32, _size: u32) Starting => |_, _, _, _, _, _| NOTSUP;
            sock_shutdown(_fd: u32, _how: u32) Starting => |_, _, _| NOTSUP;
        }
        // It returns to the guest, which then traps by itself: its callers take it for a function that does not return.
        $functions.names.insert(($module, "proc_exit"));
        $functions.linker.func_wrap($module, "proc_exit", |mut caller: Guest<'_>, code: u32| -> wasmtime::Result<()> {
            admit(&caller, "proc_exit", Gate::Running)?;
            caller.data_mut().log(4, format!("proc_exit({code})").as_bytes());
            Ok(())
        })?;
    };
}

/// Links all of it.
pub(crate) fn register(functions: &mut Functions) -> wasmtime::Result<()> {
    register_module!(functions, "wasi_snapshot_preview1");
    register_module!(functions, "wasi_unstable");
    Ok(())
}

/// Standard output logs at info, standard error at error.
fn fd_write(caller: &mut Guest<'_>, fd: u32, buffers: u32, count: u32, written: u32) -> u32 {
    let level = match fd {
        1 => 2,
        2 => 4,
        _ => return BADF,
    };
    status(split(caller).and_then(|(memory, host)| {
        let mut line = Vec::new();
        let mut total = 0_u32;
        for index in 0..count.min(MAX_BUFFERS) {
            let entry = buffers
                .checked_add(index * 8)
                .ok_or(Status::InvalidMemoryAccess)?;
            let (ptr, len) = (
                read_u32(memory, entry)?,
                read_u32(memory, entry.saturating_add(4))?,
            );
            let part = bytes(memory, ptr, len)?;
            line.extend_from_slice(&part[..part.len().min(MAX_LINE - line.len())]);
            total = total.saturating_add(len);
        }
        write_u32(memory, written, total)?;
        if total > 0 {
            host.log(level, line.strip_suffix(b"\n").unwrap_or(&line));
        }
        Ok(())
    }))
}

fn fd_fdstat_get(caller: &mut Guest<'_>, fd: u32, out: u32) -> u32 {
    /// `rights::fd_write`
    const FD_WRITE: u64 = 64;
    if output(fd) != SUCCESS {
        return BADF;
    }
    status(split(caller).and_then(|(memory, _)| {
        bytes_mut(memory, out, 24)?.fill(0);
        Ok(write_u64(memory, out.saturating_add(8), FD_WRITE)?)
    }))
}

fn environ_get(caller: &mut Guest<'_>, environ: u32, buffer: u32) -> u32 {
    status(split(caller).and_then(|(memory, host)| {
        let (mut entry, mut at) = (environ, buffer);
        for (name, value) in &host.vm.env {
            let text = format!("{name}={value}\0");
            let len = u32::try_from(text.len()).map_err(|_| Status::InvalidMemoryAccess)?;
            write_u32(memory, entry, at)?;
            bytes_mut(memory, at, len)?.copy_from_slice(text.as_bytes());
            entry = entry.checked_add(4).ok_or(Status::InvalidMemoryAccess)?;
            at = at.checked_add(len).ok_or(Status::InvalidMemoryAccess)?;
        }
        Ok(())
    }))
}

fn environ_sizes_get(caller: &mut Guest<'_>, count: u32, size: u32) -> u32 {
    let env = &caller.data().vm.env;
    let bytes: usize = env
        .iter()
        .map(|(name, value)| name.len() + value.len() + 2)
        .sum();
    let (entries, bytes) = (u32::try_from(env.len()), u32::try_from(bytes));
    match (entries, bytes) {
        (Ok(entries), Ok(bytes)) => two_numbers(caller, (count, entries), (size, bytes)),
        _ => INVAL,
    }
}

fn random_get(caller: &mut Guest<'_>, ptr: u32, size: u32) -> u32 {
    if size > MAX_RANDOM {
        return INVAL;
    }
    let Ok((memory, _)) = split(caller) else {
        return FAULT;
    };
    let Ok(target) = bytes_mut(memory, ptr, size) else {
        return FAULT;
    };
    fill_random(target).map_or(IO, |()| SUCCESS)
}

/// Random bytes of the system, if it has some.
pub(crate) fn fill_random(target: &mut [u8]) -> Option<()> {
    /// Kept open: the device outlives any change of root or limits on files.
    static RANDOM: OnceLock<Option<File>> = OnceLock::new();
    let device = RANDOM.get_or_init(|| File::open("/dev/urandom").ok());
    let mut device = device.as_ref()?;
    device.read_exact(target).ok()
}

fn two_numbers(caller: &mut Guest<'_>, first: (u32, u32), second: (u32, u32)) -> u32 {
    status(split(caller).and_then(|(memory, _)| {
        write_u32(memory, first.0, first.1)?;
        Ok(write_u32(memory, second.0, second.1)?)
    }))
}

fn number(caller: &mut Guest<'_>, out: u32, value: u64) -> u32 {
    status(split(caller).and_then(|(memory, _)| Ok(write_u64(memory, out, value)?)))
}

/// Success for standard output and error only.
fn output(fd: u32) -> u32 {
    if matches!(fd, 1 | 2) { SUCCESS } else { BADF }
}

/// Everything that can go wrong here is a pointer.
fn status(outcome: Outcome) -> u32 {
    outcome.map_or(FAULT, |()| SUCCESS)
}

pub(crate) fn monotonic_nanoseconds() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let elapsed = START.get_or_init(Instant::now).elapsed();
    u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
}
