//! WASI through its two module names.

use std::collections::BTreeMap;

use super::guest::{Arg, Call, Guest, plugin, vm_config};
use Arg::{Bytes, Int, Out};

const TICK: &str = "proxy_on_tick";
const MODULES: [&str; 2] = ["wasi_snapshot_preview1", "wasi_unstable"];

#[test]
fn fixed_answers() {
    let cases: [(&str, &[Arg<'_>], u32); 22] = [
        ("args_get", &[Out, Out], 0),
        ("clock_res_get", &[Int(0), Out], 0),
        ("clock_res_get", &[Int(2), Out], 58),
        ("clock_time_get", &[Int(2), Int(0), Out], 58),
        ("clock_time_get", &[Int(0), Int(0), Int(-1)], 21),
        ("random_get", &[Int(0), Int(65_537)], 28),
        ("random_get", &[Int(-1), Int(8)], 21),
        ("sched_yield", &[], 0),
        ("fd_write", &[Int(0), Int(0), Int(0), Out], 8),
        ("fd_write", &[Int(3), Int(0), Int(0), Out], 8),
        ("fd_write", &[Int(1), Int(-4), Int(1), Out], 21),
        ("fd_read", &[Int(0), Int(0), Int(0), Out], 52),
        ("fd_seek", &[Int(0), Int(0), Int(0), Out], 0),
        ("fd_close", &[Int(0)], 0),
        ("fd_fdstat_get", &[Int(0), Out], 8),
        ("fd_fdstat_set_flags", &[Int(1), Int(0)], 52),
        ("fd_prestat_get", &[Int(3), Out], 8),
        ("fd_prestat_dir_name", &[Int(3), Int(0), Int(0)], 52),
        ("fd_filestat_get", &[Int(1), Out], 8),
        (
            "path_open",
            &[
                Int(3),
                Int(0),
                Bytes(b"/etc"),
                Int(0),
                Int(0),
                Int(0),
                Int(0),
                Out,
            ],
            44,
        ),
        (
            "path_filestat_get",
            &[Int(3), Int(0), Bytes(b"/etc"), Out],
            58,
        ),
        ("environ_sizes_get", &[Int(-1), Out], 21),
    ];
    for module in MODULES {
        let mut guest = Guest::wasi(module);
        let calls: Vec<Call> = cases
            .iter()
            .map(|(name, args, _)| guest.call(TICK, name, args))
            .collect();
        let mut run = guest.start();
        run.vm.on_tick(run.root).unwrap();
        for ((name, args, expected), call) in cases.iter().zip(&calls) {
            assert_eq!(run.status(call), *expected, "{module} {name} {args:?}");
        }
    }
}

#[test]
fn arguments_and_environment() {
    let mut guest = Guest::wasi(MODULES[0]);
    let args = guest.call(TICK, "args_sizes_get", &[Out, Out]);
    let sizes = guest.call(TICK, "environ_sizes_get", &[Out, Out]);
    guest.call(TICK, "environ_get", &[Int(2000), Int(2100)]);
    let mut config = vm_config();
    config.env = BTreeMap::from([
        ("A".to_owned(), "1".to_owned()),
        ("HOME".to_owned(), String::new()),
    ]);
    let mut run = guest.start_with(config, plugin());
    run.vm.on_tick(run.root).unwrap();
    assert_eq!([run.out(&args, 0), run.out(&args, 1)], [0, 0]);
    assert_eq!([run.out(&sizes, 0), run.out(&sizes, 1)], [2, 10]);
    assert_eq!(run.memory(2100, 10), b"A=1\0HOME=\0");
    let pointers: Vec<u32> = run
        .memory(2000, 8)
        .chunks(4)
        .map(|word| u32::from_le_bytes(word.try_into().unwrap()))
        .collect();
    assert_eq!(pointers, [2100, 2104]);
}

#[test]
fn clocks_and_random_numbers() {
    let mut guest = Guest::wasi(MODULES[1]);
    let real = guest.call(TICK, "clock_time_get", &[Int(0), Int(0), Out]);
    let abi = guest.call(TICK, "proxy_get_current_time_nanoseconds", &[Out]);
    let first = guest.call(TICK, "clock_time_get", &[Int(1), Int(0), Out]);
    let second = guest.call(TICK, "clock_time_get", &[Int(1), Int(0), Out]);
    let random = guest.call(TICK, "random_get", &[Int(2000), Int(64)]);
    let events = guest.call(TICK, "poll_oneoff", &[Int(0), Int(0), Int(1), Out]);
    let mut run = guest.start();
    run.vm.on_tick(run.root).unwrap();
    assert_eq!(
        [&real, &abi, &first, &second, &random, &events].map(|call| run.status(call)),
        [0; 6]
    );
    // After 2020.
    assert!(run.out_u64(&real, 0) > 1_577_836_800_000_000_000);
    assert!(run.out_u64(&abi, 0) >= run.out_u64(&real, 0));
    assert!(run.out_u64(&second, 0) >= run.out_u64(&first, 0));
    assert_ne!(run.memory(2000, 64), [0; 64]);
    assert_eq!(run.out(&events, 0), 0, "no event, and no sleep");
}

#[test]
fn standard_output_and_error_are_logs() {
    let mut guest = Guest::wasi(MODULES[0]);
    guest.extra = "(data (i32.const 2000) \"\\10\\08\\00\\00\\05\\00\\00\\00\\20\\08\\00\\00\\04\\00\\00\\00\")
        (data (i32.const 0x810) \"hello\") (data (i32.const 0x820) \" you\\0a\" )"
        .replace("\" you\\0a\" ", "\" yo\\0a\"");
    let out = guest.call(TICK, "fd_write", &[Int(1), Int(2000), Int(2), Out]);
    let err = guest.call(TICK, "fd_write", &[Int(2), Int(2000), Int(2), Out]);
    let stat = guest.call(TICK, "fd_fdstat_get", &[Int(1), Int(3000)]);
    guest.raw(TICK, "unreachable");
    let mut run = guest.start();
    let failure = run.vm.on_tick(run.root).unwrap_err();
    assert_eq!(
        [run.status(&out), run.out(&out, 0)],
        [0, 9],
        "the newline counts, but is not logged"
    );
    assert_eq!(run.status(&err), 0);
    assert!(
        failure
            .to_string()
            .ends_with("its last error log: hello yo"),
        "{failure}"
    );
    assert_eq!(run.status(&stat), 0);
    let mut expected = [0; 24];
    expected[8] = 64;
    assert_eq!(run.memory(3000, 24), expected);
}

#[test]
fn exit_returns_to_the_guest() {
    let mut guest = Guest::wasi(MODULES[0]);
    guest.raw(TICK, "(call $proc_exit (i32.const 3))");
    let after = guest.call(TICK, "sched_yield", &[]);
    let mut run = guest.start();
    run.vm.on_tick(run.root).unwrap();
    assert_eq!(run.status(&after), 0);
}

#[test]
fn what_is_permitted_before_the_first_context() {
    for (name, args, permitted) in [
        ("environ_sizes_get", &[Out, Out][..], true),
        ("random_get", &[Int(2000), Int(8)], true),
        ("clock_time_get", &[Int(0), Int(0), Out], true),
        ("fd_prestat_get", &[Int(3), Out], true),
        ("fd_read", &[Int(0), Int(0), Int(0), Out], false),
        (
            "path_open",
            &[
                Int(3),
                Int(0),
                Bytes(b""),
                Int(0),
                Int(0),
                Int(0),
                Int(0),
                Out,
            ],
            false,
        ),
        ("sched_yield", &[], false),
    ] {
        let mut guest = Guest::wasi(MODULES[0]);
        guest.call("_initialize", name, args);
        let started = crate::Vm::start(
            &guest.module().unwrap(),
            std::sync::Arc::new(vm_config()),
            crate::Shared::new(),
        );
        assert_eq!(started.is_ok(), permitted, "{name}: {started:?}");
    }
}
