//! Takes spans over OTLP (gRPC, and HTTP with protobuf) and answers as Jaeger's query API
//! does. The work is `otlp-embedded`'s; this opens its ports and prints them.

use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::post;
use otlp_embedded::proto::collector::trace::v1::ExportTraceServiceRequest;
use otlp_embedded::{Config, State, TraceService, TraceServiceImpl, TraceServiceServer, ui_app};
use prost::Message;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;

/// Traces kept, and bytes of them.
const KEPT: Config = Config { max_length: 10_000, max_memory_usage: 256 << 20 };
/// A free port of this machine alone.
const ANY: &str = "127.0.0.1:0";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let state = State::new(KEPT);
    let (grpc, http) = (TcpListener::bind(ANY).await?, TcpListener::bind(ANY).await?);
    println!("grpc http://{} http http://{}", grpc.local_addr()?, http.local_addr()?);
    let taking = state.clone();
    let take = move |body: Bytes| {
        let service = TraceServiceImpl::new(taking.clone());
        async move {
            let Ok(spans) = ExportTraceServiceRequest::decode(body) else {
                return StatusCode::BAD_REQUEST;
            };
            let taken = service.export(tonic::Request::new(spans)).await;
            if taken.is_ok() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
        }
    };
    let app = ui_app(state.clone(), "/").route("/v1/traces", post(take));
    let serve = tonic::transport::Server::builder()
        .add_service(TraceServiceServer::new(TraceServiceImpl::new(state)))
        .serve_with_incoming(TcpListenerStream::new(grpc));
    tokio::select! {
        ended = serve => ended?,
        ended = axum::serve(http, app) => ended?,
    }
    Ok(())
}
