//! Gauges of the `prometheus` crate, gathered and encoded for each scrape and served by hyper, as the
//! examples of both do. Reads the two families from a file in the text format: `naive FILE PORT`.

use std::{collections::HashMap, convert::Infallible, env, fs};

use http_body_util::Full;
use hyper::{Request, Response, body::Bytes, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use prometheus::{Encoder, GaugeVec, Opts, Registry, TextEncoder};
use tokio::net::TcpListener;

fn label<'a>(line: &'a str, name: &str) -> &'a str {
    line.split_once(&format!("{name}=\"")).and_then(|(_, rest)| rest.split('"').next()).unwrap()
}

#[tokio::main]
async fn main() {
    let arguments: Vec<_> = env::args().collect();
    let text = fs::read_to_string(&arguments[1]).unwrap();
    let registry = Registry::new();
    let mut gauges = HashMap::new();
    for name in ["xt_balance_free", "xt_balance_frozen"] {
        let gauge = GaugeVec::new(Opts::new(name, "An amount."), &["account", "currency", "wallet"]).unwrap();
        registry.register(Box::new(gauge.clone())).unwrap();
        gauges.insert(name, gauge);
    }
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let labels = [label(series, "account"), label(series, "currency"), label(series, "wallet")];
        gauges[series.split('{').next().unwrap()].with_label_values(&labels).set(value.parse().unwrap());
    }
    let listener = TcpListener::bind(format!("127.0.0.1:{}", arguments[2])).await.unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let registry = registry.clone();
        tokio::spawn(async move {
            let service = service_fn(move |_: Request<hyper::body::Incoming>| {
                let mut body = Vec::new();
                TextEncoder::new().encode(&registry.gather(), &mut body).unwrap();
                async { Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(body)))) }
            });
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
