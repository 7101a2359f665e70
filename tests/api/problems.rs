//! Bad input, and what it gets: a problem document, never a 500, never an empty refusal.

use reqwest::Method;

use crate::rig::{Rig, TOKEN, at, problem};

#[tokio::test]
async fn bad_requests_get_a_problem() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    rig.record(&mut device, 2).await;
    let id = device.id.to_string();
    let (from, to) = (at(0), at(10));
    let other = "0".repeat(32);
    let cases = [
        ("/".to_owned(), 404),
        ("/v1".to_owned(), 404),
        ("/v1/recorders/".to_owned(), 404),
        ("/v2/recorders".to_owned(), 404),
        ("/metrics".to_owned(), 404),
        ("/v1/recorders?limit=0".to_owned(), 400),
        ("/v1/recorders?limit=1001".to_owned(), 400),
        ("/v1/recorders?limit=-1".to_owned(), 400),
        ("/v1/recorders?limit=99999999999999999999".to_owned(), 400),
        ("/v1/recorders?cursor=zz".to_owned(), 400),
        ("/v1/recorders?kind=drone".to_owned(), 400),
        ("/v1/recorders?colour=red".to_owned(), 400),
        ("/v1/recorders?limit=1&limit=2".to_owned(), 400),
        ("/v1/recorders/nonsense".to_owned(), 400),
        (format!("/v1/recorders/{}", id.to_uppercase()), 400),
        (format!("/v1/recorders/{other}"), 404),
        (format!("/v1/recorders/{other}/coverage?from={from}&to={to}"), 404),
        (format!("/v1/recorders/{id}/coverage"), 400),
        (format!("/v1/recorders/{id}/coverage?from={from}"), 400),
        (format!("/v1/recorders/{id}/coverage?from={to}&to={from}"), 400),
        (format!("/v1/recorders/{id}/coverage?from={from}&to={from}"), 400),
        (format!("/v1/recorders/{id}/coverage?from=yesterday&to={to}"), 400),
        (format!("/v1/recorders/{id}/coverage?from=2026-01-17T09:14:00%2B05:00&to={to}"), 400),
        (format!("/v1/recorders/{id}/coverage?from=2026-02-30T00:00:00Z&to={to}"), 400),
        (format!("/v1/recorders/{id}/coverage?from=1970-01-01T00:00:00Z&to=9999-12-31T00:00:00Z"), 400),
        (format!("/v1/recorders/{id}/coverage?from=1960-01-01T00:00:00Z&to={to}"), 400),
        (format!("/v1/recorders/{id}/coverage?from=-1&to=%FF"), 400),
        (format!("/v1/recorders/{other}/hls/{from}/{to}/index.m3u8"), 404),
        (format!("/v1/recorders/{id}/hls/{to}/{from}/index.m3u8"), 400),
        (format!("/v1/recorders/{id}/hls/x/{to}/index.m3u8"), 400),
        (format!("/v1/recorders/{id}/hls/{from}/2027-01-01T00:00:00Z/index.m3u8"), 400),
        (format!("/v1/recorders/{id}/hls/{from}/{to}/"), 404),
        (format!("/v1/recorders/{id}/hls/{from}/{to}/index.m3u9"), 404),
        (format!("/v1/recorders/{id}/hls/{from}/{to}/seg-99.m4s"), 404),
        (format!("/v1/recorders/{id}/hls/{from}/{to}/seg-0.m4s"), 404),
        (format!("/v1/recorders/{id}/hls/{from}/{to}/init-1.mp4"), 404),
        (format!("/v1/recorders/{id}/hls/{from}/{to}/seg-18446744073709551615.m4s"), 404),
        (format!("/v1/recorders/{id}/hls/{from}/{to}/seg-01.m4s"), 404),
        (format!("/v1/recorders/{id}/hls/{}/{}/seg-1.m4s", at(100), at(200)), 404),
        (format!("/v1/recorders/{id}/live/seg-1.mp4"), 404),
        (format!("/v1/recorders/{other}/live.m3u8"), 404),
        (format!("/v1/recorders/{id}/clip.mp4?from={from}"), 400),
        (format!("/v1/recorders/{id}/clip.mp4?from={}&to={}", at(1_000), at(2_000)), 404),
        ("/v1/log/timestamps/1".to_owned(), 404),
        ("/v1/log/timestamps/01".to_owned(), 400),
        ("/v1/log/tile/0/001".to_owned(), 404),
        ("/v1/log/tile/0/000".to_owned(), 404),
        ("/v1/log/tile/8/000.p/1".to_owned(), 404),
        ("/v1/log/tile/0/x000/000.p/1".to_owned(), 404),
        ("/v1/log/tile/0/000.p/200".to_owned(), 404),
        ("/v1/log/tile/entries/x001/000".to_owned(), 404),
        ("/v1/log/tile/entries/x999/x999/x999/x999/x999/x999/999".to_owned(), 404),
    ];
    for (path, status) in cases {
        problem(rig.get(&path).await, status, &path).await;
    }
}

