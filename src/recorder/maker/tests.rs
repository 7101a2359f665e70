//! What the maker promises, without a network: the links are looked up in the spool.

use std::path::Path;

use aigaq_proto::message::ChainEnd;
use aigaq_proto::signature::SigningKey;
use aigaq_proto::{Digest, LinkHeader, RecorderId};
use tokio::sync::oneshot;

use super::super::resume::Memory;
use super::*;

const AT: Micros = 1_768_641_242_000_000;
const SECOND: u64 = 1_000_000;
const ID: RecorderId = RecorderId([7; 16]);

struct Silent;
impl Observer for Silent {}

/// A device with its spool in `dir`, a clock that can be set, and ways to its maker.
struct Rig {
    spool: Arc<Spool>,
    clock: Clock,
    stop: CancellationToken,
    commands: mpsc::Sender<Command>,
    greeting: watch::Sender<Option<Greeting>>,
    items: mpsc::Sender<Result<Item>>,
    feed: Option<Items>,
    maker: Maker,
}

fn identity() -> Arc<Identity> {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let key = SigningKey::from_pkcs8(&pair.serialize_der()).unwrap();
    Arc::new(Identity::for_tests(ID, key))
}

fn rig(dir: &Path, bytes: u64, pace: Pace, start: Option<Micros>) -> Rig {
    let clock = Clock::fixed(AT);
    let (spool, last) = Spool::open(dir, &dir.join("departed"), ID, bytes, clock.clone()).unwrap();
    let (spool, stop) = (Arc::new(spool), CancellationToken::new());
    let (greeting, greeted) = watch::channel(None);
    let (commands, inbox) = super::super::control::channel();
    let (items, feed) = mpsc::channel(64);
    let maker = Maker::new(Setup {
        identity: identity(),
        spool: spool.clone(),
        memory: Memory::of(last, None),
        greeted,
        start,
        pace,
        track: None,
        clock: clock.clone(),
        device: Device::default(),
        mark: None,
        inbox,
        stop: stop.clone(),
        observer: Arc::new(Silent),
    });
    Rig { spool, clock, stop, commands, greeting, items, feed: Some(feed), maker }
}

fn greeting(newest: Option<ChainEnd>, reserved: Option<Sequence>) -> Greeting {
    let durable = newest.map(|end| SequenceRange { first: 0, last: end.sequence }).into_iter().collect();
    Greeting { newest, reserved, durable, payload_bytes_max: PAYLOAD_BYTES_MAX }
}

fn init() -> Item {
    Item::Init { bytes: Bytes::from_static(b"init"), codecs: "avc1.64001f".to_owned() }
}

fn media(second: u64, bytes: usize) -> Item {
    let bytes = Bytes::from(vec![7; bytes]);
    Item::Segment(Segment { bytes, decode_time_us: second * SECOND, duration_us: SECOND, independent: true })
}

impl Rig {
    async fn give(&self, items: impl IntoIterator<Item = Item>) {
        for item in items {
            self.items.send(Ok(item)).await.unwrap();
        }
    }

    /// Runs the maker over what it was given, to its end.
    async fn run(mut self) -> (Arc<Spool>, Result<Made>) {
        let feed = self.feed.take();
        drop(self.items);
        let run = self.maker.run(feed).await;
        (self.spool, run.map(|()| self.maker.made()))
    }
}

/// What is in the spool: the headers, by rising sequence.
async fn headers(spool: &Spool) -> Vec<LinkHeader> {
    let mut headers = Vec::new();
    for range in spool.summary().waiting {
        for sequence in range.first..=range.last {
            let link = spool.load(sequence).await.unwrap().unwrap();
            headers.push(LinkHeader::decode(&link.prelude[3..link.prelude.len() - 64]).unwrap());
        }
    }
    headers
}

async fn contents(spool: &Spool) -> Vec<Content> {
    headers(spool).await.into_iter().map(|header| header.content).collect()
}

fn is_media(content: &Content) -> bool {
    matches!(content, Content::Media { .. })
}

