//! The end of an exchange: on_log for all its filters, then on_done and on_delete.

use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use http::{HeaderMap, StatusCode, Version};
use tidegate_wasm::Callback;
use tokio::time::Instant;

use super::{Chain, Home, Seat, Step};
use crate::error::flags;
use crate::stream::{FILTER_REPLY, Record};

/// What filters learn at the end.
struct Ending {
    status: Option<StatusCode>,
    details: &'static str,
    flags: u64,
    trailers: Option<Box<HeaderMap>>,
    duration: Duration,
    /// Since the upstream was turned to.
    upstream: Option<Duration>,
    received: u64,
    sent: u64,
    attempts: u32,
}

impl Chain {
    /// The end of the exchange: on_log for all, then on_done and on_delete. Beside the worker where the VMs are there.
    pub(crate) fn finish(&mut self, record: &Record, received: u64, sent: u64) {
        if !self.has_modules {
            return;
        }
        let now = Instant::now();
        let ending = Ending {
            status: StatusCode::from_u16(record.status).ok(),
            details: record.details,
            flags: record.flags
                | match record.complete {
                    true => 0,
                    // A client of HTTP/2 that leaves resets its stream.
                    false if record.version == Version::HTTP_2 => flags::DOWNSTREAM_REMOTE_RESET,
                    false => flags::DOWNSTREAM_CONNECTION_TERMINATION,
                },
            trailers: record.trailers.clone(),
            duration: now - record.started,
            upstream: record.upstream_started.map(|started| now - started),
            received,
            sent,
            attempts: record.tries.count,
        };
        let chain = std::mem::take(self);
        if chain.is_aside() {
            tokio::task::spawn_local(chain.end(ending));
        } else {
            // Ordinary VMs are here, so nothing is waited for.
            let end = pin!(chain.end(ending));
            let ended = end.poll(&mut Context::from_waker(Waker::noop()));
            debug_assert!(ended.is_ready(), "ordinary VMs answer at once");
        }
    }

    async fn end(mut self, ending: Ending) {
        if self.is_away() {
            self.fetch().await;
        }
        self.home.with(|io| {
            let attributes = &mut io.attributes;
            attributes.response_code = ending.status;
            // A filter's reply may have brought its own.
            if ending.details != FILTER_REPLY || attributes.response_code_details.is_none() {
                attributes.response_code_details = Some(ending.details.into());
            }
            attributes.response_flags = ending.flags;
            attributes.backend_latency = ending.upstream.filter(|_| attributes.upstream.is_some());
            attributes.duration = Some(ending.duration);
            attributes.request_bytes = ending.received;
            attributes.response_bytes = ending.sent;
            attributes.attempts = ending.attempts;
            if let Some(trailers) = ending.trailers {
                io.response_trailers = Some(*trailers);
            }
        });
        for at in 0..self.steps.len() {
            if self.module(at).is_some() {
                // A failure here takes the VM along, which is all that is left to do for this exchange.
                let _ = self.last_call(at, Callback::Log).await;
            }
        }
        for at in 0..self.steps.len() {
            // The exchange goes along: on_done and on_delete still read properties.
            if let Some(seat) = self.last_call(at, Callback::Done).await {
                let Seat { cell, id, plugin } = seat;
                let deleted = cell.call(&plugin, move |vm| vm.delete_stream(id)).await;
                if let Ok(io) = deleted {
                    self.home = io.map_or(Home::None, Home::Here);
                }
            }
        }
        self.steps.clear();
    }

    /// One of the last callbacks. `None` if it could not be made, or failed.
    async fn last_call(&mut self, at: usize, callback: Callback) -> Option<Seat> {
        let Some(Step::Module(module)) = self.steps.get(at) else {
            return None;
        };
        let cell = module.context.cell.clone();
        if cell.is_aside() || self.is_away() {
            self.fetch().await;
        }
        let turn = cell.turn().await.ok()?;
        let seat = self.seat(at)?;
        let id = seat.id;
        let called = cell
            .run(turn, &seat.plugin, move |vm| vm.call(id, callback))
            .await;
        called.is_ok().then_some(seat)
    }
}
