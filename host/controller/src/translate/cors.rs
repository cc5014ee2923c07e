//! The CORS filter of a route: the bundled filter `cors`, configured as the Gateway API writes it.

use serde_json::{Map, Value};
use tidegate_model::Filter;

use super::context::Context;
use super::filters;
use super::native::Place;
use super::routes::RouteFacts;
use crate::api::filter::Cors;

/// The filter for this place of the route.
pub(super) fn filter(
    context: &mut Context<'_>,
    route: &RouteFacts<'_>,
    place: &Place,
    cors: &Cors,
) -> Filter {
    let name = format!("{}/{}/{place}", route.kind, route.meta.name);
    filters::builtin(context, &route.meta.namespace, &name, "cors", &config(cors))
}

/// Keys as in `HTTPCORSFilter`; lists that are empty are left out.
pub(super) fn config(cors: &Cors) -> Value {
    let mut config = Map::new();
    let lists = [
        ("allowOrigins", &cors.allow_origins),
        ("allowMethods", &cors.allow_methods),
        ("allowHeaders", &cors.allow_headers),
        ("exposeHeaders", &cors.expose_headers),
    ];
    for (key, values) in lists {
        if !values.is_empty() {
            config.insert(key.to_owned(), values.as_slice().into());
        }
    }
    if cors.allow_credentials {
        config.insert("allowCredentials".to_owned(), true.into());
    }
    config.insert("maxAge".to_owned(), cors.max_age.into());
    Value::Object(config)
}
