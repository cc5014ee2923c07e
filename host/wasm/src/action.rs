//! The callbacks of a stream, and what a guest's answer to them means.

/// A callback on a stream context.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Callback {
    /// `proxy_on_request_headers`
    RequestHeaders {
        /// Nothing follows the headers.
        end_of_stream: bool,
    },
    /// `proxy_on_request_body`, on [`StreamIo::request_body`](crate::StreamIo::request_body)
    RequestBody {
        /// Nothing follows this data; false when trailers follow.
        end_of_stream: bool,
    },
    /// `proxy_on_request_trailers`
    RequestTrailers,
    /// `proxy_on_response_headers`
    ResponseHeaders {
        /// Nothing follows the headers.
        end_of_stream: bool,
    },
    /// `proxy_on_response_body`, on [`StreamIo::response_body`](crate::StreamIo::response_body)
    ResponseBody {
        /// Nothing follows this data; false when trailers follow.
        end_of_stream: bool,
    },
    /// `proxy_on_response_trailers`
    ResponseTrailers,
    /// `proxy_on_log`: Envoy calls it before [`Done`](Self::Done).
    Log,
    /// `proxy_on_done`: then the stream is deleted.
    Done,
}

/// Which half of an exchange.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Direction {
    /// From the client to the backend.
    Request,
    /// From the backend to the client.
    Response,
}

/// What the data plane does with what it gave to a callback.
///
/// | | headers | body | trailers |
/// |---|---|---|---|
/// | `Continue` | pass on | pass on | pass on |
/// | `Pause` | `StopAllIterationAndBuffer` | `StopIterationAndBuffer` | `StopIteration` |
/// | `PauseWatermark` | `StopAllIterationAndWatermark` | `StopIterationAndWatermark` | |
/// | `PauseHeaders` | `StopIteration` | | |
/// | `PauseNoBuffer` | | `StopIterationNoBuffer` | |
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Action {
    /// Pass it on.
    Continue,
    /// Hold it until [`Effect::Resume`](crate::Effect::Resume). In a headers callback no further callback comes before that; in a body
    /// callback the next one sees everything held so far. A body over the limit is an error: 413, or 500 for a response.
    Pause,
    /// Like [`Pause`](Self::Pause), but a full buffer slows the sender down instead of failing.
    PauseWatermark,
    /// Headers only: held, while body and trailers callbacks go on.
    PauseHeaders,
    /// Body only: stop, and this piece is not kept.
    PauseNoBuffer,
}

// === impl Action ===

impl Action {
    /// Whether nothing is held.
    #[inline]
    pub const fn is_continue(self) -> bool {
        matches!(self, Self::Continue)
    }
}

// === impl Callback ===

impl Callback {
    /// The meaning of the guest's return value; `stopped` after it sent a local reply.
    pub(crate) const fn action(
        self,
        value: u32,
        stopped: bool,
        headers_wait_for_body: bool,
    ) -> Action {
        match self {
            Self::RequestHeaders { .. } | Self::ResponseHeaders { .. } => match value {
                _ if stopped => Action::PauseWatermark,
                // 2 is ContinueAndEndStream, which Envoy's converter turns into Continue.
                0 | 2 => Action::Continue,
                1 if headers_wait_for_body => Action::PauseHeaders,
                3 => Action::Pause,
                _ => Action::PauseWatermark,
            },
            Self::RequestBody { .. } | Self::ResponseBody { .. } => match value {
                _ if stopped => Action::PauseNoBuffer,
                0 => Action::Continue,
                1 => Action::Pause,
                2 => Action::PauseWatermark,
                _ => Action::PauseNoBuffer,
            },
            Self::RequestTrailers | Self::ResponseTrailers => {
                if value == 0 && !stopped {
                    Action::Continue
                } else {
                    Action::Pause
                }
            }
            Self::Log | Self::Done => Action::Continue,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_the_abi() {
        let headers = Callback::RequestHeaders {
            end_of_stream: false,
        };
        let body = Callback::ResponseBody {
            end_of_stream: true,
        };
        let cases = [
            (headers, 0, Action::Continue),
            (headers, 1, Action::PauseWatermark),
            (headers, 2, Action::Continue),
            (headers, 3, Action::Pause),
            (headers, 4, Action::PauseWatermark),
            (headers, 77, Action::PauseWatermark),
            (body, 0, Action::Continue),
            (body, 1, Action::Pause),
            (body, 2, Action::PauseWatermark),
            (body, 3, Action::PauseNoBuffer),
            (body, u32::MAX, Action::PauseNoBuffer),
            (Callback::RequestTrailers, 0, Action::Continue),
            (Callback::ResponseTrailers, 1, Action::Pause),
            (Callback::RequestTrailers, 9, Action::Pause),
            (Callback::Done, 0, Action::Continue),
        ];
        for (callback, value, expected) in cases {
            assert_eq!(
                callback.action(value, false, false),
                expected,
                "{callback:?} {value}"
            );
        }
        assert_eq!(headers.action(1, false, true), Action::PauseHeaders);
        assert_eq!(headers.action(0, true, true), Action::PauseWatermark);
        assert_eq!(body.action(0, true, false), Action::PauseNoBuffer);
        assert_eq!(
            Callback::RequestTrailers.action(0, true, false),
            Action::Pause
        );
    }
}