#[tokio::test]
async fn a_recorder_without_state_waits_for_the_server_and_one_with_its_own_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let one = rig(dir.path(), 1 << 20, Pace::Fast, Some(AT));
    one.give([init(), media(0, 9)]).await;
    one.greeting.send_replace(Some(greeting(None, None)));
    let (spool, made) = one.run().await;
    assert_eq!((made.unwrap().links, headers(&spool).await.len()), (3, 3));
    drop(spool);
    let again = rig(dir.path(), 1 << 20, Pace::Fast, Some(AT));
    again.give([init(), media(0, 9)]).await;
    let (spool, made) = again.run().await;
    assert_eq!(made.unwrap().sequences, Some((3, 5)));
    let headers = headers(&spool).await;
    assert!(headers.windows(2).all(|pair| {
        let encoded = pair[0].encode().unwrap();
        pair[1].previous == aigaq_proto::link::digest(&encoded)
    }));
    assert_eq!(headers[5].content, Content::Stop { recording: 3, cause: StopCause::SourceEnded });
    assert!(matches!(headers[4].content, Content::Media { recording: 3, ordinal: 1, .. }));
}

#[tokio::test]
async fn a_recorder_without_state_is_stopped_before_it_makes_anything() {
    let dir = tempfile::tempdir().unwrap();
    let rig = rig(dir.path(), 1 << 20, Pace::Fast, None);
    rig.give([init(), media(0, 9)]).await;
    rig.stop.cancel();
    let (spool, made) = rig.run().await;
    assert_eq!((made.unwrap().links, spool.queue().held().links), (0, 0));
}

#[tokio::test]
async fn a_recording_that_was_cut_off_is_ended_where_it_ended() {
    let dir = tempfile::tempdir().unwrap();
    let mut one = rig(dir.path(), 1 << 20, Pace::Fast, Some(AT));
    one.greeting.send_replace(Some(greeting(None, None)));
    one.give([init(), media(0, 9), media(1, 9)]).await;
    let feed = one.feed.take();
    {
        let mut run = std::pin::pin!(one.maker.run(feed));
        while one.spool.queue().held().links < 3 {
            tokio::select! { biased; _ = &mut run => {}, () = tokio::task::yield_now() => {} }
        }
    }
    drop(one);
    let (spool, made) = rig(dir.path(), 1 << 20, Pace::Fast, None).run().await;
    assert_eq!(made.unwrap().links, 1);
    let last = headers(&spool).await.pop().unwrap();
    assert_eq!(last.content, Content::Stop { recording: 0, cause: StopCause::Fault });
    assert_eq!(last.captured_at, AT + 2 * SECOND);
}

#[tokio::test]
async fn a_copy_of_the_state_goes_on_after_all_that_the_server_heard_of_and_names_what_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let (here, copy) = (dir.path().join("here"), dir.path().join("copy"));
    let one = rig(&here, 1 << 20, Pace::Fast, Some(AT));
    one.greeting.send_replace(Some(greeting(None, None)));
    one.give([init(), media(0, 9)]).await;
    let (spool, _) = one.run().await;
    let digest = spool.load(2).await.unwrap().unwrap().digest;
    std::fs::create_dir(&copy).unwrap();
    for entry in std::fs::read_dir(&here).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
    }
    let restored = rig(&copy, 1 << 20, Pace::Fast, Some(AT));
    // Links 0 to 1 are durable; the server has heard of 7.
    let newest = ChainEnd { sequence: 1, digest: Digest([9; 32]) };
    restored.greeting.send_replace(Some(greeting(Some(newest), Some(7))));
    restored.give([init(), media(0, 9)]).await;
    let (spool, made) = restored.run().await;
    assert_eq!(made.unwrap().sequences, Some((8, 11)));
    let headers = headers(&spool).await;
    let lost = &headers[3];
    assert_eq!((lost.sequence, lost.previous), (8, digest));
    assert!(matches!(lost.content, Content::Lost { first: 3, last: 7, cause: LossCause::Restored, .. }), "{lost:?}");
    assert!(matches!(headers[5].content, Content::Media { ordinal: 8, .. }));
}

#[tokio::test]
async fn a_server_that_has_heard_of_more_than_the_recorder_made_is_believed() {
    let dir = tempfile::tempdir().unwrap();
    let one = rig(dir.path(), 1 << 20, Pace::Fast, Some(AT));
    one.greeting.send_replace(Some(greeting(None, None)));
    one.give([init(), media(0, 9)]).await;
    drop(one.run().await);
    let mut two = rig(dir.path(), 1 << 20, Pace::Fast, Some(AT));
    two.give([init(), media(0, 9)]).await;
    let (feed, spool) = (two.feed.take(), two.spool.clone());
    let news = async {
        while spool.queue().held().links < 5 {
            tokio::task::yield_now().await;
        }
        two.greeting.send_replace(Some(greeting(Some(ChainEnd { sequence: 20, digest: Digest([9; 32]) }), Some(22))));
        while spool.queue().facts(23).is_none() {
            tokio::task::yield_now().await;
        }
        two.stop.cancel();
    };
    let (run, ()) = tokio::join!(two.maker.run(feed), news);
    run.unwrap();
    let last = headers(&spool).await;
    let stop = last.iter().find(|header| header.sequence == 5).unwrap();
    assert!(matches!(stop.content, Content::Stop { cause: StopCause::Fault, .. }), "{stop:?}");
    let lost = last.iter().find(|header| header.sequence == 23).unwrap();
    assert!(matches!(lost.content, Content::Lost { first: 21, last: 22, .. }), "{lost:?}");
    assert_eq!(lost.previous, Digest([9; 32]));
}

