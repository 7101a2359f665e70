//! The task of one webhook: reads the feed from where it is, sends what is for it, one message at a time, and waits for the next.
//!
//! Holds at most [`PAGE`] events in memory. How far it is it writes down at most once a second.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, header};
use tokio::time::Instant;
use url::Url;

use super::{Endpoint, Failing, Render, Webhooks, lock, sign};
use crate::error::{Context as _, Error, Kind, Result};
use crate::store::FeedPage;
use crate::store::records::FeedRecord;

/// Events that are read at once.
const PAGE: u64 = 64;
/// How often it is written down how far a webhook is.
const WRITTEN_EVERY: Duration = Duration::from_secs(1);
/// How long a name may take to be looked up.
const NAME_MAX: Duration = Duration::from_secs(5);
/// Longest reason that is kept of a failure, characters.
const WHY_CHARS_MAX: usize = 200;
/// How an attempt may end.
pub(super) const RESULTS: [&str; 4] = ["ok", "refused", "unreachable", "forbidden"];

/// A message on its way.
struct Message {
    id: String,
    /// When the thing happened, microseconds; 0 if that is not known.
    at: u64,
    body: Vec<u8>,
}

/// Delivers for ever. May be dropped at any moment: what was not noted as taken is sent again.
///
/// # Errors
/// [`Kind::Fatal`] when the store has failed.
pub(super) async fn run(webhooks: Webhooks, endpoint: Arc<Endpoint>, render: Render) -> Result<()> {
    let mut news = webhooks.shared.store.watch_feed();
    let mut written = Instant::now();
    let mut saved = endpoint.record.cursor;
    loop {
        news.mark_unchanged();
        let (turn, after) = {
            let place = lock(&endpoint.place);
            (place.turn, place.cursor)
        };
        let page = match read(&webhooks, &endpoint, &render, after).await {
            Ok(page) => page,
            Err(error) if error.kind() == Kind::Fatal => return Err(error),
            Err(error) => {
                tracing::error!(%error, "a webhook stands still: the feed cannot be read");
                tokio::time::sleep(webhooks.shared.settings.retry_max).await;
                continue;
            }
        };
        let is_end = page.next == after;
        for (number, message) in page.messages {
            if let Some(message) = message
                && !send_until_taken(&webhooks, &endpoint, turn, &message).await
            {
                break;
            }
            let mut place = lock(&endpoint.place);
            if place.turn != turn {
                break;
            }
            place.cursor = number;
        }
        let cursor = lock(&endpoint.place).cursor;
        if cursor != saved && written.elapsed() >= WRITTEN_EVERY {
            write(&webhooks, &endpoint).await?;
            (written, saved) = (Instant::now(), cursor);
        }
        if is_end {
            webhooks.shared.metrics.lag_seconds.with_label_values(&[endpoint.record.name.as_str()]).set(0);
            tokio::select! {
                changed = news.changed() => if changed.is_err() { return Ok(()) },
                () = endpoint.moved.notified() => {}
                () = tokio::time::sleep_until(written + WRITTEN_EVERY), if cursor != saved => {}
            }
        }
    }
}

/// A part of the feed, and what is to be sent of it.
struct Page {
    messages: Vec<(u64, Option<Message>)>,
    next: u64,
}

