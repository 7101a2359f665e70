//! One connection: the control stream, claims and requests, receipts and refusals coming in, while the sender brings links out.
//!
//! A link leaves the spool when its receipt verifies under the log key of the identity, never sooner. Peer input is parsed:
//! a receipt or refusal for a link that is not under way is ignored, one that contradicts a link that is, is fatal.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use quinn::{Connection, ConnectionError, RecvStream, SendStream};
use tokio::time::Instant;

use aigaq_proto::frame::Control;
use aigaq_proto::limits::RANGES_MAX;
use aigaq_proto::message::{Advice, ChainEnd, Claim, Hello, Receipt, Refusal, RefusalReason, Status, Welcome};
use aigaq_proto::{Sequence, receipt};

use super::Lost;
use super::sender;
use super::spool::Spool;
use super::spool::queue::Queue;
use super::uplink::{End, Greeting, Uplink};
use crate::error::{Context, Error, Kind};

/// How long the server may take for its first message.
const WELCOME_MAX: Duration = Duration::from_secs(10);
/// How long what is under way may take when the server drains.
const DRAIN_MAX: Duration = Duration::from_secs(10);
/// How often the session looks after itself.
const TICK: Duration = Duration::from_secs(1);
/// Every so many ticks the server hears of the recorder's state: 30 s.
const STATUS_TICKS: u32 = 30;
/// After so many ticks the server has asked again for what it still wants.
const REQUEST_TICKS: u32 = 10;
/// Links under way at once, whatever the server says.
const IN_FLIGHT_MAX: usize = 64;
/// Links claimed at once: the server looks up so many in some tens of milliseconds.
const CLAIM_LINKS_MAX: usize = RANGES_MAX / 4;
/// The longest delay that a refusal may ask for.
const PUT_OFF_MAX: Duration = Duration::from_secs(300);
/// The delays of a link that the server has no place for yet, and how often it is sent again though the links that the
/// server misses are not held.
const RESEND_MIN: Duration = Duration::from_millis(200);
const RESEND_MAX: Duration = Duration::from_secs(30);
const RESENDS_MAX: u8 = 8;
/// Bytes read from the control stream at once.
const READ_BYTES: usize = 8 * 1024;

/// Why a session stopped.
pub(super) enum Stopped {
    /// By itself.
    End(End),
    /// With its connection.
    Lost(ConnectionError),
}

impl From<End> for Stopped {
    fn from(end: End) -> Self {
        Self::End(end)
    }
}

/// A connection that is being used.
pub(super) struct Session<'a> {
    uplink: &'a Uplink,
    connection: Connection,
    last_receipt: &'a mut Option<Receipt>,
    /// Whether `last_receipt` is newer than what is on disk.
    unsaved: bool,
    input: BytesMut,
    in_flight_max: usize,
    welcomed: bool,
    /// When a draining server asked for it: until when to finish, and how long to stay away.
    draining: Option<(Instant, Duration)>,
    noted: Vec<RefusalReason>,
    ticks: u32,
}

impl<'a> Session<'a> {
    pub(super) fn new(uplink: &'a Uplink, connection: Connection, last_receipt: &'a mut Option<Receipt>) -> Self {
        Self {
            uplink,
            connection,
            last_receipt,
            unsaved: false,
            input: BytesMut::new(),
            in_flight_max: 1,
            welcomed: false,
            draining: None,
            noted: Vec::new(),
            ticks: 0,
        }
    }