#[tokio::test]
async fn what_does_not_read_back_is_named_and_goes() {
    let dir = tempfile::tempdir().unwrap();
    let one = rig(dir.path(), 1 << 20, Pace::Fast, Some(AT));
    one.greeting.send_replace(Some(greeting(None, None)));
    one.give([init(), media(0, 9), media(1, 9), media(2, 9)]).await;
    let (spool, _) = one.run().await;
    for sequence in [1, 2] {
        let path = dir.path().join(
            std::fs::read_dir(dir.path())
                .unwrap()
                .map(|entry| entry.unwrap().file_name())
                .find(|name| name.to_str().unwrap().starts_with(&format!("{sequence:016x}")))
                .unwrap(),
        );
        std::fs::File::options().write(true).open(path).unwrap().set_len(50).unwrap();
    }
    drop(spool);
    let (spool, made) = rig(dir.path(), 1 << 20, Pace::Fast, None).run().await;
    let made = made.unwrap();
    assert_eq!((made.links, made.lost), (1, 2));
    let expected = Content::Lost { first: 1, last: 2, from: AT, to: AT + 2 * SECOND, cause: LossCause::StorageFault };
    assert!(contents(&spool).await.contains(&expected));
    assert_eq!(spool.summary().waiting[0], SequenceRange { first: 0, last: 0 });
}

/// Deletes the file of a link, as somebody with the card in their hand could.
fn delete(spool: &Path, sequence: Sequence) {
    let names = std::fs::read_dir(spool).unwrap().map(|entry| entry.unwrap());
    let name = |name: &std::fs::DirEntry| name.file_name().to_str().unwrap().starts_with(&format!("{sequence:016x}-"));
    std::fs::remove_file(names.into_iter().find(name).unwrap().path()).unwrap();
}

#[tokio::test]
async fn what_is_gone_is_named_when_the_server_has_not_got_it_either_and_only_once() {
    let dir = tempfile::tempdir().unwrap();
    let one = rig(dir.path(), 1 << 20, Pace::Fast, Some(AT));
    one.greeting.send_replace(Some(greeting(None, None)));
    one.give([init(), media(0, 9), media(1, 9), media(2, 9), media(3, 9)]).await;
    let (spool, _) = one.run().await;
    // Link 1 gets its receipt. Of 3 the receipt came as the power went, so that nothing of it was written down.
    spool.settle(1).await.unwrap();
    drop(spool);
    for sequence in [2, 3] {
        delete(dir.path(), sequence);
    }
    let durable = vec![SequenceRange { first: 1, last: 1 }, SequenceRange { first: 3, last: 3 }];
    let has = Greeting { durable, ..greeting(Some(ChainEnd { sequence: 3, digest: Digest([9; 32]) }), Some(5)) };
    let again = rig(dir.path(), 1 << 20, Pace::Fast, Some(AT));
    again.greeting.send_replace(Some(has.clone()));
    let (spool, made) = again.run().await;
    assert_eq!(made.unwrap().lost, 1);
    let (from, to) = (AT, AT + 3 * SECOND);
    let expected = Content::Lost { first: 2, last: 2, from, to, cause: LossCause::StorageFault };
    let lost = |contents: Vec<Content>| contents.into_iter().filter(|content| matches!(content, Content::Lost { .. }));
    assert_eq!(lost(contents(&spool).await).collect::<Vec<_>>(), [expected]);
    drop(spool);
    let third = rig(dir.path(), 1 << 20, Pace::Fast, Some(AT));
    third.greeting.send_replace(Some(has));
    let (spool, made) = third.run().await;
    assert_eq!((made.unwrap().lost, lost(contents(&spool).await).count()), (0, 1));
}

