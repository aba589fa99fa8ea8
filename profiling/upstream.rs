//! A server with one tool, `echo`, that is faster than any gateway: over stdio, or over Streamable HTTP without sessions.

use std::io::{self, BufRead, BufReader, Write};

use axum::Router;
use axum::body::Bytes;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::load::Result;

/// The words that make this program the server.
pub(crate) const STDIO: &str = "upstream-stdio";
pub(crate) const HTTP: &str = "upstream-http";

/// By what its tool can be told from any other.
pub(crate) const DESCRIPTION: &str = "Says the text again, at once";

/// How this program was asked to serve, if it was.
pub(crate) fn asked_for() -> Option<String> {
    std::env::args().nth(1).filter(|word| word == STDIO || word == HTTP)
}

pub(crate) fn serve(kind: String) -> Result<()> {
    if kind == STDIO { serve_stdio() } else { serve_http() }
}

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    method: &'a str,
    #[serde(borrow)]
    params: Option<Params<'a>>,
}

#[derive(Deserialize)]
struct Params<'a> {
    #[serde(borrow)]
    arguments: Option<Arguments<'a>>,
}

#[derive(Deserialize)]
struct Arguments<'a> {
    #[serde(borrow)]
    text: Option<&'a RawValue>,
}

/// Appends the answer to one message, if it has one.
fn answer(message: &[u8], out: &mut Vec<u8>) -> Result<()> {
    let request: Request<'_> = serde_json::from_slice(message)?;
    let Some(id) = request.id else { return Ok(()) };
    write!(out, r#"{{"jsonrpc":"2.0","id":{id},"#)?;
    match request.method {
        "tools/call" => {
            let text = request.params.and_then(|params| params.arguments?.text).map_or("\"\"", RawValue::get);
            write!(out, r#""result":{{"content":[{{"type":"text","text":{text}}}]}}}}"#)?;
        }
        "initialize" => out.extend_from_slice(
            br#""result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"fast","version":"1"}}}"#,
        ),
        "tools/list" => {
            let schema = r#"{"type":"object","properties":{"text":{"type":"string"}}}"#;
            write!(
                out,
                r#""result":{{"tools":[{{"name":"echo","description":"{DESCRIPTION}","inputSchema":{schema}}}]}}}}"#
            )?;
        }
        "ping" => out.extend_from_slice(br#""result":{}}"#),
        _ => out.extend_from_slice(br#""error":{"code":-32601,"message":"only tools"}}"#),
    }
    Ok(())
}

/// All answers to what one read brings leave in one write.
fn serve_stdio() -> Result<()> {
    let (mut input, mut output) = (BufReader::with_capacity(64 << 10, io::stdin().lock()), io::stdout().lock());
    let (mut line, mut out) = (Vec::new(), Vec::new());
    while input.read_until(b'\n', &mut line)? > 0 {
        let before = out.len();
        answer(&line, &mut out)?;
        if out.len() > before {
            out.push(b'\n');
        }
        line.clear();
        if !input.buffer().contains(&b'\n') {
            output.write_all(&out)?;
            output.flush()?;
            out.clear();
        }
    }
    Ok(())
}

fn serve_http() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        println!("clients {}", listener.local_addr()?);
        let listener = axum::serve::ListenerExt::tap_io(listener, |stream| drop(stream.set_nodelay(true)));
        Ok(axum::serve(listener, Router::new().route("/mcp", post(reply))).await?)
    })
}

async fn reply(body: Bytes) -> Response {
    let mut out = Vec::with_capacity(256);
    match answer(&body, &mut out) {
        Err(error) => (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
        Ok(()) if out.is_empty() => StatusCode::ACCEPTED.into_response(),
        Ok(()) => ([(header::CONTENT_TYPE, "application/json")], out).into_response(),
    }
}
