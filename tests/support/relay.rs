//! A bad network on loopback: a UDP relay between recorders and a server.
//!
//! ```text
//! recorder ──► relay.address ──► one socket for each recorder ──► server       up
//! recorder ◄── relay.address ◄── one socket for each recorder ◄── server       down
//! ```
//!
//! Each way has its [`Weather`], which may change while datagrams are under way. Whether datagram *n* of a way is lost, doubled,
//! held back, or how much longer it takes is a function of the seed, the way and *n* alone; what depends on time (the queue of
//! a narrow path, which datagram is the *n*th) is as regular as the programs at both ends are.
//!
//! A recorder keeps its socket towards the server, as a NAT would keep its port, until [`Relay::rebind`]. The relay ends
//! when it is dropped.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Datagrams that may be under way each way; more are lost.
const UNDER_WAY_MAX: usize = 65_536;
const SOCKET_BYTES: usize = 4 << 20;

/// What happens to datagrams that go one way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weather {
    /// Share of datagrams that is lost, 0 to 1.
    pub loss: f64,
    /// Share that arrives twice.
    pub duplication: f64,
    /// Share that is held back for `hold` more, so that later ones overtake it.
    pub reordering: f64,
    pub hold: Duration,
    /// How long every datagram takes.
    pub delay: Duration,
    /// Up to so much more, evenly drawn; never so that one overtakes another.
    pub jitter: Duration,
    /// Bytes per second that the path carries, and the bytes that may wait for it; what finds no room is lost.
    pub rate: Option<u64>,
    pub queue: u64,
    /// Longest datagram that gets through, bytes.
    pub size_max: usize,
    /// Nothing gets through.
    pub blackout: bool,
}

impl Weather {
    /// Everything gets through at once.
    pub const FAIR: Self = Self {
        loss: 0.0,
        duplication: 0.0,
        reordering: 0.0,
        hold: Duration::from_millis(20),
        delay: Duration::ZERO,
        jitter: Duration::ZERO,
        rate: None,
        queue: 64 << 10,
        size_max: usize::MAX,
        blackout: false,
    };
    /// Nothing does.
    pub const BLACKOUT: Self = Self { blackout: true, ..Self::FAIR };
}

/// What went one way, in datagrams and bytes of their contents.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    pub datagrams: u64,
    pub bytes: u64,
    /// How many of the datagrams did not get through.
    pub lost: u64,
}

/// The relay. May be asked and changed at any time.
pub struct Relay {
    /// Where recorders connect.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

struct Shared {
    front: Arc<UdpSocket>,
    up: Way,
    down: Way,
    nat: Mutex<Nat>,
}

/// Which socket stands for which recorder.
struct Nat {
    server: SocketAddr,
    sockets: HashMap<SocketAddr, Arc<UdpSocket>>,
    /// One for each socket.
    readers: JoinSet<()>,
}

impl Relay {
    /// A relay to `server`, in fair weather.
    pub async fn start(server: SocketAddr, seed: u64) -> Self {
        let front = Arc::new(socket());
        let address = front.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        let mut way = |seed| {
            let (parcels, under_way) = mpsc::channel(UNDER_WAY_MAX);
            tasks.spawn(deliver(under_way));
            Way { lane: Mutex::new(Lane::new(seed)), parcels }
        };
        let (up, down) = (way(mix(seed)), way(mix(!seed)));
        let nat = Mutex::new(Nat { server, sockets: HashMap::new(), readers: JoinSet::new() });
        let shared = Arc::new(Shared { front, up, down, nat });
        tasks.spawn(from_recorders(Arc::clone(&shared)));
        Self { address, shared, _tasks: tasks }
    }

    /// The weather from now on, both ways.
    pub fn set(&self, weather: Weather) {
        self.set_up(weather);
        self.set_down(weather);
    }

    /// The weather from recorders to the server.
    pub fn set_up(&self, weather: Weather) {
        self.shared.up.lane.lock().unwrap().weather = weather;
    }

    /// The weather from the server to recorders.
    pub fn set_down(&self, weather: Weather) {
        self.shared.down.lane.lock().unwrap().weather = weather;
    }

    /// Every recorder comes from another port from now on, and what the server sends to the old ones is lost.
    pub fn rebind(&self) {
        let mut nat = self.shared.nat.lock().unwrap();
        nat.sockets.clear();
        nat.readers.abort_all();
    }

    /// Another server from now on.
    pub fn aim(&self, server: SocketAddr) {
        self.shared.nat.lock().unwrap().server = server;
        self.rebind();
    }

    /// What came from recorders.
    pub fn up(&self) -> Count {
        self.shared.up.lane.lock().unwrap().count
    }

    /// What came from the server.
    pub fn down(&self) -> Count {
        self.shared.down.lane.lock().unwrap().count
    }
}

/// One way: what is decided now, and what is under way.
struct Way {
    lane: Mutex<Lane>,
    parcels: mpsc::Sender<Parcel>,
}

impl Way {
    fn send(&self, bytes: &[u8], socket: &Arc<UdpSocket>, to: Option<SocketAddr>) {
        let (number, arrivals) = self.lane.lock().unwrap().judge(bytes.len(), Instant::now());
        for at in arrivals.into_iter().flatten() {
            let parcel = Parcel { at, number, bytes: bytes.to_vec(), socket: Arc::clone(socket), to };
            let _ = self.parcels.try_send(parcel);
        }
    }
}

struct Lane {
    weather: Weather,
    seed: u64,
    count: Count,
    /// When the narrow path is free again.
    free: Instant,
    /// When the datagram before arrives.
    arrival: Instant,
}

impl Lane {
    fn new(seed: u64) -> Self {
        let now = Instant::now();
        Self { weather: Weather::FAIR, seed, count: Count::default(), free: now, arrival: now }
    }

