//! What is wanted before live footage: the ranges of time that the server asks for, and those around marks. Pure: it is told
//! of links that come and go, and says which are wanted and how far each request is.

use aigaq_proto::Micros;
use aigaq_proto::limits::REQUESTS_MAX;
use aigaq_proto::message::{Progress, Request};

/// Stretches of time around marks that are kept apart; of more, the earliest are forgotten. Links that were made before that
/// keep their place.
const MARKS_MAX: usize = 256;

/// How far the times of a request may move on another connection.
const MOVED_US_MAX: u64 = 5_000_000;

/// A stretch of time by the device clock, both ends included.
pub(super) type Span = (Micros, Micros);

/// What is wanted.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    requests: Vec<Wish>,
    /// Stretches around marks, by rising beginning, none touching another.
    marks: Vec<Span>,
}

#[derive(Debug)]
struct Wish {
    request: Request,
    progress: Progress,
    /// Whether the progress has changed since it was told.
    changed: bool,
    /// Whether the server has not asked for it on this connection.
    stale: bool,
}

impl Wish {
    fn wants(&self, (begin, end): Span) -> bool {
        // A link without length is at its beginning; one with length ends before its end.
        begin < self.request.to && (end > self.request.from || begin >= self.request.from)
    }

    fn count(&mut self, bytes: u64) {
        self.progress.links = self.progress.links.saturating_add(1);
        self.progress.links_left = self.progress.links_left.saturating_add(1);
        self.progress.bytes = self.progress.bytes.saturating_add(bytes);
        self.progress.bytes_left = self.progress.bytes_left.saturating_add(bytes);
        self.changed = true;
    }
}

impl Wishes {
    /// Whether a link of this time is wanted.
    pub(super) fn want(&self, span: Span) -> bool {
        self.requests.iter().any(|wish| wish.wants(span)) || self.near_a_mark(span)
    }

    /// Whether a link of this time is near a mark.
    pub(super) fn near_a_mark(&self, (begin, end): Span) -> bool {
        let after = self.marks.partition_point(|(from, _)| *from <= end);
        after.checked_sub(1).and_then(|at| self.marks.get(at)).is_some_and(|(_, to)| *to >= begin)
    }

    /// A mark wants the stretch of time around it.
    pub(super) fn mark(&mut self, span: Span) {
        let (mut from, mut to) = span;
        self.marks.retain(|(begin, end)| {
            let apart = *begin > to || *end < from;
            if !apart {
                (from, to) = (from.min(*begin), to.max(*end));
            }
            apart
        });
        let at = self.marks.partition_point(|(begin, _)| *begin < from);
        self.marks.insert(at, (from, to));
        if self.marks.len() > MARKS_MAX {
            self.marks.remove(0);
        }
    }

    /// The server asks for a range, of which `held` are the links with their payloads. What it replaces or pushes out
    /// is wanted no more. Where it asks for the same range again, what has left before still counts.
    pub(super) fn request(&mut self, request: Request, held: impl Iterator<Item = (Span, u32)>) {
        let mut progress = Progress { id: request.id, links: 0, links_left: 0, bytes: 0, bytes_left: 0 };
        let before = self.requests.iter().find(|wish| wish.request.id == request.id);
        if let Some(before) = before.filter(|before| is_same_range(&before.request, &request)) {
            progress.links = before.progress.links.saturating_sub(before.progress.links_left);
            progress.bytes = before.progress.bytes.saturating_sub(before.progress.bytes_left);
        }
        self.cancel(request.id);
        let mut wish = Wish { request, progress, changed: true, stale: false };
        for (span, bytes) in held {
            if wish.wants(span) {
                wish.count(bytes.into());
            }
        }
        self.requests.push(wish);
        if self.requests.len() > REQUESTS_MAX {
            let first = self.requests.iter().enumerate().min_by_key(|(_, wish)| wish.request.expires);
            if let Some((at, _)) = first {
                self.requests.swap_remove(at);
            }
        }
    }

    /// The server no longer wants a range. Whether it was wanted.
    pub(super) fn cancel(&mut self, id: u64) -> bool {
        let before = self.requests.len();
        self.requests.retain(|wish| wish.request.id != id);
        self.requests.len() < before
    }

    /// Forgets requests that are over. Whether there were any.
    pub(super) fn expire(&mut self, now: Micros) -> bool {
        let before = self.requests.len();
        self.requests.retain(|wish| wish.request.expires > now);
        self.requests.len() < before
    }

    /// The connection is gone: the server asks again for what it still wants.
    pub(super) fn disconnected(&mut self) {
        self.requests.iter_mut().for_each(|wish| wish.stale = true);
    }

    /// Forgets what the server did not ask for again. Whether there was anything.
    pub(super) fn forget_stale(&mut self) -> bool {
        let before = self.requests.len();
        self.requests.retain(|wish| !wish.stale);
        self.requests.len() < before
    }

    /// A link was made.
    pub(super) fn came(&mut self, span: Span, bytes: u32) {
        for wish in self.requests.iter_mut().filter(|wish| wish.wants(span)) {
            wish.count(bytes.into());
        }
    }

    /// A link left.
    pub(super) fn left(&mut self, span: Span, bytes: u32) {
        for wish in self.requests.iter_mut().filter(|wish| wish.wants(span)) {
            wish.progress.links_left = wish.progress.links_left.saturating_sub(1);
            wish.progress.bytes_left = wish.progress.bytes_left.saturating_sub(bytes.into());
            wish.changed = true;
        }
    }

