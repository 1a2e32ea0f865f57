//! What those who serve clients see of the run: written by the driver alone, and replaced as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::{oneshot, watch};
use umbel_accounting::ledger::CloseStatus;
use umbel_experiment::RoundMetrics;
use umbel_protocol::{ClientFault, ClientId, ClientMessage, RoundId, Timestamp};
use umbel_secagg::{MessageKind, RoundConfig};
use umbel_wire::aggregation::Place;
use umbel_wire::{ExpectedReport, OutgoingInvitation};

use crate::clock::Clock;
use crate::feed::LedgerFeed;

/// What the driver is asked to do. Everything that changes the run or the database goes through it, one after the other.
#[derive(Debug)]
pub(crate) enum Command {
    /// Give a client its number.
    Enrol {
        name: String,
        reply: oneshot::Sender<Option<ClientId>>,
    },
    /// A client will not take part.
    Refusal {
        client: String,
        round: u64,
        reason: String,
    },
    /// A client's message of secure aggregation has arrived. The answer comes once it is judged.
    Deliver {
        client: ClientId,
        place: Place,
        /// By the client's name.
        number: u64,
        message: Vec<u8>,
        reply: oneshot::Sender<Result<(), tonic::Status>>,
    },
    /// A client asks for the server's message of the step that an attempt is at; there is none for who has no part in it.
    Fetch {
        place: Place,
        number: u64,
        reply: oneshot::Sender<Option<Bytes>>,
    },
    /// A client's report has arrived. The answer comes once it is durable.
    Report {
        client: ClientId,
        message: ClientMessage,
        reply: oneshot::Sender<Result<(), ClientFault>>,
    },
}

/// What the run is doing.
#[derive(Debug, Clone)]
pub(crate) enum Stage {
    /// Between two rounds: the next opens then, as far as is known.
    Waiting { until: Timestamp },
    /// A round is open.
    Open(Arc<OpenStage>),
    /// No further round will open.
    Over(CloseStatus),
}

/// A round that is open for reports.
pub(crate) struct OpenStage {
    pub(crate) round: RoundId,
    pub(crate) deadline: Timestamp,
    pub(crate) invitation: OutgoingInvitation,
    pub(crate) expected: ExpectedReport,
    invited: BTreeSet<ClientId>,
    reported: Mutex<BTreeSet<ClientId>>,
    /// With secure aggregation.
    pub(crate) attempt: Option<AttemptView>,
}

/// An attempt of secure aggregation, as far as those who serve clients must know it.
pub(crate) struct AttemptView {
    pub(crate) terms: RoundConfig,
    pub(crate) step: watch::Sender<AttemptStep>,
    /// How many messages the step still waits for.
    pub(crate) n_missing: AtomicUsize,
}

/// What is collected from clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum AttemptStep {
    Advertising,
    Sharing,
    Masking,
    Confirming,
    Opening,
    Over,
}

impl AttemptStep {
    /// The step in which a message is sent or fetched.
    pub(crate) fn of(kind: MessageKind) -> Self {
        match kind {
            MessageKind::Offer | MessageKind::Advertisement => Self::Advertising,
            MessageKind::Roster | MessageKind::Shares => Self::Sharing,
            MessageKind::MaskRequest | MessageKind::MaskedInput => Self::Masking,
            MessageKind::Survivors | MessageKind::Confirmation => Self::Confirming,
            MessageKind::UnmaskRequest | MessageKind::OpenedShares => Self::Opening,
        }
    }

    /// As it stands in the log.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Advertising => "advertising",
            Self::Sharing => "sharing",
            Self::Masking => "masking",
            Self::Confirming => "confirming",
            Self::Opening => "opening",
            Self::Over => "over",
        }
    }
}

/// The run at one moment.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) stage: Stage,
    /// The first line of the ledger: what the run promises.
    pub(crate) ledger_header: Bytes,
    /// The last line of the ledger: a receipt for clients.
    pub(crate) ledger_line: Bytes,
    /// Released rounds so far.
    pub(crate) rounds: Arc<Vec<RoundMetrics>>,
    /// The server ends: whoever waits is told to come back.
    pub(crate) closing: bool,
    /// What keeps the run from going on, such as a full disk.
    pub(crate) trouble: Option<String>,
}