async fn read(webhooks: &Webhooks, endpoint: &Arc<Endpoint>, render: &Render, after: u64) -> Result<Page> {
    let (store, endpoint, render) = (webhooks.shared.store.clone(), Arc::clone(endpoint), Arc::clone(render));
    let read = tokio::task::spawn_blocking(move || {
        let FeedPage { records, missed, next } = store.feed(after, PAGE)?;
        let mut messages = Vec::with_capacity(records.len() + 1);
        if missed {
            let first = records.first().map_or(next + 1, |record| record.number);
            let body = format!(r#"{{"kind":"missed","after":{after},"next":{first}}}"#).into_bytes();
            messages.push((first - 1, Some(Message { id: format!("missed-{after}-{first}"), at: 0, body })));
        }
        for record in &records {
            let FeedRecord { number, at, .. } = *record;
            let body = render(&store, record, &endpoint.record)?;
            messages.push((number, body.map(|body| Message { id: format!("event-{number}"), at, body })));
        }
        Ok(Page { messages, next })
    });
    read.await.context(Kind::Internal, "a webhook could not read the feed")?
}

/// Writes down how far the webhook is.
async fn write(webhooks: &Webhooks, endpoint: &Arc<Endpoint>) -> Result<()> {
    let (store, endpoint) = (webhooks.shared.store.clone(), Arc::clone(endpoint));
    let written = tokio::task::spawn_blocking(move || endpoint.write(&store)).await;
    match written.context(Kind::Internal, "a webhook could not be written down")? {
        Err(error) if error.kind() == Kind::Fatal => Err(error),
        Err(error) => {
            tracing::warn!(%error, "how far a webhook is was not written down");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

/// Sends a message until it is taken; whether it was: not if the webhook's place was changed meanwhile.
async fn send_until_taken(webhooks: &Webhooks, endpoint: &Endpoint, turn: u64, message: &Message) -> bool {
    let (settings, metrics) = (&webhooks.shared.settings, &webhooks.shared.metrics);
    let name = endpoint.record.name.as_str();
    let mut pause = settings.retry_first;
    loop {
        let now = webhooks.shared.clock.now();
        if message.at > 0 {
            let lag = now.saturating_sub(message.at) / 1_000_000;
            metrics.lag_seconds.with_label_values(&[name]).set(i64::try_from(lag).unwrap_or(i64::MAX));
        }
        let (result, why) = match send(webhooks, endpoint, message, now / 1_000_000).await {
            Ok(()) => ("ok", String::new()),
            Err((result, error)) => (result, error.to_string()),
        };
        metrics.deliveries.with_label_values(&[name, result]).inc();
        {
            let mut place = lock(&endpoint.place);
            if why.is_empty() {
                place.failing = None;
                return place.turn == turn;
            }
            let before = place.failing.take();
            if before.is_none() {
                tracing::warn!(webhook = name, why, "a webhook does not take its messages");
            }
            let (since, attempts) = before.map_or((now, 0), |before| (before.since, before.attempts));
            let why = why.chars().take(WHY_CHARS_MAX).collect();
            place.failing = Some(Failing { since, attempts: attempts + 1, why });
            if place.turn != turn {
                return false;
            }
        }
        // A replay need not wait for the pause.
        if tokio::time::timeout(pause, endpoint.moved.notified()).await.is_ok() {
            return false;
        }
        pause = (pause * 2).min(settings.retry_max);
    }
}

/// One attempt.
async fn send(
    webhooks: &Webhooks,
    endpoint: &Endpoint,
    message: &Message,
    seconds: u64,
) -> Result<(), (&'static str, Error)> {
    let unreachable = |error: Error| ("unreachable", error);
    let url: Url = endpoint.record.url.parse().context(Kind::Invalid, "no address").map_err(unreachable)?;
    let address = reach(webhooks, &url).await?;
    let signature = sign::signature(&endpoint.record.secret, &message.id, seconds, &message.body);
    let request = Request::post("/")
        .header(header::CONTENT_TYPE, "application/json")
        .header("webhook-id", &message.id)
        .header("webhook-timestamp", seconds.to_string())
        .header("webhook-signature", signature);
    let answer = webhooks.shared.client.ask_at(address, &url, request, message.body.clone()).await;
    match answer.map_err(unreachable)?.0 {
        200..=299 => Ok(()),
        status => Err(("refused", Error::new(Kind::Busy, format!("it answers with the status {status}")))),
    }
}

/// The address of a webhook that may be reached.
async fn reach(webhooks: &Webhooks, url: &Url) -> Result<SocketAddr, (&'static str, Error)> {
    let invalid = || ("unreachable", Error::new(Kind::Invalid, "the address names no host"));
    let (host, port) = url.host_str().zip(url.port_or_known_default()).ok_or_else(invalid)?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let found = tokio::time::timeout(NAME_MAX, tokio::net::lookup_host((bare, port))).await;
    let unknown = |error: Error| ("unreachable", error);
    let late = |_| unknown(Error::new(Kind::Busy, "its name cannot be looked up in time"));
    let found = found.map_err(late)?.context(Kind::Busy, "its name cannot be looked up").map_err(unknown)?;
    let tls = url.scheme() == "https";
    let reach = &webhooks.shared.settings.reach;
    found.into_iter().find(|address| reach.allows(address.ip(), tls)).ok_or_else(|| {
        let text = "it has no address that webhooks.private or the internet with https allows";
        ("forbidden", Error::new(Kind::Invalid, text))
    })
}