#[tokio::test]
async fn path_tricks_lead_nowhere() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    rig.record(&mut device, 1).await;
    let base = format!("/v1/recorders/{}", device.id);
    let (from, to) = (at(0), at(10));
    for path in [
        format!("{base}/live/..%2f..%2f..%2fetc%2fpasswd"),
        format!("{base}/live/../../../../etc/passwd"),
        format!("{base}/live/..%5cseg-1.m4s"),
        format!("{base}/live/seg-1.m4s%00"),
        format!("{base}/live/seg-%31.m4s%2f.."),
        format!("{base}/live/%c0%ae%c0%ae"),
        format!("{base}/live/%ff"),
        format!("{base}/live/%zz"),
        format!("{base}/hls/{from}%2f..%2f/{to}/seg-1.m4s"),
        format!("{base}/hls/{from}/{to}/./seg-1.m4s"),
        format!("{base}//live.m3u8"),
        "/v1/recorders/%2e%2e/live.m3u8".to_owned(),
        "/v1/log/tile/..%2f..%2fcheckpoint".to_owned(),
        "/v1/log/tile/0/../../checkpoint".to_owned(),
    ] {
        let answer = rig
            .raw(&format!(
                "GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\nconnection: close\r\n\r\n"
            ))
            .await;
        let (head, _) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 40"), "{path}: {head}");
        assert!(head.contains("content-type: application/problem+json"), "{path}: {head}");
    }
}

#[tokio::test]
async fn everything_is_only_read() {
    let rig = Rig::start().await;
    let device = rig.officer();
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
        for path in
            ["/v1/recorders".to_owned(), format!("/v1/recorders/{}", device.id), "/v1/log/checkpoint".to_owned()]
        {
            let response = rig.ask(method.clone(), &path, &[]).await;
            assert!(response.headers()["allow"].to_str().unwrap().contains("GET"), "{path}");
            problem(response, 405, &path).await;
        }
    }
}

#[tokio::test]
async fn what_is_too_long_is_refused() {
    let rig = Rig::start().await;
    problem(rig.get(&format!("/v1/recorders?department={}", "x".repeat(3_000))).await, 414, "path").await;
    problem(rig.ask(Method::GET, "/v1/recorders", &[("content-length", "70000")]).await, 413, "body").await;
    let long = "x".repeat(200_000);
    let answer = rig.raw(&format!("GET / HTTP/1.1\r\nhost: x\r\nx: {long}\r\n\r\n")).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
}

#[tokio::test]
async fn what_is_not_http_ends_its_own_connection_alone() {
    let rig = Rig::start().await;
    for bytes in
        ["\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\r\n\r\n", "SSH-2.0-OpenSSH_9.9\r\n\r\n", "GET\r\n\r\n"]
    {
        let answer = rig.raw(bytes).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
    assert_eq!(rig.get("/v1/recorders").await.status(), 200);
}
