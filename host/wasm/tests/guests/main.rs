//! Each guest program has a test of its name here: a program without one does not compile.

#![allow(clippy::unwrap_used, reason = "what fails in a test fails the test")]

mod calls;
mod component;
mod data;
mod faults;
mod life;
mod messages;
mod raw;
mod run;

use component::{component, directed};

use calls::{grpc, http_call, queues};
use data::{foreign, metrics, properties, shared_data, wasi};
use faults::faults;
use life::{contexts, lifecycle, logs, start_initialize, start_section, start_start, timers};
use messages::{bodies, header, headers, hmac, noop, replies};
use raw::{abi_0_1_0, actions, callbacks, higress, hostcalls};

macro_rules! has_a_test {
    ($guest:ident) => {
        const _: fn() = $guest;
    };
}

tidegate_wasm_guests::foreach_guest!(has_a_test);
