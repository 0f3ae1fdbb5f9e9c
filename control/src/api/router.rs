//! Everything that can be asked for. The OpenAPI document is made from the same list and from the handlers' own types, so
//! it has all of it.

use axum::extract::State;
use axum::middleware::map_response;
use axum::{Json, Router};
use utoipa::OpenApi;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::server::Api;
use super::{
    ErrorBody, device_schema, devices, health, level, membership, pause, refusal, workers,
};

#[derive(OpenApi)]
#[openapi(info(
    title = "Pollux",
    description = "Control of a daemon that serves virtio-blk disks. It answers on a Unix socket to root and to the user \
                   that it runs as, and over TCP, if that was asked for, to who knows its token."
))]
struct Document;

fn described() -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(health::version))
        .routes(routes!(health::health))
        .routes(routes!(workers::workers))
        .routes(routes!(level::log_level, level::set_log_level))
        .routes(routes!(devices::list, membership::add))
        .routes(routes!(devices::show, membership::remove))
        .routes(routes!(devices::attach))
        .routes(routes!(devices::detach))
        .routes(routes!(devices::hand_over))
        .routes(routes!(devices::resize))
        .routes(routes!(pause::pause))
        .routes(routes!(pause::resume))
        .routes(routes!(devices::reload))
        .routes(routes!(devices::metrics))
        .routes(routes!(openapi))
}

/// Returns what answers.
pub(super) fn router(api: Api) -> Router {
    let (router, _) = described().split_for_parts();
    router
        .fallback(refusal::unknown_path)
        .method_not_allowed_fallback(refusal::wrong_method)
        .layer(map_response(refusal::in_json))
        .with_state(api)
}

/// This document.
#[utoipa::path(get, path = "/v1/openapi.json", tag = "daemon", responses(
    (status = 200, description = "What can be asked for", body = Object),
    (status = "4XX", description = "Refused", body = ErrorBody),
))]
async fn openapi(State(api): State<Api>) -> Json<utoipa::openapi::OpenApi> {
    let mut document = described().into_openapi();
    let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    device_schema::describe(&mut document, &api.device_keys);
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("token", scheme);
    document.security = Some(vec![SecurityRequirement::new("token", [""; 0])]);
    Json(document)
}
