//! The OpenAPI document, made from the routes themselves.

use std::sync::LazyLock;

use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{InfoBuilder, OpenApi};

use crate::app;

/// The document.
pub(crate) fn document() -> OpenApi {
    let (_, mut document) = app::documented().split_for_parts();
    document.info = InfoBuilder::new()
        .title("aofctl")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some("Webhooks, chat, approvals and the journal of an AOF node."))
        .build();
    let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    let components = document.components.get_or_insert_with(Default::default);
    components.security_schemes.insert("key".to_owned(), bearer.into());
    document
}

/// `GET /openapi.json`
pub(crate) async fn serve() -> impl IntoResponse {
    static TEXT: LazyLock<String> =
        LazyLock::new(|| crate::openapi_json().expect("the document is made of text"));
    ([(CONTENT_TYPE, "application/json")], TEXT.as_str())
}