    /// The number of a datagram, and when it arrives: never, once, or twice.
    fn judge(&mut self, length: usize, now: Instant) -> (u64, [Option<Instant>; 2]) {
        let weather = self.weather;
        let number = self.count.datagrams;
        self.count.datagrams += 1;
        self.count.bytes += length as u64;
        // One draw for each question, whatever the weather, so that a change of one leaves the others as they were.
        let draw = |question: u64| (mix(self.seed ^ mix(number * 8 + question)) >> 11) as f64 / (1_u64 << 53) as f64;
        let [lost, doubled, held, longer] = [draw(0), draw(1), draw(2), draw(3)];
        let carried = if weather.blackout || length > weather.size_max || lost < weather.loss {
            None
        } else {
            self.carry(length as u64, now)
        };
        let Some(carried) = carried else {
            self.count.lost += 1;
            return (number, [None, None]);
        };
        let mut at = (carried + weather.delay + weather.jitter.mul_f64(longer)).max(self.arrival);
        if held < weather.reordering {
            at += weather.hold;
        } else {
            self.arrival = at;
        }
        (number, [Some(at), (doubled < weather.duplication).then_some(at)])
    }

    /// When a datagram is through the narrow path; `None` if its queue is full.
    fn carry(&mut self, length: u64, now: Instant) -> Option<Instant> {
        let Some(rate) = self.weather.rate else { return Some(now) };
        let begin = self.free.max(now);
        let waiting = (begin - now).as_secs_f64() * rate as f64;
        if waiting + length as f64 > self.weather.queue as f64 {
            return None;
        }
        self.free = begin + Duration::from_secs_f64(length as f64 / rate as f64);
        Some(self.free)
    }
}

/// A datagram under way.
struct Parcel {
    at: Instant,
    number: u64,
    bytes: Vec<u8>,
    socket: Arc<UdpSocket>,
    /// `None` where the socket is connected.
    to: Option<SocketAddr>,
}

impl Parcel {
    async fn arrive(self) {
        // That nobody listens there is what happens to datagrams.
        let _ = match self.to {
            Some(to) => self.socket.send_to(&self.bytes, to).await,
            None => self.socket.send(&self.bytes).await,
        };
    }
}

impl PartialEq for Parcel {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}

impl Eq for Parcel {}

impl PartialOrd for Parcel {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Parcel {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// Lets every datagram arrive at its time.
async fn deliver(mut parcels: mpsc::Receiver<Parcel>) {
    let mut under_way = BinaryHeap::new();
    loop {
        let next = under_way.peek().map(|Reverse(parcel): &Reverse<Parcel>| parcel.at);
        match next {
            Some(at) if at <= Instant::now() => {
                if let Some(Reverse(parcel)) = under_way.pop() {
                    parcel.arrive().await;
                }
            }
            Some(at) => tokio::select! {
                parcel = parcels.recv() => match parcel {
                    Some(parcel) => under_way.push(Reverse(parcel)),
                    None => return,
                },
                () = tokio::time::sleep_until(at) => {}
            },
            None => match parcels.recv().await {
                Some(parcel) => under_way.push(Reverse(parcel)),
                None => return,
            },
        }
    }
}

async fn from_recorders(shared: Arc<Shared>) {
    let mut buffer = vec![0; 65_536];
    loop {
        // A recorder that is gone shows as an error of the next receive.
        let Ok((length, from)) = shared.front.recv_from(&mut buffer).await else { continue };
        let socket = {
            let mut nat = shared.nat.lock().unwrap();
            while nat.readers.try_join_next().is_some() {}
            match nat.sockets.get(&from) {
                Some(socket) => Arc::clone(socket),
                None => {
                    let back = Arc::new(connected(nat.server));
                    nat.sockets.insert(from, Arc::clone(&back));
                    nat.readers.spawn(from_server(Arc::clone(&shared), Arc::clone(&back), from));
                    back
                }
            }
        };
        shared.up.send(&buffer[..length], &socket, None);
    }
}

async fn from_server(shared: Arc<Shared>, socket: Arc<UdpSocket>, to: SocketAddr) {
    let mut buffer = vec![0; 65_536];
    loop {
        let Ok(length) = socket.recv(&mut buffer).await else { continue };
        shared.down.send(&buffer[..length], &shared.front, Some(to));
    }
}

fn connected(server: SocketAddr) -> UdpSocket {
    let back = socket();
    socket2::SockRef::from(&back).connect(&server.into()).unwrap();
    back
}

/// A socket whose buffers lose nothing that this relay did not mean to lose.
fn socket() -> UdpSocket {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).unwrap();
    socket.set_recv_buffer_size(SOCKET_BYTES).unwrap();
    socket.set_send_buffer_size(SOCKET_BYTES).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    UdpSocket::from_std(socket.into()).unwrap()
}

/// SplitMix64: every bit of the result depends on every bit of `n`.
fn mix(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}
