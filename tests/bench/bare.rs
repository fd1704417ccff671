//! The reference: an axum server that compares one header and returns a constant body. Nothing that speaks HTTP
//! with these libraries can do less.
//!
//! `bare-axum TOKEN BYTES` listens on a free port of 127.0.0.1, prints it and answers `/secretsmanager/get` with
//! so many bytes.

use std::io::Write;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use tokio::net::TcpListener;

#[derive(Clone)]
struct Constant {
    token: Bytes,
    body: Bytes,
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let token = arguments.next().unwrap_or_default();
    let length = arguments
        .next()
        .and_then(|text| text.parse().ok())
        .unwrap_or(600);
    let constant = Constant {
        token: token.into(),
        body: vec![b'x'; length].into(),
    };
    let router = Router::new()
        .route("/secretsmanager/get", get(answer))
        .with_state(constant);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?.port())?;
    axum::serve(
        axum::serve::ListenerExt::tap_io(listener, |stream| {
            // As the agent does.
            let _ = stream.set_nodelay(true);
        }),
        router,
    )
    .await
}

async fn answer(State(constant): State<Constant>, headers: HeaderMap) -> Result<Bytes, StatusCode> {
    match headers.get("x-kms-token") {
        Some(token) if token.as_bytes() == &*constant.token => Ok(constant.body),
        _ => Err(StatusCode::FORBIDDEN),
    }
}
