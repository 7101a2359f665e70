//! A store in a bucket: probed before anything is made, and opened after the data directory is this process's own, since opening fences
//! whoever has it.
//!
//! Refused are a bucket that is not fit, a data directory with a store of its own, whose log would begin a second history, and one
//! without the log's key beside a bucket that has a log.

use std::path::Path;
use std::sync::Arc;

use crate::clock::Clock;
use crate::config::{Config, Objects};
use crate::error::{Error, Kind, Result};
use crate::log::Identity;
use crate::store::engine::slate::bucket::Bucket;
use crate::store::engine::slate::probe::{Fit, probe};
use crate::store::engine::slate::{self, Slate};
use crate::store::{self, Store};

/// The bucket of a configuration, probed.
pub(super) struct Probed {
    objects: slate::Objects,
    bucket: Bucket,
    settings: slate::Settings,
}

fn bucket(of: &Objects) -> Bucket {
    Bucket {
        endpoint: of.endpoint.clone(),
        region: of.region.clone(),
        name: of.bucket.clone(),
        prefix: of.prefix.clone(),
        credentials: of.credentials.clone(),
        ca: of.ca.clone(),
    }
}

/// The bucket of a configuration, and what the probe finds of it.
///
/// # Errors
/// [`Kind::Invalid`] with why it must not be used, [`Kind::Busy`] when it does not answer.
pub(crate) fn fit(of: &Objects, clock: &Clock) -> Result<(String, Fit)> {
    let bucket = bucket(of);
    let fit = probe(&bucket.connect()?, &bucket.prefix, clock).map_err(|error| of_bucket(&bucket, &error))?;
    Ok((bucket.to_string(), fit))
}

fn of_bucket(bucket: &Bucket, error: &Error) -> Error {
    Error::new(error.kind(), format!("the bucket {bucket}: {error}"))
}

impl Probed {
    /// Blocks until it is known to be fit. Changes nothing but what the probe makes and removes.
    ///
    /// # Errors
    /// As [`fit`]; [`Kind::Invalid`] and [`Kind::Damaged`] for a data directory that does not belong to it.
    pub(super) fn new(config: &Config, of: &Objects, clock: &Clock) -> Result<Self> {
        let (data, bucket) = (&config.store.dir, bucket(of));
        if Store::exists(&data.join(store::DIR)) {
            let text = format!(
                "{} has a store of its own: begin with another data directory, or leave store.engine as it was",
                data.display()
            );
            return Err(Error::new(Kind::Invalid, text));
        }
        let objects = bucket.connect()?;
        let fit = probe(&objects, &bucket.prefix, clock).map_err(|error| of_bucket(&bucket, &error))?;
        tracing::info!(%bucket, races = fit.races, put_ms = fit.put.as_millis(), "the bucket keeps create-if-absent");
        if Identity::load(data)?.is_none() && Slate::exists(&objects, &bucket.prefix)? {
            let text = format!(
                "{} has not the key of the log that is in the bucket {bucket} below {}: restore it, or choose another store.s3_prefix",
                data.display(),
                bucket.prefix
            );
            return Err(Error::new(Kind::Damaged, text));
        }
        let settings = slate::Settings {
            cache_bytes: config.store.cache_bytes,
            flush_interval: of.flush_interval,
            ..slate::Settings::default()
        };
        Ok(Self { objects, bucket, settings })
    }

    /// Opens the store and fences whoever has it.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub(super) fn open(self, dir: &Path, settings: &store::Settings) -> Result<Store> {
        let engine = Slate::open(self.objects, &self.bucket.prefix, self.settings);
        let engine = engine.map_err(|error| of_bucket(&self.bucket, &error))?;
        Store::sealed_over(Arc::new(engine), dir, settings)
    }
}