    /// How far each request is, where that has changed since it was last asked.
    pub(super) fn progress(&mut self) -> Vec<Progress> {
        let asked = self.requests.iter_mut().filter(|wish| !wish.stale);
        asked.filter_map(|wish| std::mem::take(&mut wish.changed).then_some(wish.progress)).collect()
    }
}

/// Whether two requests ask for the same range. Its times move a little with the server's measure of the device's clock.
fn is_same_range(one: &Request, other: &Request) -> bool {
    one.from.abs_diff(other.from) <= MOVED_US_MAX && one.to.abs_diff(other.to) <= MOVED_US_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(id: u64, from: Micros, to: Micros, expires: Micros) -> Request {
        Request { id, from, to, expires }
    }

    fn told(wishes: &mut Wishes) -> Vec<(u64, u64, u64, u64, u64)> {
        let told = wishes.progress().into_iter();
        told.map(|told| (told.id, told.links, told.links_left, told.bytes, told.bytes_left)).collect()
    }

    #[test]
    fn a_range_wants_the_links_that_meet_it_and_no_others() {
        let mut wishes = Wishes::default();
        wishes.request(request(1, 10, 20, 99), std::iter::empty());
        for (span, wanted) in [
            ((0, 10), false),
            ((0, 11), true),
            ((10, 10), true),
            ((19, 25), true),
            ((20, 30), false),
            ((20, 20), false),
        ] {
            assert_eq!(wishes.want(span), wanted, "{span:?}");
        }
    }

    #[test]
    fn progress_counts_what_was_held_and_what_is_made_and_is_told_when_it_changes() {
        let mut wishes = Wishes::default();
        wishes.request(request(7, 10, 20, 99), [((8, 12), 100), ((30, 40), 5)].into_iter());
        assert_eq!(told(&mut wishes), [(7, 1, 1, 100, 100)]);
        assert_eq!(told(&mut wishes), []);
        wishes.came((18, 22), 50);
        wishes.came((50, 52), 50);
        wishes.left((8, 12), 100);
        assert_eq!(told(&mut wishes), [(7, 2, 1, 150, 50)]);
        wishes.left((18, 22), 50);
        assert_eq!(told(&mut wishes), [(7, 2, 0, 150, 0)]);
    }

    #[test]
    fn a_request_for_what_is_not_held_says_so() {
        let mut wishes = Wishes::default();
        wishes.request(request(1, 10, 20, 99), std::iter::empty());
        assert_eq!(told(&mut wishes), [(1, 0, 0, 0, 0)]);
    }

    #[test]
    fn a_request_ends_when_it_expires_or_is_cancelled_or_replaced() {
        let mut wishes = Wishes::default();
        wishes.request(request(1, 10, 20, 99), std::iter::empty());
        assert!(!wishes.expire(98) && wishes.want((12, 13)));
        assert!(wishes.expire(99) && !wishes.want((12, 13)) && told(&mut wishes).is_empty());
        wishes.request(request(2, 10, 20, 99), std::iter::empty());
        wishes.request(request(2, 30, 40, 99), std::iter::empty());
        assert!(!wishes.want((12, 13)) && wishes.want((32, 33)));
        assert!(wishes.cancel(2) && !wishes.cancel(2) && !wishes.want((32, 33)));
    }

    #[test]
    fn of_too_many_requests_those_that_expire_first_are_dropped() {
        let mut wishes = Wishes::default();
        (0..=REQUESTS_MAX as u64)
            .for_each(|id| wishes.request(request(id, id * 10, id * 10 + 1, 1_000 - id), std::iter::empty()));
        assert!(!wishes.want((REQUESTS_MAX as u64 * 10, REQUESTS_MAX as u64 * 10)), "the newest expires first");
        assert!(wishes.want((0, 0)) && wishes.want((630, 630)));
    }

    #[test]
    fn what_the_server_does_not_ask_for_again_is_forgotten_and_the_rest_counts_on() {
        let mut wishes = Wishes::default();
        wishes.request(request(1, 10, 20, 99), [((10, 12), 8), ((12, 14), 5)].into_iter());
        wishes.request(request(2, 30, 40, 99), std::iter::empty());
        wishes.left((10, 12), 8);
        wishes.disconnected();
        assert!(told(&mut wishes).is_empty() && wishes.want((31, 32)), "until the server had time to ask");
        wishes.request(request(1, 11, 21, 99), [((12, 14), 5)].into_iter());
        assert!(wishes.forget_stale() && !wishes.want((31, 32)));
        assert_eq!(told(&mut wishes), [(1, 2, 1, 13, 5)]);
        wishes.request(request(1, 11, 99_000_000, 99), [((12, 14), 5)].into_iter());
        assert_eq!(told(&mut wishes), [(1, 1, 1, 5, 5)], "another range begins anew");
    }

    #[test]
    fn stretches_around_marks_are_joined_and_the_earliest_forgotten() {
        let mut wishes = Wishes::default();
        wishes.mark((10, 20));
        wishes.mark((40, 50));
        assert!(wishes.want((0, 10)) && wishes.want((20, 21)) && !wishes.want((21, 39)) && wishes.want((50, 60)));
        wishes.mark((15, 45));
        assert_eq!(wishes.marks, [(10, 50)]);
        (0..MARKS_MAX as u64).for_each(|n| wishes.mark((100 + n * 10, 101 + n * 10)));
        assert!(!wishes.want((10, 50)) && wishes.want((100, 100)) && wishes.marks.len() == MARKS_MAX);
    }
}