    fn spool(&self) -> &'a Spool {
        &self.uplink.spool
    }

    fn queue(&self) -> &'a Queue {
        self.uplink.spool.queue()
    }

    /// Runs until the spool is done or the connection is. Whether the server said its welcome.
    pub(super) async fn run(mut self) -> (Stopped, bool) {
        let stopped = match self.serve().await {
            Ok(end) => end.into(),
            Err(stopped) => stopped,
        };
        (as_announced(stopped, self.draining.map(|(_, away)| away)), self.welcomed)
    }

    async fn serve(&mut self) -> Result<End, Stopped> {
        let (mut control, mut answers) = self.connection.open_bi().await.map_err(Stopped::Lost)?;
        let _ = control.set_priority(sender::PRIORITY_CONTROL);
        self.say(&mut control, Control::Hello(self.hello())).await?;
        let welcomed = tokio::time::timeout(WELCOME_MAX, self.welcome(&mut answers)).await;
        let welcome = welcomed.map_err(|_| End::Broken("the server did not answer the hello".to_owned()))??;
        self.begin(&welcome)?;
        self.claim(&mut control).await?;

        let connection = self.connection.clone();
        let (uplink, in_flight_max) = (self.uplink, self.in_flight_max);
        let sending = async {
            if let Some(opens) = &uplink.opens {
                opens.cancelled().await;
            }
            sender::send(&connection, &uplink.spool, &uplink.tally, in_flight_max).await
        };
        let mut sending = std::pin::pin!(sending);
        let mut tick = tokio::time::interval(TICK);
        let mut buffer = vec![0; READ_BYTES];
        loop {
            tokio::select! {
                sent = &mut sending => return sent.map(|()| End::Done),
                read = answers.read(&mut buffer) => {
                    self.take(read, &buffer)?;
                    self.answer_all(&mut control).await?;
                }
                _ = tick.tick() => {
                    if let Some(end) = self.look_after(&mut control).await? {
                        return Ok(end);
                    }
                }
                lost = self.connection.closed() => return Err(Stopped::Lost(lost)),
            }
        }
    }

    fn hello(&self) -> Hello {
        Hello {
            software: concat!("aigaq/", env!("CARGO_PKG_VERSION")).to_owned(),
            clock: self.uplink.clock.now(),
            spool: self.spool().summary(),
            last_receipt: self.last_receipt.clone(),
        }
    }

    async fn say(&self, control: &mut SendStream, message: Control) -> Result<(), Stopped> {
        let frame = message.encode().context(Kind::Internal, "a control message cannot be encoded");
        let frame = frame.map_err(End::Fatal)?;
        control.write_all(&frame).await.map_err(|_| self.lost("the control stream was closed"))
    }

    /// The connection's own end, if it has one, says more than that of a stream.
    fn lost(&self, why: &str) -> Stopped {
        match self.connection.close_reason() {
            Some(reason) => Stopped::Lost(reason),
            None => End::Broken(why.to_owned()).into(),
        }
    }

    async fn welcome(&mut self, answers: &mut RecvStream) -> Result<Welcome, Stopped> {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            match self.decode()? {
                Some(Control::Welcome(welcome)) => return Ok(welcome),
                Some(Control::Ignorable(_)) => {}
                Some(_) => return Err(broken_protocol("its first message is no welcome").into()),
                None => {
                    let read = answers.read(&mut buffer).await;
                    self.take(read, &buffer)?;
                }
            }
        }
    }

    fn begin(&mut self, welcome: &Welcome) -> Result<(), Stopped> {
        if welcome.recorder != self.uplink.identity.id {
            return Err(End::Fatal(Error::new(
                Kind::Unauthorised,
                "the server knows this certificate as another recorder; recorder.toml and cert.pem do not belong together",
            ))
            .into());
        }
        self.welcomed = true;
        self.queue().durable(&welcome.durable);
        self.uplink.identity.hear(welcome.clock, self.uplink.clock.now());
        self.in_flight_max = usize::try_from(welcome.links_in_flight_max).unwrap_or(1).clamp(1, IN_FLIGHT_MAX);
        let greeting = Greeting {
            newest: welcome.newest,
            reserved: welcome.reserved,
            durable: welcome.durable.clone(),
            payload_bytes_max: welcome.payload_bytes_max,
        };
        self.uplink.greeting.send_if_modified(|seen| seen.is_none() && seen.replace(greeting).is_none());
        self.uplink.observer.connected(&self.connection);
        self.uplink.observer.note(&format!("connected to {}", self.uplink.gateways.name()));
        Ok(())
    }

    fn take(&mut self, read: Result<Option<usize>, quinn::ReadError>, buffer: &[u8]) -> Result<(), Stopped> {
        match read {
            Ok(Some(count)) => self.input.extend_from_slice(buffer.get(..count).unwrap_or_default()),
            Ok(None) | Err(_) => return Err(self.lost("the server ended the control stream")),
        }
        Ok(())
    }

    fn decode(&mut self) -> Result<Option<Control>, Stopped> {
        match Control::decode(&self.input) {
            Ok(Some((message, taken))) => {
                self.input.advance(taken);
                Ok(Some(message))
            }
            Ok(None) => Ok(None),
            Err(error) => Err(broken_protocol(&error.to_string()).into()),
        }
    }

    async fn answer_all(&mut self, control: &mut SendStream) -> Result<(), Stopped> {
        while let Some(message) = self.decode()? {
            match message {
                Control::Receipt(receipt) => self.receipt(receipt).await?,
                Control::Refusal(refusal) => self.refusal(&refusal).await?,
                Control::Unclaimed(unclaimed) => self.queue().unclaimed(&unclaimed.sequences),
                Control::Request(request) => {
                    self.queue().request(request);
                    self.tell_progress(control).await?;
                }
                Control::Cancel(cancel) => self.queue().cancel(cancel.id),
                Control::Succession(succession) => self.succeed(succession.notes).await?,
                Control::Drain(drain) => {
                    let away = Duration::from_millis(u64::from(drain.reconnect_after_ms));
                    self.draining = Some((Instant::now() + DRAIN_MAX, away));
                    self.queue().hold_back_all();
                }
                Control::Ignorable(_) => {}
                Control::Hello(_)
                | Control::Status(_)
                | Control::Claim(_)
                | Control::Progress(_)
                | Control::Welcome(_) => {
                    return Err(broken_protocol("a message out of place").into());
                }
            }
        }
        self.claim(control).await
    }

    /// Claims the next links that the server says it has, once the answers to the last claim are there.
    async fn claim(&self, control: &mut SendStream) -> Result<(), Stopped> {
        let sequences = self.queue().claim(CLAIM_LINKS_MAX);
        let mut links = Vec::with_capacity(sequences.len());
        for sequence in sequences {
            let digest = self.spool().digest(sequence).await.map_err(End::Fatal)?;
            self.queue().claimed(sequence, digest);
            links.extend(digest.map(|digest| ChainEnd { sequence, digest }));
        }
        if links.is_empty() {
            return Ok(());
        }
        self.say(control, Control::Claim(Claim { links })).await
    }

    /// Tells how far the requests are where that has changed.
    async fn tell_progress(&self, control: &mut SendStream) -> Result<(), Stopped> {
        for progress in self.queue().progress() {
            self.say(control, Control::Progress(progress)).await?;
        }
        Ok(())
    }

    /// The log ended, and another goes on: its key counts from now on. What the server learnt from the newest receipt of the old one it
    /// has learnt with the hello.
    async fn succeed(&mut self, notes: String) -> Result<(), Stopped> {
        let identity = std::sync::Arc::clone(&self.uplink.identity);
        let succeeded = tokio::task::spawn_blocking(move || identity.succeed(&notes)).await;
        match succeeded.context(Kind::Internal, "the key of the log was not taken") {
            Ok(Ok(true)) => {
                self.uplink.observer.note("the log of the server ended, and its successor goes on");
                *self.last_receipt = None;
                Ok(())
            }
            Ok(Ok(false)) => Ok(()),
            Ok(Err(error)) | Err(error) => Err(End::Fatal(error).into()),
        }
    }

    async fn receipt(&mut self, receipt: Receipt) -> Result<(), Stopped> {
        let Some(digest) = self.queue().digest(receipt.sequence) else { return Ok(()) };
        receipt::verify(&receipt, &digest, &self.uplink.identity.log_key()).map_err(|error| {
            let text = format!("the receipt of link {} does not verify", receipt.sequence);
            End::Fatal(Error::new(Kind::Unauthorised, text).because(error))
        })?;
        if let Some(left) = self.spool().settle(receipt.sequence).await {
            self.uplink.tally.receipts.fetch_add(1, Ordering::Relaxed);
            self.uplink.observer.receipt(receipt.sequence, left.bytes as usize, left.waited);
        }
        if self.last_receipt.as_ref().is_none_or(|last| last.log_index <= receipt.log_index) {
            *self.last_receipt = Some(receipt);
            self.unsaved = true;
        }
        Ok(())
    }

    async fn refusal(&mut self, refusal: &Refusal) -> Result<(), Stopped> {
        let sequence = refusal.sequence.or_else(|| self.queue().of_stream(refusal.stream));
        if !self.noted.contains(&refusal.reason) {
            self.noted.push(refusal.reason);
            self.uplink.observer.note(&format!("the server refused a link: {}", told(refusal)));
        }
        if refusal.advice == Advice::Reenrol {
            let text = format!("the server wants this recorder to enrol again: {}", told(refusal));
            return Err(End::Fatal(Error::new(Kind::Unauthorised, text)).into());
        }
        let Some(sequence) = sequence else { return Ok(()) };
        match refusal.advice {
            Advice::RetryAfter { delay_ms } => {
                let delay = Duration::from_millis(u64::from(delay_ms)).min(PUT_OFF_MAX);
                self.queue().put_off(sequence, delay);
            }
            Advice::ResendFrom { sequence: from } => self.resend(sequence, from, refusal).await,
            Advice::Never | Advice::Reenrol => self.give_up(sequence, refusal).await,
        }
        Ok(())
    }

    /// The links before this one are sent first; this one follows when they had time to arrive. If the server misses only
    /// links that are no longer held, that cannot help for ever.
    async fn resend(&self, sequence: Sequence, from: Sequence, refusal: &Refusal) {
        let again =
            |refusals: u8| (RESEND_MIN * 2_u32.pow(u32::from(refusals.saturating_sub(1).min(16)))).min(RESEND_MAX);
        if self.queue().resend(sequence, from, again).is_some_and(|refusals| refusals >= RESENDS_MAX) {
            self.give_up(sequence, refusal).await;
        }
    }

    async fn give_up(&self, sequence: Sequence, refusal: &Refusal) {
        if self.spool().give_up(sequence).await {
            let why = told(refusal);
            self.uplink.observer.note(&format!("link {sequence} is lost: {why}"));
            let lost = &self.uplink.tally.lost;
            lost.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(Lost { sequence, why });
        }
    }

    /// Once a second: says how it is, remembers the newest receipt, notices a server that does not answer or drains.
    async fn look_after(&mut self, control: &mut SendStream) -> Result<Option<End>, Stopped> {
        self.ticks = self.ticks.wrapping_add(1);
        if self.ticks.is_multiple_of(STATUS_TICKS) {
            let status = Status { clock: self.uplink.clock.now(), spool: self.spool().summary() };
            self.say(control, Control::Status(status)).await?;
        }
        if self.ticks == REQUEST_TICKS {
            self.queue().forget_stale_requests();
        }
        self.tell_progress(control).await?;
        self.remember().await;
        let (due, until) = self.queue().due();
        if let Some((deadline, away)) = self.draining
            && (due == 0 || Instant::now() >= deadline)
        {
            return Ok(Some(End::After(away)));
        }
        if until.is_some_and(|until| Instant::now() > until) {
            return Ok(Some(End::Broken("the server does not answer".to_owned())));
        }
        Ok(None)
    }

    /// A receipt that is forgotten costs nothing but what the server could have learnt from it.
    async fn remember(&mut self) {
        if let (true, Some(state), Some(receipt)) = (self.unsaved, self.uplink.state.clone(), self.last_receipt.clone())
        {
            self.unsaved = false;
            let saved = tokio::task::spawn_blocking(move || state.save_receipt(&receipt, false)).await;
            if let Ok(Err(error)) = saved {
                self.uplink.observer.note(&error.to_string());
            }
        }
    }
}

