//! HTTP in general: the listener, its limits and its TLS, shared by everything here that speaks it.
//!
//! Promises: a connection costs a permit, of which no source gets all, and has a deadline for everything; handshakes have a rate; TLS is
//! 1.3 alone, without tickets and early data; certificates are replaced while they serve;
//! the address and the certificates of the peer reach the handlers as request extensions ([`Source`], [`Certificates`]) and from
//! nowhere else. Knows no route and no other room.

mod certificate;
mod client;
mod limits;
mod rate;
mod serve;
mod tls;
mod traffic;

use std::net::IpAddr;
use std::sync::Arc;

use rustls_pki_types::CertificateDer;

pub use certificate::{Certificate, Files};
pub use client::Client;
pub use limits::{Limits, network};
pub use rate::{Rate, Rates};
pub use serve::{serve, serve_within};
pub use tls::{with_clients, without_clients};

/// Says of a response, as an extension, that its body has no end: it is followed, and between its parts there is nothing to read.
#[derive(Debug, Clone, Copy)]
pub struct Followed;

/// Where a request came from, without the port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source(pub IpAddr);

/// The certificates that the client showed and that TLS has verified, leaf first; absent where it showed none.
#[derive(Debug, Clone)]
pub struct Certificates(pub Arc<[CertificateDer<'static>]>);
