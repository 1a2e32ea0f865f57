//! A schema in PostgreSQL, of which nothing is left after the test.

use std::io::Write as _;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use postgres::{Client, NoTls};

/// Where the tests find a server: `postgresql://USER@HOST:PORT/DATABASE`.
const VARIABLE: &str = "DATABASE_URL";

/// Tells the schemas of this process apart.
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A schema of its own name, removed when dropped, also by a test that fails.
pub(crate) struct Schema {
    server: String,
    name: String,
}

impl Schema {
    /// `None` where no server is known, which is said on standard error itself: the test harness would keep it back.
    pub(crate) fn new(test: &str) -> Option<Self> {
        let Ok(server) = std::env::var(VARIABLE) else {
            let text = format!("{test}: left out on PostgreSQL: {VARIABLE} is not set\n");
            std::io::stderr().write_all(text.as_bytes()).unwrap();
            return None;
        };
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        let (process, number) = (std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let schema = Self {
            server,
            name: format!("umbel_test_{since:x}_{process}_{number}"),
        };
        schema.renew();
        Some(schema)
    }

    /// Empties it.
    pub(crate) fn renew(&self) {
        let name = &self.name;
        let sql = format!("DROP SCHEMA IF EXISTS {name} CASCADE; CREATE SCHEMA {name}");
        Client::connect(&self.server, NoTls)
            .unwrap()
            .batch_execute(&sql)
            .unwrap();
    }

    /// The URL whose connections see the schema.
    pub(crate) fn url(&self) -> String {
        let sign = if self.server.contains('?') { '&' } else { '?' };
        format!("{}{sign}options=-csearch_path%3D{}", self.server, self.name)
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.url(), NoTls).unwrap()
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        // A test that fails may leave a process behind that holds a lock.
        let sql = format!("SET lock_timeout = '20s'; DROP SCHEMA {} CASCADE", self.name);
        if let Ok(mut client) = Client::connect(&self.server, NoTls) {
            let _ = client.batch_execute(&sql);
        }
    }
}
