//! The definitions: numbers and names from Envoy v1.40's API.

use super::{Kind, Message, Method, field, list, message};

/// The methods that cases may name.
pub static METHODS: [Method; 2] = [
    Method {
        path: "envoy.service.auth.v3.Authorization/Check",
        request: &CHECK_REQUEST,
        response: &CHECK_RESPONSE,
    },
    Method {
        path: "envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit",
        request: &RATE_LIMIT_REQUEST,
        response: &RATE_LIMIT_RESPONSE,
    },
];

// === envoy.config.core.v3, google.protobuf ===

pub(super) static HEADER_VALUE: Message = message(
    "HeaderValue",
    &[
        field(1, "key", Kind::Text),
        field(2, "value", Kind::Text),
        field(3, "raw_value", Kind::Text),
    ],
);

static HEADER_VALUE_OPTION: Message = message(
    "HeaderValueOption",
    &[
        field(1, "header", Kind::Message(&HEADER_VALUE)),
        field(2, "append", Kind::Message(&BOOL_VALUE)),
        field(
            3,
            "append_action",
            Kind::Enum(&[
                "APPEND_IF_EXISTS_OR_ADD",
                "ADD_IF_ABSENT",
                "OVERWRITE_IF_EXISTS_OR_ADD",
                "OVERWRITE_IF_EXISTS",
            ]),
        ),
        field(4, "keep_empty_value", Kind::Bool),
    ],
);

static QUERY_PARAMETER: Message = message(
    "QueryParameter",
    &[field(1, "key", Kind::Text), field(2, "value", Kind::Text)],
);

static ADDRESS: Message = message(
    "Address",
    &[field(1, "socket_address", Kind::Message(&SOCKET_ADDRESS))],
);

static SOCKET_ADDRESS: Message = message(
    "SocketAddress",
    &[
        field(2, "address", Kind::Text),
        field(3, "port_value", Kind::Number),
    ],
);

static BOOL_VALUE: Message = message("BoolValue", &[field(1, "value", Kind::Bool)]);

static TIME: Message = message(
    "Timestamp or Duration",
    &[
        field(1, "seconds", Kind::Number),
        field(2, "nanos", Kind::Number),
    ],
);

/// A map whose values are messages: its entries are a list here.
static STRUCT: Message = message("Struct", &[list(1, "fields", Kind::Message(&STRUCT_ENTRY))]);

static STRUCT_ENTRY: Message = message(
    "FieldsEntry",
    &[
        field(1, "key", Kind::Text),
        field(2, "value", Kind::Message(&STRUCT_VALUE)),
    ],
);

static STRUCT_VALUE: Message = message("Value", &[field(3, "string_value", Kind::Text)]);

// === envoy.service.auth.v3 ===

static CHECK_REQUEST: Message = message(
    "CheckRequest",
    &[field(1, "attributes", Kind::Message(&ATTRIBUTES))],
);

static ATTRIBUTES: Message = message(
    "AttributeContext",
    &[
        field(1, "source", Kind::Message(&PEER)),
        field(2, "destination", Kind::Message(&PEER)),
        field(4, "request", Kind::Message(&REQUEST)),
        list(10, "context_extensions", Kind::Map),
    ],
);

static PEER: Message = message(
    "Peer",
    &[
        field(1, "address", Kind::Message(&ADDRESS)),
        field(2, "service", Kind::Text),
        field(4, "principal", Kind::Text),
    ],
);

static REQUEST: Message = message(
    "Request",
    &[
        field(1, "time", Kind::Message(&TIME)),
        field(2, "http", Kind::Message(&HTTP_REQUEST)),
    ],
);

static HTTP_REQUEST: Message = message(
    "HttpRequest",
    &[
        field(1, "id", Kind::Text),
        field(2, "method", Kind::Text),
        list(3, "headers", Kind::Map),
        field(4, "path", Kind::Text),
        field(5, "host", Kind::Text),
        field(6, "scheme", Kind::Text),
        field(9, "size", Kind::Number),
        field(10, "protocol", Kind::Text),
        field(11, "body", Kind::Text),
        field(12, "raw_body", Kind::Text),
    ],
);