/// Facts that do not change while the run lasts.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) name: String,
    pub(crate) experiment: String,
    pub(crate) planned_rounds: u64,
    pub(crate) population: u64,
    pub(crate) round_millis: u64,
    pub(crate) epsilon_budget: Option<f64>,
    pub(crate) delta: f64,
    pub(crate) promise: String,
    pub(crate) dimension: usize,
}

/// What the parts of the server share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) facts: Facts,
    pub(crate) feed: LedgerFeed,
    pub(crate) view: watch::Sender<Arc<View>>,
    pub(crate) counters: crate::metrics::Counters,
    clients: Mutex<BTreeMap<String, ClientId>>,
    seen: Mutex<BTreeMap<String, Instant>>,
}

impl Shared {
    pub(crate) fn new(
        clock: Arc<dyn Clock>,
        facts: Facts,
        feed: LedgerFeed,
        view: View,
        clients: Vec<(String, ClientId)>,
    ) -> Self {
        Self {
            clock,
            facts,
            feed,
            view: watch::Sender::new(Arc::new(view)),
            counters: crate::metrics::Counters::default(),
            clients: Mutex::new(clients.into_iter().collect()),
            seen: Mutex::default(),
        }
    }

    /// The run now.
    pub(crate) fn current(&self) -> Arc<View> {
        Arc::clone(&self.view.borrow())
    }

    /// The number of a client that is enrolled.
    pub(crate) fn client(&self, name: &str) -> Option<ClientId> {
        locked(&self.clients).get(name).copied()
    }

    pub(crate) fn remember(&self, name: String, client: ClientId) {
        locked(&self.clients).insert(name, client);
    }

    pub(crate) fn n_clients(&self) -> usize {
        locked(&self.clients).len()
    }

    /// Notes that a client has just called.
    pub(crate) fn saw(&self, name: &str) {
        let mut seen = locked(&self.seen);
        match seen.get_mut(name) {
            Some(when) => *when = Instant::now(),
            None => drop(seen.insert(name.to_owned(), Instant::now())),
        }
    }

    /// Names of clients and how many seconds ago they called, in order of name.
    pub(crate) fn seen(&self) -> Vec<(String, u64)> {
        let seen = locked(&self.seen);
        let pairs = seen
            .iter()
            .map(|(name, when)| (name.clone(), when.elapsed().as_secs()));
        pairs.collect()
    }
}

impl OpenStage {
    pub(crate) fn new(
        round: RoundId,
        deadline: Timestamp,
        invitation: OutgoingInvitation,
        expected: ExpectedReport,
        invited: BTreeSet<ClientId>,
    ) -> Self {
        Self {
            round,
            deadline,
            invitation,
            expected,
            invited,
            reported: Mutex::default(),
            attempt: None,
        }
    }

    /// The same as an attempt with these terms.
    pub(crate) fn with_attempt(mut self, terms: RoundConfig) -> Self {
        self.attempt = Some(AttemptView {
            terms,
            step: watch::Sender::new(AttemptStep::Advertising),
            n_missing: AtomicUsize::new(self.invited.len()),
        });
        self
    }

    pub(crate) fn is_invited(&self, client: ClientId) -> bool {
        self.invited.contains(&client)
    }

    /// Whether whoever was invited may still come.
    fn is_joinable(&self) -> bool {
        let step = self.attempt.as_ref().map(|attempt| *attempt.step.borrow());
        step.is_none_or(|step| step == AttemptStep::Advertising)
    }

    /// Whether a report of this client is waited for.
    pub(crate) fn waits_for(&self, client: ClientId) -> bool {
        self.is_invited(client) && !self.has_reported(client) && self.is_joinable()
    }

    pub(crate) fn has_reported(&self, client: ClientId) -> bool {
        locked(&self.reported).contains(&client)
    }

    pub(crate) fn note_report(&self, client: ClientId) {
        locked(&self.reported).insert(client);
    }

    /// How many reports are still waited for: for tests that have no patience.
    #[cfg(feature = "simulated-randomness")]
    pub(crate) fn n_missing(&self) -> usize {
        self.invited.len() - locked(&self.reported).len()
    }
}

/// Who is in a cohort is not shown.
impl std::fmt::Debug for OpenStage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenStage")
            .field("round", &self.round)
            .finish_non_exhaustive()
    }
}

/// What is held by these locks is whole at every moment, so a thread that panicked left nothing half done.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