/// A connection that breaks after the server said that it will close it comes to the end that was announced.
fn as_announced(stopped: Stopped, away: Option<Duration>) -> Stopped {
    match (stopped, away) {
        (Stopped::Lost(_) | Stopped::End(End::Broken(_)), Some(away)) => End::After(away).into(),
        (stopped, _) => stopped,
    }
}

fn broken_protocol(what: &str) -> End {
    End::Fatal(Error::new(Kind::Invalid, format!("the server broke the protocol: {what}")))
}

/// A refusal for a person. The detail is the server's text.
fn told(refusal: &Refusal) -> String {
    let detail: String = refusal.detail.chars().filter(|c| !c.is_control()).collect();
    if detail.is_empty() { format!("{:?}", refusal.reason) } else { format!("{:?}: {detail}", refusal.reason) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_drains_is_left_alone_as_long_as_it_asked() {
        let away = Duration::from_secs(4);
        let after =
            |stopped| matches!(as_announced(stopped, Some(away)), Stopped::End(End::After(delay)) if delay == away);
        assert!(after(Stopped::Lost(ConnectionError::TimedOut)));
        assert!(after(End::Broken("the server ended the control stream".to_owned()).into()));
        assert!(!after(broken_protocol("nonsense").into()), "what is fatal stays so");
        let lost = as_announced(Stopped::Lost(ConnectionError::TimedOut), None);
        assert!(matches!(lost, Stopped::Lost(_)));
    }
}