#[tokio::test]
async fn a_link_with_a_receipt_is_not_called_lost_by_a_server_that_has_lost_it() {
    let dir = tempfile::tempdir().unwrap();
    let one = rig(dir.path(), 1 << 20, Pace::Fast, Some(AT));
    one.greeting.send_replace(Some(greeting(None, None)));
    one.give([init(), media(0, 9), media(1, 9)]).await;
    let (spool, _) = one.run().await;
    spool.settle(1).await.unwrap();
    drop(spool);
    let again = rig(dir.path(), 1 << 20, Pace::Fast, Some(AT));
    again.greeting.send_replace(Some(greeting(None, None)));
    let (_, made) = again.run().await;
    assert_eq!(made.unwrap().lost, 0);
}

#[tokio::test(start_paused = true)]
async fn a_live_source_takes_the_room_of_the_oldest_footage_and_says_so_and_a_mark_keeps_what_is_near() {
    let dir = tempfile::tempdir().unwrap();
    let mut live = rig(dir.path(), 6 << 20, Pace::RealTime, Some(AT));
    live.greeting.send_replace(Some(greeting(None, None)));
    let feed = live.feed.take();
    let (items, commands, spool) = (live.items.clone(), live.commands.clone(), live.spool.clone());
    let feeding = async move {
        items.send(Ok(init())).await.unwrap();
        for second in 0..600 {
            if second == 300 {
                commands
                    .send(Command::unanswered(Order::Mark { category: "insult".into(), note: String::new() }))
                    .await
                    .unwrap();
            }
            items.send(Ok(media(second, 20_000))).await.unwrap();
        }
    };
    drop(live.items);
    let (run, ()) = tokio::join!(live.maker.run(feed), feeding);
    run.unwrap();
    let made = live.maker.made();
    assert!(made.fault.is_none() && made.lost > 100, "{made:?}");
    let headers = headers(&spool).await;
    let named: u64 = headers
        .iter()
        .filter_map(|header| match header.content {
            Content::Lost { first, last, from, to, cause: LossCause::StorageFull } => {
                assert!(from < to && last < header.sequence);
                Some(last - first + 1)
            }
            _ => None,
        })
        .sum();
    assert_eq!(named, made.lost, "every link that went is named, once");
    assert_eq!(headers.len() as u64 + named, made.links);
    let mark = headers.iter().find(|header| matches!(header.content, Content::Mark { .. })).unwrap().captured_at;
    let near =
        headers.iter().filter(|header| is_media(&header.content) && header.captured_at.abs_diff(mark) < 10 * SECOND);
    assert!(near.count() >= 19, "the footage around the mark");
    assert!(headers.iter().any(|header| matches!(header.content, Content::Start { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_spool_full_of_what_must_stay_ends_the_recording() {
    let dir = tempfile::tempdir().unwrap();
    let mut live = rig(dir.path(), 1 << 20, Pace::RealTime, Some(AT));
    live.greeting.send_replace(Some(greeting(None, None)));
    live.give([init()].into_iter().chain((0..60).map(|second| media(second, 40_000)))).await;
    live.maker.setup.mark = Some("emergency".into());
    let (spool, made) = live.run().await;
    let made = made.unwrap();
    assert_eq!(made.fault.map(|fault| fault.kind()), Some(Kind::StorageFull));
    assert_eq!(made.lost, 0, "all of it is near the mark");
    let stop = contents(&spool).await.pop().unwrap();
    assert!(matches!(stop, Content::Stop { cause: StopCause::StorageFull, .. }), "{stop:?}");
}

#[tokio::test]
async fn a_source_that_can_wait_does_until_a_receipt_makes_room() {
    let dir = tempfile::tempdir().unwrap();
    let mut fast = rig(dir.path(), 1 << 20, Pace::Fast, Some(AT));
    fast.greeting.send_replace(Some(greeting(None, None)));
    fast.give([init()].into_iter().chain((0..40).map(|second| media(second, 40_000)))).await;
    let (feed, spool) = (fast.feed.take(), fast.spool.clone());
    drop(fast.items);
    let receipts = async {
        while spool.queue().held().links < 20 {
            tokio::task::yield_now().await;
        }
        for sequence in 0..30 {
            while spool.settle(sequence).await.is_none() {
                tokio::task::yield_now().await;
            }
        }
    };
    let (run, ()) = tokio::join!(fast.maker.run(feed), receipts);
    run.unwrap();
    let made = fast.maker.made();
    assert_eq!((made.links, made.lost, spool.queue().held().links), (42, 0, 12));
}

#[tokio::test(start_paused = true)]
async fn a_recording_says_how_the_device_is_every_half_minute_and_follows_its_clock() {
    let dir = tempfile::tempdir().unwrap();
    let mut live = rig(dir.path(), 1 << 20, Pace::RealTime, None);
    live.greeting.send_replace(Some(greeting(None, None)));
    let (feed, items, clock, spool) = (live.feed.take(), live.items.clone(), live.clock.clone(), live.spool.clone());
    drop(live.items);
    const HOUR: u64 = 3600 * SECOND;
    let feeding = async move {
        items.send(Ok(init())).await.unwrap();
        for second in 0..100 {
            // The clock goes on with the time, and is an hour behind from the 50th second on.
            let behind = if second < 50 { 0 } else { HOUR };
            clock.set(AT + second * SECOND - behind);
            items.send(Ok(media(second, 9))).await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let (run, ()) = tokio::join!(live.maker.run(feed), feeding);
    run.unwrap();
    let headers = headers(&spool).await;
    let of = |wanted: fn(&Content) -> bool| headers.iter().filter(move |header| wanted(&header.content));
    let health: Vec<_> = of(|content| matches!(content, Content::Health { .. })).collect();
    assert_eq!(health.len(), 3);
    assert!(
        matches!(health[0].content, Content::Health { battery_percent: 100, backlog_bytes: 1.., .. }),
        "{:?}",
        health[0]
    );
    let steps: Vec<_> = of(|content| matches!(content, Content::ClockStep { .. })).collect();
    assert_eq!(steps.len(), 1, "{steps:?}");
    let Content::ClockStep { before, after } = steps[0].content else { panic!() };
    assert!((before - after).abs_diff(HOUR) <= SECOND, "{before} {after}");
    let times: Vec<_> = of(is_media).map(|header| header.captured_at).collect();
    assert_eq!(times.len(), 100, "it is never silent");
    let jumps: Vec<_> = times.windows(2).filter(|pair| pair[1] != pair[0] + SECOND).collect();
    assert_eq!(jumps.len(), 1);
    assert!((jumps[0][0] + SECOND - jumps[0][1]).abs_diff(HOUR) <= SECOND);
}

#[tokio::test(start_paused = true)]
async fn marks_are_durable_before_they_are_answered_and_a_stop_has_its_cause() {
    let dir = tempfile::tempdir().unwrap();
    let mut live = rig(dir.path(), 1 << 20, Pace::RealTime, None);
    live.greeting.send_replace(Some(greeting(None, None)));
    live.maker.setup.mark = Some("traffic-stop".into());
    live.give([init(), media(0, 9)]).await;
    let (feed, commands, spool) = (live.feed.take(), live.commands.clone(), live.spool.clone());
    let asking = async {
        let ask = async |order| {
            let (answer, answered) = oneshot::channel();
            commands.send(Command { order, answer }).await.unwrap();
            answered.await.unwrap()
        };
        while spool.queue().held().links < 3 {
            tokio::task::yield_now().await;
        }
        let mark = |category: &str| Order::Mark { category: category.into(), note: "at the car".into() };
        let raised = ask(mark("bribe-attempt")).await;
        let sequence = raised.strip_prefix("ok ").unwrap().parse().unwrap();
        assert!(spool.load(sequence).await.unwrap().is_some());
        assert!(ask(mark("\u{7}")).await.starts_with("error"));
        assert!(ask(Order::Status).await.starts_with("ok recording=true"));
        assert_eq!(ask(Order::Stop(StopCause::Battery)).await, "ok");
    };
    let (run, ()) = tokio::join!(live.maker.run(feed), asking);
    run.unwrap();
    let contents = contents(&spool).await;
    let marks = contents.iter().filter_map(|content| match content {
        Content::Mark { category, before_s: 30, after_s: 120, .. } => Some(category.as_str()),
        _ => None,
    });
    assert_eq!(marks.collect::<Vec<_>>(), ["traffic-stop", "bribe-attempt"]);
    assert_eq!(contents.last(), Some(&Content::Stop { recording: 0, cause: StopCause::Battery }));
}

#[tokio::test]
async fn a_source_that_gives_nothing_but_a_fault_is_an_error_and_a_later_fault_is_part_of_what_was_made() {
    let dir = tempfile::tempdir().unwrap();
    let fault = || Error::new(Kind::Invalid, "broken");
    let nothing = rig(dir.path(), 1 << 20, Pace::Fast, None);
    nothing.items.send(Err(fault())).await.unwrap();
    assert_eq!(nothing.run().await.1.unwrap_err().kind(), Kind::Invalid);
    let some = rig(dir.path(), 1 << 20, Pace::Fast, None);
    some.greeting.send_replace(Some(greeting(None, None)));
    some.give([init(), media(0, 9)]).await;
    some.items.send(Err(fault())).await.unwrap();
    let (spool, made) = some.run().await;
    assert_eq!(made.unwrap().fault.unwrap().kind(), Kind::Invalid);
    assert_eq!(contents(&spool).await.pop(), Some(Content::Stop { recording: 0, cause: StopCause::Fault }));
}

#[test]
fn a_segment_that_the_server_does_not_take_is_a_fault_that_says_what_to_do() {
    let segment = Segment { bytes: Bytes::from(vec![7; 10]), decode_time_us: 0, duration_us: 1, independent: true };
    assert!(fits(&segment, 10).is_ok());
    assert!(fits(&segment, 9).unwrap_err().context().contains("-frag_duration"));
    let init = Bytes::from(vec![0; 1_048_577]);
    assert!(fits_init(&init.slice(1..), 33_554_432).is_ok());
    assert!(fits_init(&init.slice(1..), 65_536).unwrap_err().context().contains("takes 65536"));
    assert!(fits_init(&init, 33_554_432).unwrap_err().context().contains("takes 1048576"));
}

#[tokio::test]
async fn naming_what_does_not_read_back_waits_for_the_server_s_first_word_and_the_uplink_goes_on_meanwhile() {
    let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = rig(dir.path(), 1 << 20, Pace::Fast, None);
    first.greeting.send_replace(Some(greeting(None, None)));
    first.give([init(), media(0, 500), media(1, 500)]).await;
    first.run().await.1.unwrap();
    for entry in std::fs::read_dir(dir.path()).unwrap().map(Result::unwrap) {
        let bytes = std::fs::read(entry.path()).unwrap();
        let name = entry.file_name();
        let cut = name.to_str().unwrap().starts_with("0000000000000001-");
        std::fs::write(copy.path().join(name), &bytes[..bytes.len() - usize::from(cut)]).unwrap();
    }
    let mut rig = rig(copy.path(), 1 << 20, Pace::Fast, None);
    rig.maker.run(None).await.unwrap();
    let (spool, says) = (rig.spool.clone(), rig.greeting);
    let uplink = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        says.send_replace(Some(greeting(None, None)));
        while spool.queue().facts(1).is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    };
    let uplink = std::pin::pin!(uplink);
    let brought = super::super::run::bring_in(uplink, &rig.spool, &mut rig.maker);
    tokio::time::timeout(Duration::from_secs(5), brought).await.expect("it waits for ever").unwrap();
}

#[tokio::test]
async fn who_asks_while_the_rest_is_brought_in_gets_an_answer() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = rig(dir.path(), 1 << 20, Pace::Fast, None);
    let ask = async |order| {
        let (answer, answered) = oneshot::channel();
        rig.commands.send(Command { order, answer }).await.unwrap();
        answered.await.unwrap()
    };
    let uplink = std::pin::pin!(async {
        assert!(ask(Order::Status).await.starts_with("ok recording=false"));
        assert_eq!(ask(Order::Stop(StopCause::Wearer)).await, "error the recording has ended");
        Ok(())
    });
    let brought = super::super::run::bring_in(uplink, &rig.spool, &mut rig.maker);
    tokio::time::timeout(Duration::from_secs(5), brought).await.expect("nobody answers").unwrap();
}

#[tokio::test]
async fn a_recorder_that_was_cut_off_with_a_full_spool_makes_room_for_saying_so() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = rig(dir.path(), 1 << 20, Pace::Fast, None);
    first.greeting.send_replace(Some(greeting(None, None)));
    first.give((0..60).map(|second| if second == 0 { init() } else { media(second, 5000) })).await;
    // It is cut off in the middle of the recording.
    let feed = first.feed.take();
    let cut = tokio::time::timeout(Duration::from_secs(2), first.maker.run(feed)).await;
    assert!(cut.is_err() && first.spool.queue().held().links > 2);
    let less = first.spool.queue().held().links as u64 * 6000;
    drop(first);
    let (spool, made) = rig(dir.path(), less, Pace::RealTime, None).run().await;
    made.unwrap();
    let said = contents(&spool).await;
    assert!(matches!(said.last(), Some(Content::Stop { cause: StopCause::Fault, .. })), "{said:?}");
    assert!(said.iter().any(|content| matches!(content, Content::Lost { cause: LossCause::StorageFull, .. })));
}