static CHECK_RESPONSE: Message = message(
    "CheckResponse",
    &[
        field(1, "status", Kind::Message(&STATUS)),
        field(2, "denied_response", Kind::Message(&DENIED_RESPONSE)),
        field(3, "ok_response", Kind::Message(&OK_RESPONSE)),
        field(4, "dynamic_metadata", Kind::Message(&STRUCT)),
        field(5, "error_response", Kind::Message(&DENIED_RESPONSE)),
    ],
);

static STATUS: Message = message(
    "Status",
    &[
        field(1, "code", Kind::Number),
        field(2, "message", Kind::Text),
    ],
);

static DENIED_RESPONSE: Message = message(
    "DeniedHttpResponse",
    &[
        field(1, "status", Kind::Message(&HTTP_STATUS)),
        list(2, "headers", Kind::Message(&HEADER_VALUE_OPTION)),
        field(3, "body", Kind::Text),
    ],
);

static HTTP_STATUS: Message = message("HttpStatus", &[field(1, "code", Kind::Number)]);

static OK_RESPONSE: Message = message(
    "OkHttpResponse",
    &[
        list(2, "headers", Kind::Message(&HEADER_VALUE_OPTION)),
        list(5, "headers_to_remove", Kind::Text),
        list(
            6,
            "response_headers_to_add",
            Kind::Message(&HEADER_VALUE_OPTION),
        ),
        list(
            7,
            "query_parameters_to_set",
            Kind::Message(&QUERY_PARAMETER),
        ),
        list(8, "query_parameters_to_remove", Kind::Text),
    ],
);

// === envoy.service.ratelimit.v3 ===

static RATE_LIMIT_REQUEST: Message = message(
    "RateLimitRequest",
    &[
        field(1, "domain", Kind::Text),
        list(2, "descriptors", Kind::Message(&DESCRIPTOR)),
        field(3, "hits_addend", Kind::Number),
    ],
);

static DESCRIPTOR: Message = message(
    "RateLimitDescriptor",
    &[list(1, "entries", Kind::Message(&ENTRY))],
);

static ENTRY: Message = message(
    "Entry",
    &[field(1, "key", Kind::Text), field(2, "value", Kind::Text)],
);

static RATE_LIMIT_RESPONSE: Message = message(
    "RateLimitResponse",
    &[
        field(1, "overall_code", Kind::Enum(CODES)),
        list(2, "statuses", Kind::Message(&DESCRIPTOR_STATUS)),
        list(3, "response_headers_to_add", Kind::Message(&HEADER_VALUE)),
        list(4, "request_headers_to_add", Kind::Message(&HEADER_VALUE)),
        field(5, "raw_body", Kind::Text),
        field(6, "dynamic_metadata", Kind::Message(&STRUCT)),
    ],
);

const CODES: &[&str] = &["UNKNOWN", "OK", "OVER_LIMIT"];

static DESCRIPTOR_STATUS: Message = message(
    "DescriptorStatus",
    &[
        field(1, "code", Kind::Enum(CODES)),
        field(2, "current_limit", Kind::Message(&RATE_LIMIT)),
        field(3, "limit_remaining", Kind::Number),
        field(4, "duration_until_reset", Kind::Message(&TIME)),
    ],
);

static RATE_LIMIT: Message = message(
    "RateLimit",
    &[
        field(1, "requests_per_unit", Kind::Number),
        field(
            2,
            "unit",
            Kind::Enum(&[
                "UNKNOWN", "SECOND", "MINUTE", "HOUR", "DAY", "MONTH", "YEAR", "WEEK",
            ]),
        ),
        field(3, "name", Kind::Text),
    ],
);
